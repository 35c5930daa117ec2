//! The names of messages, and the text of those that cannot be read (`lib/ofp-msgs.c`, `ofp_to_string()` in
//! `lib/ofp-print.c`).

use std::cmp::Ordering;
use std::fmt::{self, Write};

use super::body::{EXPERIMENTER, MULTIPART_REPLY, MULTIPART_REQUEST};
use super::text::hex_dump;
use super::{HEADER_LEN, VERSION, experimenter, multipart};
use crate::wire::Reader;

/// By `ofp_type`; what is empty is not a message of OpenFlow 1.5, or has its name elsewhere.
#[rustfmt::skip]
const MESSAGES: [&str; 35] = [
    "OFPT_HELLO", "OFPT_ERROR", "OFPT_ECHO_REQUEST", "OFPT_ECHO_REPLY", "", "OFPT_FEATURES_REQUEST",
    "OFPT_FEATURES_REPLY", "OFPT_GET_CONFIG_REQUEST", "OFPT_GET_CONFIG_REPLY", "OFPT_SET_CONFIG",
    "OFPT_PACKET_IN", "OFPT_FLOW_REMOVED", "OFPT_PORT_STATUS", "OFPT_PACKET_OUT", "OFPT_FLOW_MOD",
    "OFPT_GROUP_MOD", "OFPT_PORT_MOD", "OFPT_TABLE_MOD", "", "", "OFPT_BARRIER_REQUEST",
    "OFPT_BARRIER_REPLY", "", "", "OFPT_ROLE_REQUEST", "OFPT_ROLE_REPLY", "OFPT_GET_ASYNC_REQUEST",
    "OFPT_GET_ASYNC_REPLY", "OFPT_SET_ASYNC", "OFPT_METER_MOD", "OFPT_ROLE_STATUS", "OFPT_TABLE_STATUS",
    "OFPT_REQUESTFORWARD", "OFPT_BUNDLE_CONTROL", "OFPT_BUNDLE_ADD_MESSAGE",
];

/// By `ofp_multipart_type`.
#[rustfmt::skip]
const MULTIPART: [&str; 17] = [
    "DESC", "FLOW", "AGGREGATE", "TABLE", "PORT", "QUEUE", "GROUP", "GROUP_DESC", "GROUP_FEATURES", "METER",
    "METER_CONFIG", "METER_FEATURES", "TABLE_FEATURES", "PORT_DESC", "TABLE_DESC", "QUEUE_DESC",
    "FLOW_MONITOR",
];

/// The Open Networking Foundation, whose messages Open vSwitch knows in OpenFlow 1.3.
const ONF: u32 = 0x4f4e_4600;

/// What tells messages apart.
#[derive(Debug, Clone, Copy)]
pub(super) enum Id {
    /// `ofp_type`.
    Type(u8),
    /// Whether it is the request, and `ofp_multipart_type`.
    Multipart(bool, u16),
    /// Whether it is the request, the experimenter and the number there.
    MultipartExperimenter(bool, u32, u32),
    /// The experimenter and the number there.
    Experimenter(u32, u32),
}

impl Id {
    /// What the first bytes of a message say, if enough of them are there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes, "header");
        r.skip(1).ok()?;
        let kind = r.u8().ok()?;
        r.skip(HEADER_LEN - 2).ok()?;
        Some(match kind {
            EXPERIMENTER => Self::Experimenter(r.u32().ok()?, r.u32().ok()?),
            MULTIPART_REQUEST | MULTIPART_REPLY => {
                let (request, kind) = (kind == MULTIPART_REQUEST, r.u16().ok()?);
                r.skip(6).ok()?;
                match kind {
                    multipart::EXPERIMENTER => {
                        Self::MultipartExperimenter(request, r.u32().ok()?, r.u32().ok()?)
                    }
                    _ => Self::Multipart(request, kind),
                }
            }
            kind => Self::Type(kind),
        })
    }

    /// The name, or the error that Open vSwitch has for a message that it does not know.
    pub(super) fn name(self) -> Result<String, &'static str> {
        let way = |request| if request { "request" } else { "reply" };
        let known = |name: Option<&&str>| name.filter(|name| !name.is_empty()).map(|&name| name.to_owned());
        match self {
            Self::Type(kind) => known(MESSAGES.get(usize::from(kind))).ok_or("OFPBRC_BAD_TYPE"),
            Self::Multipart(request, kind) => match known(MULTIPART.get(usize::from(kind))) {
                Some(name) => Ok(format!("OFPST_{name} {}", way(request))),
                None => Err("OFPBRC_BAD_STAT"),
            },
            Self::MultipartExperimenter(request, experimenter::NX, multipart::IPFIX_BRIDGE) => {
                Ok(format!("NXST_IPFIX_BRIDGE {}", way(request)))
            }
            Self::MultipartExperimenter(request, experimenter::NX, multipart::IPFIX_FLOW) => {
                Ok(format!("NXST_IPFIX_FLOW {}", way(request)))
            }
            Self::Experimenter(experimenter::NX, subtype) => {
                let name = experimenter::NAMES.iter().find(|(number, _)| *number == subtype);
                name.map(|&(_, name)| format!("NXT_{name}")).ok_or("OFPBRC_BAD_SUBTYPE")
            }
            Self::Experimenter(ONF, _) | Self::MultipartExperimenter(_, experimenter::NX | ONF, _) => {
                Err("OFPBRC_BAD_SUBTYPE")
            }
            Self::Experimenter(..) | Self::MultipartExperimenter(..) => Err("OFPBRC_BAD_VENDOR"),
        }
    }
}

/// `OFPT_HELLO (OF1.5) (xid=0x1):`
pub(super) fn header_text(out: &mut String, name: &str, version: u8, xid: u32) -> fmt::Result {
    out.write_str(name)?;
    match version {
        1 => {}
        2..=VERSION => write!(out, " (OF1.{})", version - 1)?,
        _ => write!(out, " (OF {version:#04x})")?,
    }
    write!(out, " (xid={xid:#x}):")
}

/// A message that is not known, with all its bytes.
pub(super) fn unknown_text(out: &mut String, error: &str, bytes: &[u8]) -> fmt::Result {
    writeln!(out, "***decode error: {error}***")?;
    hex_dump(out, bytes)
}

/// Bytes that should be a message, and are cut off or not one.
pub(super) fn broken_text(out: &mut String, bytes: &[u8]) -> fmt::Result {
    let Some(&[version, _, a, b, xid @ ..]) = bytes.first_chunk::<HEADER_LEN>() else {
        match bytes.len() {
            0 => out.write_str("OpenFlow message is empty\n")?,
            n => writeln!(out, "OpenFlow packet too short (only {n} bytes):")?,
        }
        return hex_dump(out, bytes);
    };
    let (len, there) = (usize::from(u16::from_be_bytes([a, b])), bytes.len());
    let name = Id::read(bytes).ok_or("OFPBRC_BAD_LEN").and_then(Id::name);
    match len.cmp(&there) {
        Ordering::Equal => return unknown_text(out, name.err().unwrap_or("OFPBRC_BAD_LEN"), bytes),
        Ordering::Less => writeln!(out, "(***only uses {len} bytes out of {there}***)")?,
        Ordering::Greater => {
            if let Ok(name) = name {
                header_text(out, &name, version, u32::from_be_bytes(xid))?;
                out.write_char('\n')?;
            }
            writeln!(out, "(***truncated to {there} bytes from {len}***)")?;
        }
    }
    hex_dump(out, bytes)
}
