//! What a message says: one variant for each type.

use std::fmt::{self, Write};

use bytes::{Bytes, BytesMut};

use super::text::hex_dump;
use super::*;
use crate::wire::{Reader, Result, Sink, Writer};

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
    /// Change the group table.
    GroupMod(GroupMod),
    /// Change a port.
    PortMod(PortMod),
    /// Change how a table is set.
    TableMod(TableMod),
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
    /// Change the meter table.
    MeterMod(MeterMod),
    /// The role of this connection changed.
    RoleStatus(RoleStatus),
    /// A table got full or empty.
    TableStatus(TableStatus),
    /// What another controller changed.
    RequestForward(RequestForward),
    /// Open, close, commit or discard a bundle.
    BundleControl(BundleControl),
    /// Put a message into a bundle.
    BundleAdd(BundleAdd),
    /// Any other message, its body as it was; also one that is known, but was written in a way that this
    /// crate would not write it.
    Unknown {
        /// `ofp_type`.
        kind: u8,
        /// What follows the header.
        body: Bytes,
    },
}

pub(super) const HELLO: u8 = 0;
pub(super) const ERROR: u8 = 1;
pub(super) const ECHO_REQUEST: u8 = 2;
pub(super) const ECHO_REPLY: u8 = 3;
pub(super) const EXPERIMENTER: u8 = 4;
pub(super) const FEATURES_REQUEST: u8 = 5;
pub(super) const FEATURES_REPLY: u8 = 6;
pub(super) const GET_CONFIG_REQUEST: u8 = 7;
pub(super) const GET_CONFIG_REPLY: u8 = 8;
pub(super) const SET_CONFIG: u8 = 9;
pub(super) const PACKET_IN: u8 = 10;
pub(super) const FLOW_REMOVED: u8 = 11;
pub(super) const PORT_STATUS: u8 = 12;
pub(super) const PACKET_OUT: u8 = 13;
pub(super) const FLOW_MOD: u8 = 14;
pub(super) const GROUP_MOD: u8 = 15;
pub(super) const PORT_MOD: u8 = 16;
pub(super) const TABLE_MOD: u8 = 17;
pub(super) const MULTIPART_REQUEST: u8 = 18;
pub(super) const MULTIPART_REPLY: u8 = 19;
pub(super) const BARRIER_REQUEST: u8 = 20;
pub(super) const BARRIER_REPLY: u8 = 21;
pub(super) const ROLE_REQUEST: u8 = 24;
pub(super) const ROLE_REPLY: u8 = 25;
pub(super) const GET_ASYNC_REQUEST: u8 = 26;
pub(super) const GET_ASYNC_REPLY: u8 = 27;
pub(super) const SET_ASYNC: u8 = 28;
pub(super) const METER_MOD: u8 = 29;
pub(super) const ROLE_STATUS: u8 = 30;
pub(super) const TABLE_STATUS: u8 = 31;
pub(super) const REQUEST_FORWARD: u8 = 32;
pub(super) const BUNDLE_CONTROL: u8 = 33;
pub(super) const BUNDLE_ADD: u8 = 34;

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
            Self::GroupMod(_) => GROUP_MOD,
            Self::PortMod(_) => PORT_MOD,
            Self::TableMod(_) => TABLE_MOD,
            Self::MultipartRequest(_) => MULTIPART_REQUEST,
            Self::MultipartReply(_) => MULTIPART_REPLY,
            Self::BarrierRequest => BARRIER_REQUEST,
            Self::BarrierReply => BARRIER_REPLY,
            Self::RoleRequest(_) => ROLE_REQUEST,
            Self::RoleReply(_) => ROLE_REPLY,
            Self::GetAsyncRequest => GET_ASYNC_REQUEST,
            Self::GetAsyncReply(_) => GET_ASYNC_REPLY,
            Self::SetAsync(_) => SET_ASYNC,
            Self::MeterMod(_) => METER_MOD,
            Self::RoleStatus(_) => ROLE_STATUS,
            Self::TableStatus(_) => TABLE_STATUS,
            Self::RequestForward(_) => REQUEST_FORWARD,
            Self::BundleControl(_) => BUNDLE_CONTROL,
            Self::BundleAdd(_) => BUNDLE_ADD,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Within the only function that is in a hurry, so that what was decoded is not moved about.
    #[inline(always)]
    pub(super) fn decode(
        version: u8,
        kind: u8,
        xid: u32,
        r: &mut Reader<'_>,
        outermost: bool,
    ) -> Result<Self> {
        Ok(match kind {
            HELLO => Self::Hello(Hello::decode(version, r)),
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
            GROUP_MOD => Self::GroupMod(GroupMod::decode(r)?),
            PORT_MOD => Self::PortMod(PortMod::decode(r)?),
            TABLE_MOD => Self::TableMod(TableMod::decode(r)?),
            MULTIPART_REQUEST => Self::MultipartRequest(MultipartRequest::decode(r)?),
            MULTIPART_REPLY => Self::MultipartReply(MultipartReply::decode(r)?),
            BARRIER_REQUEST => Self::BarrierRequest,
            BARRIER_REPLY => Self::BarrierReply,
            ROLE_REQUEST => Self::RoleRequest(RoleMessage::decode(r)?),
            ROLE_REPLY => Self::RoleReply(RoleMessage::decode(r)?),
            GET_ASYNC_REQUEST => Self::GetAsyncRequest,
            GET_ASYNC_REPLY => Self::GetAsyncReply(AsyncConfig::decode(r)?),
            SET_ASYNC => Self::SetAsync(AsyncConfig::decode(r)?),
            METER_MOD => Self::MeterMod(MeterMod::decode(r)?),
            ROLE_STATUS => Self::RoleStatus(RoleStatus::decode(r)?),
            TABLE_STATUS => Self::TableStatus(TableStatus::decode(r)?),
            // A message within a message holds no other, and must not nest without bound here.
            REQUEST_FORWARD if outermost => Self::RequestForward(RequestForward::decode(r)?),
            BUNDLE_CONTROL => Self::BundleControl(BundleControl::decode(r)?),
            BUNDLE_ADD if outermost => Self::BundleAdd(BundleAdd::decode(xid, r)?),
            _ => Self::Unknown { kind, body: r.rest() },
        })
    }

    pub(super) fn encode(&self, xid: u32, w: &mut Writer<impl Sink>) {
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
            Self::GroupMod(change) => change.encode(w),
            Self::PortMod(change) => change.encode(w),
            Self::TableMod(change) => change.encode(w),
            Self::MultipartRequest(request) => request.encode(w),
            Self::MultipartReply(reply) => reply.encode(w),
            Self::FeaturesRequest
            | Self::GetConfigRequest
            | Self::BarrierRequest
            | Self::BarrierReply
            | Self::GetAsyncRequest => {}
            Self::RoleRequest(role) | Self::RoleReply(role) => role.encode(w),
            Self::GetAsyncReply(config) | Self::SetAsync(config) => config.encode(w),
            Self::MeterMod(change) => change.encode(w),
            Self::RoleStatus(status) => status.encode(w),
            Self::TableStatus(status) => status.encode(w),
            Self::RequestForward(forward) => forward.encode(w),
            Self::BundleControl(control) => control.encode(w),
            Self::BundleAdd(add) => add.encode(xid, w),
            Self::Unknown { body, .. } => w.slice(body),
        }
    }

    /// The text of a whole message, without the newline at its end.
    pub(super) fn message_text(&self, xid: u32, out: &mut String) -> fmt::Result {
        let version = if let Self::Hello(hello) = self { hello.version } else { VERSION };
        let bytes = || {
            let mut buf = BytesMut::new();
            encode_message(xid, self, &mut Writer::new(&mut buf));
            buf
        };
        match self.id(bytes).and_then(names::Id::name) {
            Ok(name) => {
                names::header_text(out, &name, version, xid)?;
                self.text(xid, out, bytes)?;
                if out.ends_with(' ') {
                    out.pop();
                }
            }
            Err(error) => names::unknown_text(out, error, &bytes())?,
        }
        if out.ends_with('\n') {
            out.pop();
        }
        Ok(())
    }

    fn id(&self, bytes: impl Fn() -> BytesMut) -> Result<names::Id, &'static str> {
        Ok(match self {
            Self::MultipartRequest(request) => request.id(),
            Self::MultipartReply(reply) => reply.id(),
            Self::Experimenter(message) => {
                let (experimenter, subtype) = message.numbers();
                names::Id::Experimenter(experimenter, subtype)
            }
            Self::Unknown { .. } => names::Id::read(&bytes()).ok_or("OFPBRC_BAD_LEN")?,
            _ => names::Id::Type(self.kind()),
        })
    }

    fn text(&self, xid: u32, out: &mut String, bytes: impl Fn() -> BytesMut) -> fmt::Result {
        match self {
            Self::Hello(hello) => hello.text(out, &bytes()),
            Self::Error(error) => error.text(out),
            Self::EchoRequest(data) | Self::EchoReply(data) => {
                write!(out, " {} bytes of payload", data.len())
            }
            Self::Experimenter(experimenter) => experimenter.text(out),
            Self::FeaturesReply(features) => features.text(out),
            Self::GetConfigReply(config) | Self::SetConfig(config) => config.text(out),
            Self::PacketIn(packet) => packet.text(out),
            Self::FlowRemoved(removed) => removed.text(out),
            Self::PortStatus(status) => status.text(out),
            Self::PacketOut(packet) => packet.text(out),
            Self::FlowMod(change) => change.text(out),
            Self::GroupMod(change) => change.text(out),
            Self::PortMod(change) => change.text(out),
            Self::TableMod(change) => change.text(out),
            Self::MultipartRequest(request) => request.text(out),
            Self::MultipartReply(reply) => reply.text(out),
            Self::FeaturesRequest
            | Self::GetConfigRequest
            | Self::BarrierRequest
            | Self::BarrierReply
            | Self::GetAsyncRequest => Ok(()),
            Self::RoleRequest(role) => role.text(out, true),
            Self::RoleReply(role) => role.text(out, false),
            Self::GetAsyncReply(config) | Self::SetAsync(config) => config.text(out),
            Self::MeterMod(change) => change.text(out),
            Self::RoleStatus(status) => status.text(out),
            Self::TableStatus(status) => status.text(out),
            Self::RequestForward(forward) => forward.text(out),
            Self::BundleControl(control) => control.text(out),
            Self::BundleAdd(add) => add.text(xid, out),
            Self::Unknown { .. } => {
                out.write_char('\n')?;
                hex_dump(out, &bytes())
            }
        }
    }
}
