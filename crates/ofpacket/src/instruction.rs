//! What a table does with a packet that a flow matches.

use bytes::Bytes;

use crate::action::{self, Action};
use crate::wire::{Reader, Result, Sink, Writer};

/// An instruction of a flow (OpenFlow 1.5, section 7.2.4, `ofp_instruction`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Instruction {
    /// Go on in another table, one with a greater number.
    GotoTable(u8),
    /// Set the bits of the metadata that `mask` selects.
    WriteMetadata {
        /// The new bits.
        metadata: u64,
        /// Which of them count.
        mask: u64,
    },
    /// Put actions into the action set, which runs when no table follows.
    WriteActions(Vec<Action>),
    /// Do this now.
    ApplyActions(Vec<Action>),
    /// Empty the action set.
    ClearActions,
    /// Through a meter; OpenFlow up to 1.4, later an action.
    Meter(u32),
    /// Any other instruction, as it was: type, and what follows the length.
    Other {
        /// `ofp_instruction_type`.
        kind: u16,
        /// What follows the four bytes of type and length.
        body: Bytes,
    },
}

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;

impl Instruction {
    /// Reads instructions up to the end.
    pub(crate) fn decode_all(mut r: Reader<'_>) -> Result<Vec<Self>> {
        // Most flows have one of them, or two.
        let mut out = Vec::with_capacity(if r.is_empty() { 0 } else { 2 });
        while !r.is_empty() {
            out.push(Self::decode(&mut r)?);
        }
        Ok(out)
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, mut body) = r.structure("instruction", |len| len >= 8 && len % 8 == 0)?;
        let instruction = match kind {
            GOTO_TABLE => {
                let table = body.u8()?;
                body.skip(3)?;
                Self::GotoTable(table)
            }
            WRITE_METADATA => {
                body.skip(4)?;
                Self::WriteMetadata { metadata: body.u64()?, mask: body.u64()? }
            }
            WRITE_ACTIONS | APPLY_ACTIONS => {
                body.skip(4)?;
                let actions = action::decode_list(&mut body)?;
                if kind == WRITE_ACTIONS { Self::WriteActions(actions) } else { Self::ApplyActions(actions) }
            }
            CLEAR_ACTIONS => {
                body.skip(4)?;
                Self::ClearActions
            }
            METER => Self::Meter(body.u32()?),
            _ => Self::Other { kind, body: body.rest() },
        };
        body.finish()?;
        Ok(instruction)
    }

    pub(crate) fn encode(&self, w: &mut Writer<impl Sink>) {
        let from = w.pos();
        w.u16(self.kind());
        w.later();
        match self {
            Self::GotoTable(table) => {
                w.u8(*table);
                w.zeros(3);
            }
            Self::WriteMetadata { metadata, mask } => {
                w.zeros(4);
                w.u64(*metadata);
                w.u64(*mask);
            }
            Self::WriteActions(actions) | Self::ApplyActions(actions) => {
                w.zeros(4);
                action::encode_list(actions, w);
            }
            Self::ClearActions => w.zeros(4),
            Self::Meter(id) => w.u32(*id),
            Self::Other { body, .. } => w.slice(body),
        }
        w.patch_len(from + 2, from, "instruction");
    }

    fn kind(&self) -> u16 {
        match self {
            Self::GotoTable(_) => GOTO_TABLE,
            Self::WriteMetadata { .. } => WRITE_METADATA,
            Self::WriteActions(_) => WRITE_ACTIONS,
            Self::ApplyActions(_) => APPLY_ACTIONS,
            Self::ClearActions => CLEAR_ACTIONS,
            Self::Meter(_) => METER,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// The normal form, for comparing what was asked for with what a switch shows.
    #[must_use]
    pub fn canonical(&self) -> Self {
        match self {
            Self::WriteActions(actions) => Self::WriteActions(action::canonical_list(actions)),
            Self::ApplyActions(actions) => Self::ApplyActions(action::canonical_list(actions)),
            Self::WriteMetadata { metadata, mask } => {
                Self::WriteMetadata { metadata: metadata & mask, mask: *mask }
            }
            other => other.clone(),
        }
    }
}
