//! Every message against `ovs-ofctl` and a real `ovs-vswitchd`: our text is its text, our bytes are its bytes.

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod example;
mod packets;
mod reassembly;
mod samples;
mod samples_switch;
mod samples_tables;
mod samples_talk;
mod session;
mod text;
