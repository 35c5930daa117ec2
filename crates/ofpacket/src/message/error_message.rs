//! Why a request was refused.

use std::fmt;

use bytes::Bytes;

use crate::wire::{Reader, Result, Writer};

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
const BAD_REQUEST: u16 = 1;
const BAD_ACTION: u16 = 2;
const BAD_INSTRUCTION: u16 = 3;
const BAD_MATCH: u16 = 4;
const FLOW_MOD_FAILED: u16 = 5;
const FLOW_MONITOR_FAILED: u16 = 16;
const BUNDLE_FAILED: u16 = 17;

impl OfErrorNumber {
    /// OpenFlow's name, for those that a controller of flows meets; `None` for the others.
    pub fn name(self) -> Option<&'static str> {
        let Self::Standard { kind, code } = self else {
            return None;
        };
        let names: &[&'static str] = match kind {
            HELLO_FAILED => &["OFPHFC_INCOMPATIBLE", "OFPHFC_EPERM"],
            BAD_REQUEST => &[
                "OFPBRC_BAD_VERSION",
                "OFPBRC_BAD_TYPE",
                "OFPBRC_BAD_MULTIPART",
                "OFPBRC_BAD_EXPERIMENTER",
                "OFPBRC_BAD_EXP_TYPE",
                "OFPBRC_EPERM",
                "OFPBRC_BAD_LEN",
                "OFPBRC_BUFFER_EMPTY",
                "OFPBRC_BUFFER_UNKNOWN",
                "OFPBRC_BAD_TABLE_ID",
                "OFPBRC_IS_SLAVE",
                "OFPBRC_BAD_PORT",
                "OFPBRC_BAD_PACKET",
                "OFPBRC_MULTIPART_BUFFER_OVERFLOW",
                "OFPBRC_MULTIPART_REQUEST_TIMEOUT",
                "OFPBRC_MULTIPART_REPLY_TIMEOUT",
            ],
            BAD_ACTION => &[
                "OFPBAC_BAD_TYPE",
                "OFPBAC_BAD_LEN",
                "OFPBAC_BAD_EXPERIMENTER",
                "OFPBAC_BAD_EXP_TYPE",
                "OFPBAC_BAD_OUT_PORT",
                "OFPBAC_BAD_ARGUMENT",
                "OFPBAC_EPERM",
                "OFPBAC_TOO_MANY",
                "OFPBAC_BAD_QUEUE",
                "OFPBAC_BAD_OUT_GROUP",
                "OFPBAC_MATCH_INCONSISTENT",
                "OFPBAC_UNSUPPORTED_ORDER",
                "OFPBAC_BAD_TAG",
                "OFPBAC_BAD_SET_TYPE",
                "OFPBAC_BAD_SET_LEN",
                "OFPBAC_BAD_SET_ARGUMENT",
                "OFPBAC_BAD_SET_MASK",
                "OFPBAC_BAD_METER",
            ],
            BAD_INSTRUCTION => &[
                "OFPBIC_UNKNOWN_INST",
                "OFPBIC_UNSUP_INST",
                "OFPBIC_BAD_TABLE_ID",
                "OFPBIC_UNSUP_METADATA",
                "OFPBIC_UNSUP_METADATA_MASK",
                "OFPBIC_BAD_EXPERIMENTER",
                "OFPBIC_BAD_EXP_TYPE",
                "OFPBIC_BAD_LEN",
                "OFPBIC_EPERM",
                "OFPBIC_DUP_INST",
            ],
            BAD_MATCH => &[
                "OFPBMC_BAD_TYPE",
                "OFPBMC_BAD_LEN",
                "OFPBMC_BAD_TAG",
                "OFPBMC_BAD_DL_ADDR_MASK",
                "OFPBMC_BAD_NW_ADDR_MASK",
                "OFPBMC_BAD_WILDCARDS",
                "OFPBMC_BAD_FIELD",
                "OFPBMC_BAD_VALUE",
                "OFPBMC_BAD_MASK",
                "OFPBMC_BAD_PREREQ",
                "OFPBMC_DUP_FIELD",
                "OFPBMC_EPERM",
            ],
            FLOW_MOD_FAILED => &[
                "OFPFMFC_UNKNOWN",
                "OFPFMFC_TABLE_FULL",
                "OFPFMFC_BAD_TABLE_ID",
                "OFPFMFC_OVERLAP",
                "OFPFMFC_EPERM",
                "OFPFMFC_BAD_TIMEOUT",
                "OFPFMFC_BAD_COMMAND",
                "OFPFMFC_BAD_FLAGS",
                "OFPFMFC_CANT_SYNC",
                "OFPFMFC_BAD_PRIORITY",
                "OFPFMFC_IS_SYNC",
            ],
            FLOW_MONITOR_FAILED => &[
                "OFPMOFC_UNKNOWN",
                "OFPMOFC_MONITOR_EXISTS",
                "OFPMOFC_INVALID_MONITOR",
                "OFPMOFC_UNKNOWN_MONITOR",
                "OFPMOFC_BAD_COMMAND",
                "OFPMOFC_BAD_FLAGS",
                "OFPMOFC_BAD_TABLE_ID",
                "OFPMOFC_BAD_OUT",
            ],
            BUNDLE_FAILED => &[
                "OFPBFC_UNKNOWN",
                "OFPBFC_EPERM",
                "OFPBFC_BAD_ID",
                "OFPBFC_BUNDLE_EXIST",
                "OFPBFC_BUNDLE_CLOSED",
                "OFPBFC_OUT_OF_BUNDLES",
                "OFPBFC_BAD_TYPE",
                "OFPBFC_BAD_FLAGS",
                "OFPBFC_MSG_BAD_LEN",
                "OFPBFC_MSG_BAD_XID",
                "OFPBFC_MSG_UNSUP",
                "OFPBFC_MSG_CONFLICT",
                "OFPBFC_MSG_TOO_MANY",
                "OFPBFC_MSG_FAILED",
                "OFPBFC_TIMEOUT",
                "OFPBFC_BUNDLE_IN_PROGRESS",
            ],
            _ => &[],
        };
        names.get(usize::from(code)).copied()
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

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, code) = (r.u16()?, r.u16()?);
        let number = match kind {
            EXPERIMENTER => OfErrorNumber::Experimenter { kind: code, experimenter: r.u32()? },
            _ => OfErrorNumber::Standard { kind, code },
        };
        Ok(Self { number, data: r.rest() })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
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
}
