//! Why a request was refused.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::error_names::{NX, STANDARD};
use super::names::broken_text;
use super::{Body, Message, experimenter};
use crate::wire::{Reader, Result, Sink, Writer};

/// A switch's refusal (OpenFlow 1.5, section 7.5.4). The message's xid is the refused request's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfError {
    /// What was wrong.
    pub number: OfErrorNumber,
    /// At least the first 64 bytes of the refused message, or a text if the versions did not match.
    pub data: Bytes,
}

/// The numbers of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OfErrorNumber {
    /// `ofp_error_type` and the code within it.
    Standard {
        /// `ofp_error_type`.
        kind: u16,
        /// The code within it.
        code: u16,
    },
    /// Somebody's own.
    Experimenter {
        /// Whose.
        experimenter: u32,
        /// Their number.
        kind: u16,
    },
}

const EXPERIMENTER: u16 = 0xffff;
/// `ofp_error_type`: no version in common.
const HELLO_FAILED: u16 = 0;

impl OfErrorNumber {
    /// The name of the error as `ovs-ofctl` prints it: all of OpenFlow 1.5's and of Open vSwitch's own;
    /// `None` for the others.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Standard { kind, code } => {
                let (_, codes) = STANDARD.get(usize::from(kind))?;
                codes.get(usize::from(code)).copied().filter(|name| !name.is_empty())
            }
            Self::Experimenter { experimenter: experimenter::NX, kind } => {
                NX.iter().find(|(number, _)| *number == kind).map(|&(_, name)| name)
            }
            Self::Experimenter { .. } => None,
        }
    }

    /// The name of the type of error, `ofp_error_type`; `None` if it is not OpenFlow's.
    pub fn type_name(self) -> Option<&'static str> {
        match self {
            Self::Standard { kind, .. } => STANDARD.get(usize::from(kind)).map(|&(name, _)| name),
            Self::Experimenter { .. } => None,
        }
    }

    /// Whether it says that there is no version in common.
    pub fn is_hello_failed(self) -> bool {
        matches!(self, Self::Standard { kind: HELLO_FAILED, .. })
    }
}

impl fmt::Display for OfErrorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), *self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::Standard { kind, code }) => write!(f, "error type {kind} code {code}"),
            (None, Self::Experimenter { experimenter, kind }) => {
                write!(f, "error {kind} of experimenter {experimenter:#x}")
            }
        }
    }
}

impl fmt::Display for OfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

impl OfError {
    /// An error of OpenFlow's own.
    pub fn standard(kind: u16, code: u16) -> Self {
        Self { number: OfErrorNumber::Standard { kind, code }, data: Bytes::new() }
    }

    /// Loses nothing, whatever the bytes are.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, code) = (r.u16()?, r.u16()?);
        let number = match kind {
            EXPERIMENTER => OfErrorNumber::Experimenter { kind: code, experimenter: r.u32()? },
            _ => OfErrorNumber::Standard { kind, code },
        };
        Ok(Self { number, data: r.rest() })
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        let numbers = if let OfErrorNumber::Experimenter { .. } = self.number { 8 } else { 4 };
        if w.passes(numbers + self.data.len()) {
            return;
        }
        match self.number {
            OfErrorNumber::Standard { kind, code } => {
                w.u16(kind);
                w.u16(code);
            }
            OfErrorNumber::Experimenter { experimenter, kind } => {
                w.u16(EXPERIMENTER);
                w.u16(kind);
                w.u32(experimenter);
            }
        }
        w.slice(&self.data);
    }

    /// A message that was refused is printed as far as it is there.
    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        write!(out, " {}", self.number)?;
        out.write_char('\n')?;
        if self.number.is_hello_failed() {
            return self.data.iter().try_for_each(|&byte| match byte {
                b'\\' | b'"' | 0..0x20 | 0x7f.. => write!(out, "\\{byte:03o}"),
                _ => out.write_char(byte.into()),
            });
        }
        match Message::decode(&self.data) {
            // An error about an error about an error: however deep they go, one is enough.
            Ok(refused) if !holds_error(&refused.body) => writeln!(out, "{refused}"),
            _ => broken_text(out, &self.data),
        }
    }
}

fn holds_error(body: &Body) -> bool {
    match body {
        Body::Error(_) => true,
        Body::BundleAdd(add) => holds_error(&add.body),
        Body::RequestForward(forward) => holds_error(&forward.body),
        _ => false,
    }
}
