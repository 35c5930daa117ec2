//! What each target does with its input. `tests/fuzz_corpus.rs` does the same with the committed inputs.

#![allow(dead_code, unused_imports, reason = "a target uses one of these")]

mod check;
mod text;
mod wire;

pub(crate) use text::{actions_text, flow_text, match_text};
pub(crate) use wire::{body, flow_mod, message, multipart, reassembly};
