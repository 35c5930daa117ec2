//! Whole messages.
//!
//! ```text
//!  0         8         16                32                                64
//! +---------+---------+-----------------+---------------------------------+
//! | version |  type   |     length      |               xid               |  body ...
//! +---------+---------+-----------------+---------------------------------+
//! ```
//! (OpenFlow 1.5, section 7.1.1, `ofp_header`)

mod control;
mod error_message;
mod experimenter;
mod flow_mod;
mod handshake;
mod monitor;
mod multipart;
mod packet;
mod port_desc;

use bytes::{Bytes, BytesMut};

pub use control::{AsyncConfig, BundleAdd, BundleControl, BundleControlType, Role, RoleMessage};
pub use error_message::{OfError, OfErrorNumber};
pub use experimenter::{Experimenter, TlvMap, TlvTable};
pub use flow_mod::{FlowMod, FlowModCommand, FlowRemoved};
pub use handshake::{Features, Hello, SwitchConfig};
pub use monitor::{FlowMonitorCommand, FlowMonitorRequest, FlowUpdate, FlowUpdateEvent};
pub use multipart::{
    FlowDescRequest, MultipartReply, MultipartRequest, ReplyBody, RequestBody, SwitchDesc, TableDesc,
};
pub(crate) use packet::packet_in_reason;
pub use packet::{PacketIn, PacketIn2, PacketOut};
pub use port_desc::{PortDesc, PortStatus};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::wire::{Reader, Result, Writer};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// An answer carries the number of its request.
    pub xid: u32,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// The first message of either side.
    Hello(Hello),
    /// A request was refused.
    Error(OfError),
    /// Are you there?
    EchoRequest(Bytes),
    /// Yes, with the request's bytes.
    EchoReply(Bytes),
    /// An extension.
    Experimenter(Experimenter),
    /// What are you?
    FeaturesRequest,
    /// That.
    FeaturesReply(Features),
    /// How are you set?
    GetConfigRequest,
    /// So.
    GetConfigReply(SwitchConfig),
    /// Be set so.
    SetConfig(SwitchConfig),
    /// A packet for the controller, in OpenFlow's own form.
    PacketIn(PacketIn),
    /// A flow went away.
    FlowRemoved(FlowRemoved),
    /// A port came, went or changed.
    PortStatus(PortStatus),
    /// Send this packet.
    PacketOut(PacketOut),
    /// Change the flow tables.
    FlowMod(FlowMod),
    /// A question with a long answer.
    MultipartRequest(MultipartRequest),
    /// A part of the answer.
    MultipartReply(MultipartReply),
    /// Finish what came before.
    BarrierRequest,
    /// Finished.
    BarrierReply,
    /// What is my role, or let it be this.
    RoleRequest(RoleMessage),
    /// It is this.
    RoleReply(RoleMessage),
    /// Which asynchronous messages do I get?
    GetAsyncRequest,
    /// These.
    GetAsyncReply(AsyncConfig),
    /// Send me these.
    SetAsync(AsyncConfig),
    /// Open, close, commit or discard a bundle.
    BundleControl(BundleControl),
    /// Put a message into a bundle.
    BundleAdd(BundleAdd),
    /// Any other message, its body as it was.
    Unknown {
        /// `ofp_type`.
        kind: u8,
        /// What follows the header.
        body: Bytes,
    },
}

const HELLO: u8 = 0;
const ERROR: u8 = 1;
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;
const EXPERIMENTER: u8 = 4;
const FEATURES_REQUEST: u8 = 5;
const FEATURES_REPLY: u8 = 6;
const GET_CONFIG_REQUEST: u8 = 7;
const GET_CONFIG_REPLY: u8 = 8;
const SET_CONFIG: u8 = 9;
const PACKET_IN: u8 = 10;
const FLOW_REMOVED: u8 = 11;
const PORT_STATUS: u8 = 12;
const PACKET_OUT: u8 = 13;
const FLOW_MOD: u8 = 14;
const MULTIPART_REQUEST: u8 = 18;
const MULTIPART_REPLY: u8 = 19;
const BARRIER_REQUEST: u8 = 20;
const BARRIER_REPLY: u8 = 21;
const ROLE_REQUEST: u8 = 24;
const ROLE_REPLY: u8 = 25;
const GET_ASYNC_REQUEST: u8 = 26;
const GET_ASYNC_REPLY: u8 = 27;
const SET_ASYNC: u8 = 28;
const BUNDLE_CONTROL: u8 = 33;
const BUNDLE_ADD: u8 = 34;

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
        Self::decode_from(&mut Reader::new(bytes, "message"), true)
    }

    fn decode_from(r: &mut Reader<'_>, outermost: bool) -> Result<Self> {
        let mut head = r.clone().named("header");
        let version = head.u8()?;
        let kind = head.u8()?;
        let len = usize::from(head.u16()?);
        let xid = head.u32()?;
        if len < HEADER_LEN || outermost && len < r.len() {
            return Err(r.error(DecodeErrorKind::BadLength(len)));
        }
        if version != VERSION && !matches!(kind, HELLO | ERROR) {
            return Err(r.error(DecodeErrorKind::BadVersion(version)));
        }
        let mut body = r.sub(len, "message")?;
        body.skip(HEADER_LEN)?;
        let body = Body::decode(version, kind, xid, &mut body, outermost)?;
        Ok(Self { xid, body })
    }

    /// The bytes of the message.
    ///
    /// # Errors
    /// Something in it is longer than its length field can say.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut buf = BytesMut::new();
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

fn encode_message(xid: u32, body: &Body, w: &mut Writer<'_>) {
    let from = w.pos();
    w.u8(if let Body::Hello(hello) = body { hello.version } else { VERSION });
    w.u8(body.kind());
    w.u16(0);
    w.u32(xid);
    body.encode(xid, w);
    w.patch_len(from + 2, from, "message");
}

impl Body {
    /// `ofp_type`, the second byte of the header.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Error(_) => ERROR,
            Self::EchoRequest(_) => ECHO_REQUEST,
            Self::EchoReply(_) => ECHO_REPLY,
            Self::Experimenter(_) => EXPERIMENTER,
            Self::FeaturesRequest => FEATURES_REQUEST,
            Self::FeaturesReply(_) => FEATURES_REPLY,
            Self::GetConfigRequest => GET_CONFIG_REQUEST,
            Self::GetConfigReply(_) => GET_CONFIG_REPLY,
            Self::SetConfig(_) => SET_CONFIG,
            Self::PacketIn(_) => PACKET_IN,
            Self::FlowRemoved(_) => FLOW_REMOVED,
            Self::PortStatus(_) => PORT_STATUS,
            Self::PacketOut(_) => PACKET_OUT,
            Self::FlowMod(_) => FLOW_MOD,
            Self::MultipartRequest(_) => MULTIPART_REQUEST,
            Self::MultipartReply(_) => MULTIPART_REPLY,
            Self::BarrierRequest => BARRIER_REQUEST,
            Self::BarrierReply => BARRIER_REPLY,
            Self::RoleRequest(_) => ROLE_REQUEST,
            Self::RoleReply(_) => ROLE_REPLY,
            Self::GetAsyncRequest => GET_ASYNC_REQUEST,
            Self::GetAsyncReply(_) => GET_ASYNC_REPLY,
            Self::SetAsync(_) => SET_ASYNC,
            Self::BundleControl(_) => BUNDLE_CONTROL,
            Self::BundleAdd(_) => BUNDLE_ADD,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    fn decode(version: u8, kind: u8, xid: u32, r: &mut Reader<'_>, outermost: bool) -> Result<Self> {
        let body = match kind {
            HELLO => Self::Hello(Hello::decode(version, r)?),
            ERROR => Self::Error(OfError::decode(r)?),
            ECHO_REQUEST => Self::EchoRequest(r.rest()),
            ECHO_REPLY => Self::EchoReply(r.rest()),
            EXPERIMENTER => Self::Experimenter(Experimenter::decode(r)?),
            FEATURES_REQUEST => Self::FeaturesRequest,
            FEATURES_REPLY => Self::FeaturesReply(Features::decode(r)?),
            GET_CONFIG_REQUEST => Self::GetConfigRequest,
            GET_CONFIG_REPLY => Self::GetConfigReply(SwitchConfig::decode(r)?),
            SET_CONFIG => Self::SetConfig(SwitchConfig::decode(r)?),
            PACKET_IN => Self::PacketIn(PacketIn::decode(r)?),
            FLOW_REMOVED => Self::FlowRemoved(FlowRemoved::decode(r)?),
            PORT_STATUS => Self::PortStatus(PortStatus::decode(r)?),
            PACKET_OUT => Self::PacketOut(PacketOut::decode(r)?),
            FLOW_MOD => Self::FlowMod(FlowMod::decode(r)?),
            MULTIPART_REQUEST => Self::MultipartRequest(MultipartRequest::decode(r)?),
            MULTIPART_REPLY => Self::MultipartReply(MultipartReply::decode(r)?),
            BARRIER_REQUEST => Self::BarrierRequest,
            BARRIER_REPLY => Self::BarrierReply,
            ROLE_REQUEST => Self::RoleRequest(RoleMessage::decode(r)?),
            ROLE_REPLY => Self::RoleReply(RoleMessage::decode(r)?),
            GET_ASYNC_REQUEST => Self::GetAsyncRequest,
            GET_ASYNC_REPLY => Self::GetAsyncReply(AsyncConfig::decode(r)?),
            SET_ASYNC => Self::SetAsync(AsyncConfig::decode(r)?),
            BUNDLE_CONTROL => Self::BundleControl(BundleControl::decode(r)?),
            // A bundle within a bundle is not allowed, and must not nest without bound here.
            BUNDLE_ADD if outermost => Self::BundleAdd(BundleAdd::decode(xid, r)?),
            _ => Self::Unknown { kind, body: r.rest() },
        };
        r.finish()?;
        Ok(body)
    }

    fn encode(&self, xid: u32, w: &mut Writer<'_>) {
        match self {
            Self::Hello(hello) => hello.encode(w),
            Self::Error(error) => error.encode(w),
            Self::EchoRequest(data) | Self::EchoReply(data) => w.slice(data),
            Self::Experimenter(experimenter) => experimenter.encode(w),
            Self::FeaturesReply(features) => features.encode(w),
            Self::GetConfigReply(config) | Self::SetConfig(config) => config.encode(w),
            Self::PacketIn(packet) => packet.encode(w),
            Self::FlowRemoved(removed) => removed.encode(w),
            Self::PortStatus(status) => status.encode(w),
            Self::PacketOut(packet) => packet.encode(w),
            Self::FlowMod(flow_mod) => flow_mod.encode(w),
            Self::MultipartRequest(request) => request.encode(w),
            Self::MultipartReply(reply) => reply.encode(w),
            Self::FeaturesRequest
            | Self::GetConfigRequest
            | Self::BarrierRequest
            | Self::BarrierReply
            | Self::GetAsyncRequest => {}
            Self::RoleRequest(role) | Self::RoleReply(role) => role.encode(w),
            Self::GetAsyncReply(config) | Self::SetAsync(config) => config.encode(w),
            Self::BundleControl(control) => control.encode(w),
            Self::BundleAdd(add) => add.encode(xid, w),
            Self::Unknown { body, .. } => w.slice(body),
        }
    }
}
