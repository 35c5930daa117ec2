//! Whole messages.
//!
//! ```text
//!  0         8         16                32                                64
//! +---------+---------+-----------------+---------------------------------+
//! | version |  type   |     length      |               xid               |  body ...
//! +---------+---------+-----------------+---------------------------------+
//! ```
//! (OpenFlow 1.5, section 7.1.1, `ofp_header`)

#[macro_use]
mod macros;

mod async_config;
mod body;
mod bundle;
mod common;
mod ct_flush;
mod error_message;
mod error_names;
mod experimenter;
mod fields;
mod flow_desc;
mod flow_mod;
mod frame;
mod group;
mod group_stats;
mod handshake;
mod ipfix;
mod meter;
mod monitor;
mod multipart;
mod multipart_reply;
mod multipart_request;
mod names;
mod oxs;
mod packet;
mod packet_in2;
mod port;
mod port_stats;
mod property;
mod queue;
mod reassembly;
mod request_forward;
mod role;
mod switch_desc;
mod table;
mod table_features;
mod table_text;
mod text;
mod tlv_table;

use std::fmt;

use bytes::{Bytes, BytesMut};

pub use async_config::{AsyncConfig, NxAsyncConfig};
pub use body::Body;
pub use bundle::{BundleAdd, BundleControl, BundleControlType};
pub use ct_flush::{CtFlush, CtFlushProperty, CtTupleProperty};
pub use error_message::{OfError, OfErrorNumber};
pub use experimenter::Experimenter;
pub use flow_desc::{AggregateStats, FlowDescRequest};
pub use flow_mod::{FlowMod, FlowModCommand, FlowRemoved, NxFlowRemoved};
pub use group::{
    BUCKET_ALL, BUCKET_FIRST, BUCKET_LAST, Bucket, BucketProperty, GROUP_ALL, Group, GroupMod,
    GroupModCommand, GroupProperty, GroupType,
};
pub use group_stats::{GroupFeatures, GroupStats};
pub use handshake::{Features, Hello, SwitchConfig};
pub use ipfix::IpfixStats;
pub use meter::{
    METER_ALL, METER_CONTROLLER, METER_SLOWPATH, MeterBand, MeterConfig, MeterFeatures, MeterMod,
    MeterModCommand, MeterStats,
};
pub use monitor::{FlowMonitorCommand, FlowMonitorRequest, FlowUpdate, FlowUpdateEvent};
pub use multipart_reply::{MultipartReply, ReplyBody};
pub use multipart_request::{MultipartRequest, RequestBody};
pub(crate) use packet::packet_in_reason;
pub use packet::{NxPacketIn, PacketIn, PacketOut};
pub use packet_in2::PacketIn2;
pub use port::{PortDesc, PortDescProperty, PortMod, PortModProperty, PortStatus};
pub use port_stats::{PortStats, PortStatsProperty};
pub use property::Property;
pub use queue::{QUEUE_ALL, QueueDesc, QueueDescProperty, QueueRequest, QueueStats};
pub use reassembly::{Reassembly, ReassemblyError};
pub use request_forward::RequestForward;
pub use role::{Role, RoleMessage, RoleStatus};
pub use switch_desc::SwitchDesc;
pub use table::{TableDesc, TableMod, TableProperty, TableStats, TableStatus};
pub use table_features::{
    OxmId, TableFeature, TableFeatureKind, TableFeatureValue, TableFeatures, TableFeaturesCommand,
};
pub use tlv_table::{TlvMap, TlvTable, TlvTableCommand, TlvTableMod};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::wire::{Reader, Result, Sink, Writer, measure, writes};

/// The version byte of OpenFlow 1.5.
pub const VERSION: u8 = 0x06;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// "No buffer": the packet is in the message.
pub const NO_BUFFER: u32 = 0xffff_ffff;

/// All tables, as a table number in requests.
pub const TABLE_ALL: u8 = 0xff;

/// Any group, as a group number in requests.
pub const GROUP_ANY: u32 = 0xffff_ffff;

/// A message: what it says, and the number that ties answers to questions.
///
/// A message that was decoded always encodes to the very bytes that it was decoded from (but for the version
/// byte of an error that is not one of OpenFlow 1.5). What is not known here, or was written in a way that
/// this crate would not write it, with padding that is not zero for example, is kept as it was: in
/// [`Body::Unknown`], and in variants called `Other` within the typed messages.
///
/// The text is that of `ovs-ofctl ofp-parse`, without the newline at its end. It differs in this:
///
/// - What Open vSwitch refuses to decode for what it says (a role or a command that there is not, meter flags
///   that contradict each other) it prints as an error with a hexadecimal dump; here it is printed as what it
///   says. Errors that have no name are printed by their numbers.
/// - A message in [`Body::Unknown`] whose type is known is printed by its name and as a hexadecimal dump.
/// - An OFPT_TABLE_MOD with eviction flags: Open vSwitch takes them for something else
///   (`ofputil_decode_table_mod()`).
/// - Packets that are not Ethernet frames are printed as their type only.
///
/// ```
/// use ofpacket::{Body, Message, MultipartRequest, PortNo, RequestBody};
///
/// let body = RequestBody::PortStats(PortNo::ANY);
/// let message = Message { xid: 7, body: Body::MultipartRequest(MultipartRequest::new(body)) };
/// assert_eq!(message.to_string(), "OFPST_PORT request (OF1.5) (xid=0x7): port_no=ANY");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// An answer carries the number of its request.
    pub xid: u32,
    /// What it says.
    pub body: Body,
}

/// The length of the message that `bytes` begin with, once its header is there.
///
/// `None` if fewer than [`HEADER_LEN`] bytes are there; an error if no message can begin so, after which
/// the stream cannot be read any further.
pub fn frame_len(bytes: &[u8]) -> Option<Result<usize, DecodeError>> {
    let header = bytes.first_chunk::<HEADER_LEN>()?;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    Some(if len < HEADER_LEN {
        Err(DecodeError { offset: 2, what: "header", kind: DecodeErrorKind::BadLength(len) })
    } else {
        Ok(len)
    })
}

impl Message {
    /// Reads one message, of which all bytes must be there and none more.
    ///
    /// # Errors
    /// The message is not one of OpenFlow 1.5 (a HELLO and an ERROR may be of any version: that is how
    /// versions are agreed upon), or its contents contradict each other.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Header::read(&mut Reader::new(bytes, "message"), true)?;
        let raw = r.body.peek();
        let body = Body::decode(r.version, r.kind, r.xid, &mut r.body, true)?;
        r.body.finish()?;
        if writes(raw, |w| body.encode(r.xid, w)) {
            return Ok(Self { xid: r.xid, body });
        }
        // Something of it would be lost. See what, and keep that as it came.
        drop(body);
        Self::decode_carefully(&mut Reader::new(bytes, "message").carefully(), true)
    }

    /// Reads a message within another one, which may be shorter than what is left.
    fn decode_within(r: &mut Reader<'_>) -> Result<Self> {
        if r.is_careful() {
            return Self::decode_carefully(r, false);
        }
        let mut r = Header::read(r, false)?;
        Ok(Self { xid: r.xid, body: r.decode(false)? })
    }

    #[cold]
    fn decode_carefully(r: &mut Reader<'_>, outermost: bool) -> Result<Self> {
        let mut r = Header::read(r, outermost)?;
        let raw = r.body.peek();
        let mut body = r.decode(outermost)?;
        if !writes(raw, |w| body.encode(r.xid, w)) {
            body = Body::Unknown { kind: r.kind, body: Bytes::copy_from_slice(raw) };
        }
        Ok(Self { xid: r.xid, body })
    }

    /// The bytes of the message.
    ///
    /// # Errors
    /// Something in it is longer than its length field can say.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut buf = BytesMut::with_capacity(measure(|w| encode_message(self.xid, &self.body, w)));
        self.encode_into(&mut buf)?;
        Ok(buf.freeze())
    }

    /// Appends the bytes of the message; on error nothing is appended.
    ///
    /// # Errors
    /// Something in it is longer than its length field can say.
    pub fn encode_into(&self, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut w = Writer::new(buf);
        encode_message(self.xid, &self.body, &mut w);
        w.finish()
    }
}

/// What a header says, and what follows it.
struct Header<'a> {
    version: u8,
    kind: u8,
    xid: u32,
    body: Reader<'a>,
}

impl<'a> Header<'a> {
    #[inline]
    fn read(r: &mut Reader<'a>, outermost: bool) -> Result<Self> {
        let mut head = r.clone().named("header");
        let (version, kind, len, xid) = (head.u8()?, head.u8()?, usize::from(head.u16()?), head.u32()?);
        if len < HEADER_LEN || outermost && len < r.len() {
            return Err(r.error(DecodeErrorKind::BadLength(len)));
        }
        if version != VERSION && !matches!(kind, body::HELLO | body::ERROR) {
            return Err(r.error(DecodeErrorKind::BadVersion(version)));
        }
        let mut body = r.sub(len, "message")?;
        body.skip(HEADER_LEN)?;
        Ok(Self { version, kind, xid, body })
    }

    fn decode(&mut self, outermost: bool) -> Result<Body> {
        let body = Body::decode(self.version, self.kind, self.xid, &mut self.body, outermost)?;
        self.body.finish()?;
        Ok(body)
    }
}

fn encode_message(xid: u32, body: &Body, w: &mut Writer<impl Sink>) {
    let from = w.pos();
    w.u8(if let Body::Hello(hello) = body { hello.version } else { VERSION });
    w.u8(body.kind());
    w.later();
    w.u32(xid);
    body.encode(xid, w);
    w.patch_len(from + 2, from, "message");
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.body.message_text(self.xid, &mut out)?;
        f.write_str(&out)
    }
}
