//! Questions whose answers may take several messages (OpenFlow 1.5, section 7.3.5).
//!
//! ```text
//!  header  64       80      96                128
//! +--------+--------+-------+-----------------+----------+
//! |   ...  |  type  | flags |       0         | body ... |
//! +--------+--------+-------+-----------------+----------+
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::monitor::{FlowMonitorRequest, FlowUpdate};
use super::{GROUP_ANY, PortDesc, TABLE_ALL};
use crate::error::DecodeErrorKind;
use crate::flow::{Flow, FlowStats};
use crate::instruction::Instruction;
use crate::wire::{Reader, Result, Writer};
use crate::{Match, PortNo};

const DESC: u16 = 0;
const FLOW_DESC: u16 = 1;
const PORT_DESC: u16 = 13;
const TABLE_DESC: u16 = 14;
const FLOW_MONITOR: u16 = 16;

/// In `flags`: another message of the same xid follows.
const MORE: u16 = 1;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartRequest {
    /// Another part of the question follows.
    pub more: bool,
    /// The question.
    pub body: RequestBody,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestBody {
    /// Who made the switch?
    Desc,
    /// Which flows are there?
    FlowDesc(FlowDescRequest),
    /// What is this port, or with [`PortNo::ANY`], which ports are there?
    PortDesc(PortNo),
    /// How are the tables set?
    TableDesc,
    /// Tell me of flows, now and as they change.
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// Any other, as it was.
    Other {
        /// `ofp_multipart_type`.
        kind: u16,
        /// What follows the multipart header.
        body: Bytes,
    },
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartReply {
    /// Another part follows.
    pub more: bool,
    /// The part.
    pub body: ReplyBody,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyBody {
    /// Who made the switch.
    Desc(Box<SwitchDesc>),
    /// Flows.
    FlowDesc(Vec<FlowStats>),
    /// Ports.
    PortDesc(Vec<PortDesc>),
    /// Tables.
    TableDesc(Vec<TableDesc>),
    /// What a flow monitor saw.
    FlowMonitor(Vec<FlowUpdate>),
    /// Any other, as it was.
    Other {
        /// `ofp_multipart_type`.
        kind: u16,
        /// What follows the multipart header.
        body: Bytes,
    },
}

impl MultipartRequest {
    /// A question in one message.
    pub fn new(body: RequestBody) -> Self {
        Self { more: false, body }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, more) = decode_header(r)?;
        let body = match kind {
            DESC => RequestBody::Desc,
            FLOW_DESC => RequestBody::FlowDesc(FlowDescRequest::decode(r)?),
            PORT_DESC => {
                let port = PortNo(r.u32()?);
                r.skip(4)?;
                RequestBody::PortDesc(port)
            }
            TABLE_DESC => RequestBody::TableDesc,
            FLOW_MONITOR => RequestBody::FlowMonitor(decode_all(r, FlowMonitorRequest::decode)?),
            _ => RequestBody::Other { kind, body: r.rest() },
        };
        Ok(Self { more, body })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        let kind = match &self.body {
            RequestBody::Desc => DESC,
            RequestBody::FlowDesc(_) => FLOW_DESC,
            RequestBody::PortDesc(_) => PORT_DESC,
            RequestBody::TableDesc => TABLE_DESC,
            RequestBody::FlowMonitor(_) => FLOW_MONITOR,
            RequestBody::Other { kind, .. } => *kind,
        };
        encode_header(kind, self.more, w);
        match &self.body {
            RequestBody::Desc | RequestBody::TableDesc => {}
            RequestBody::FlowDesc(request) => request.encode(w),
            RequestBody::PortDesc(port) => {
                w.u32(port.0);
                w.zeros(4);
            }
            RequestBody::FlowMonitor(requests) => requests.iter().for_each(|request| request.encode(w)),
            RequestBody::Other { body, .. } => w.slice(body),
        }
    }
}

impl MultipartReply {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, more) = decode_header(r)?;
        let body = match kind {
            DESC => ReplyBody::Desc(Box::new(SwitchDesc::decode(r)?)),
            FLOW_DESC => ReplyBody::FlowDesc(decode_all(r, decode_flow)?),
            PORT_DESC => ReplyBody::PortDesc(decode_all(r, PortDesc::decode)?),
            TABLE_DESC => ReplyBody::TableDesc(decode_all(r, TableDesc::decode)?),
            FLOW_MONITOR => ReplyBody::FlowMonitor(decode_all(r, FlowUpdate::decode)?),
            _ => ReplyBody::Other { kind, body: r.rest() },
        };
        Ok(Self { more, body })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        let kind = match &self.body {
            ReplyBody::Desc(_) => DESC,
            ReplyBody::FlowDesc(_) => FLOW_DESC,
            ReplyBody::PortDesc(_) => PORT_DESC,
            ReplyBody::TableDesc(_) => TABLE_DESC,
            ReplyBody::FlowMonitor(_) => FLOW_MONITOR,
            ReplyBody::Other { kind, .. } => *kind,
        };
        encode_header(kind, self.more, w);
        match &self.body {
            ReplyBody::Desc(desc) => desc.encode(w),
            ReplyBody::FlowDesc(flows) => flows.iter().for_each(|flow| encode_flow(flow, w)),
            ReplyBody::PortDesc(ports) => ports.iter().for_each(|port| port.encode(w)),
            ReplyBody::TableDesc(tables) => tables.iter().for_each(|table| table.encode(w)),
            ReplyBody::FlowMonitor(updates) => updates.iter().for_each(|update| update.encode(w)),
            ReplyBody::Other { body, .. } => w.slice(body),
        }
    }
}

fn decode_header(r: &mut Reader<'_>) -> Result<(u16, bool)> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    r.skip(4)?;
    Ok((kind, flags & MORE != 0))
}

fn encode_header(kind: u16, more: bool, w: &mut Writer<'_>) {
    w.u16(kind);
    w.u16(if more { MORE } else { 0 });
    w.zeros(4);
}

/// Entries up to the end.
fn decode_all<'a, T>(r: &mut Reader<'a>, one: impl Fn(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    while !r.is_empty() {
        out.push(one(r)?);
    }
    Ok(out)
}

/// Who made a switch (OpenFlow 1.5, section 7.3.5.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwitchDesc {
    /// Manufacturer.
    pub manufacturer: String,
    /// Hardware.
    pub hardware: String,
    /// Software; with Open vSwitch its version.
    pub software: String,
    /// Serial number.
    pub serial: String,
    /// For people; with Open vSwitch the bridge's name.
    pub datapath: String,
}

const DESC_LEN: usize = 256;
const SERIAL_LEN: usize = 32;

impl SwitchDesc {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            manufacturer: decode_text(r, DESC_LEN)?,
            hardware: decode_text(r, DESC_LEN)?,
            software: decode_text(r, DESC_LEN)?,
            serial: decode_text(r, SERIAL_LEN)?,
            datapath: decode_text(r, DESC_LEN)?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        encode_text(&self.manufacturer, DESC_LEN, w);
        encode_text(&self.hardware, DESC_LEN, w);
        encode_text(&self.software, DESC_LEN, w);
        encode_text(&self.serial, SERIAL_LEN, w);
        encode_text(&self.datapath, DESC_LEN, w);
    }
}

/// A text in a field of fixed length, up to its first zero.
pub(super) fn decode_text(r: &mut Reader<'_>, len: usize) -> Result<String> {
    let bytes = r.take(len)?;
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(len);
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// A text in a field of fixed length, cut to leave room for a zero.
pub(super) fn encode_text(text: &str, len: usize, w: &mut Writer<'_>) {
    let end = (0..len).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let bytes = &text.as_bytes()[..end.min(text.len())];
    w.slice(bytes);
    w.zeros(len - bytes.len());
}

/// How a table is set (OpenFlow 1.5, section 7.3.5.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDesc {
    /// Which table.
    pub table_id: u8,
    /// `ofp_table_config`.
    pub config: u32,
    /// Eviction and vacancy events, as they were.
    pub properties: Bytes,
}

impl TableDesc {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut entry = entry(r, 2, 8, "table description")?;
        let table_id = entry.u8()?;
        entry.skip(1)?;
        Ok(Self { table_id, config: entry.u32()?, properties: entry.rest() })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        let from = w.pos();
        w.u16(0);
        w.u8(self.table_id);
        w.u8(0);
        w.u32(self.config);
        w.slice(&self.properties);
        w.patch_len(from, from, "table description");
    }
}

/// The next entry that begins with its own 16-bit length, which is at least `min`; `skip` bytes of it, the
/// length among them, are behind the reader.
pub(super) fn entry<'a>(
    r: &mut Reader<'a>,
    skip: usize,
    min: usize,
    what: &'static str,
) -> Result<Reader<'a>> {
    let mut head = r.clone().named(what);
    let len = usize::from(head.u16()?);
    if len < min {
        return Err(head.error(DecodeErrorKind::BadLength(len)));
    }
    let mut entry = r.sub(len, what)?;
    entry.skip(skip)?;
    Ok(entry)
}

/// Which flows to tell of (OpenFlow 1.5, section 7.3.5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowDescRequest {
    /// From this table, or [`TABLE_ALL`].
    pub table_id: u8,
    /// Only those that output there; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Only those that use this group; [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// The cookie's bits.
    pub cookie: u64,
    /// Which of them count.
    pub cookie_mask: u64,
    /// Only those at least as specific.
    pub match_: Match,
}

impl Default for FlowDescRequest {
    /// All flows.
    fn default() -> Self {
        Self {
            table_id: TABLE_ALL,
            out_port: PortNo::ANY,
            out_group: GROUP_ANY,
            cookie: 0,
            cookie_mask: 0,
            match_: Match::new(),
        }
    }
}

impl FlowDescRequest {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let table_id = r.u8()?;
        r.skip(3)?;
        let (out_port, out_group) = (PortNo(r.u32()?), r.u32()?);
        r.skip(4)?;
        let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
        Ok(Self { table_id, out_port, out_group, cookie, cookie_mask, match_: Match::decode(r)? })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.u8(self.table_id);
        w.zeros(3);
        w.u32(self.out_port.0);
        w.u32(self.out_group);
        w.zeros(4);
        w.u64(self.cookie);
        w.u64(self.cookie_mask);
        self.match_.encode(w);
    }
}

/// A flow with its statistics (OpenFlow 1.5, section 7.3.5.2, `ofp_flow_desc`).
///
/// ```text
/// +--------+---+-------+---+----------+------+------+-------+------------+--------+
/// | length | 0 | table | 0 | priority | idle | hard | flags | importance | cookie |
/// +--------+---+-------+---+----------+------+------+-------+------------+--------+
/// | match               | statistics              | instructions                  |
/// +---------------------+-------------------------+-------------------------------+
/// ```
fn decode_flow(r: &mut Reader<'_>) -> Result<FlowStats> {
    let mut r = entry(r, 4, 24, "flow description")?;
    let table_id = r.u8()?;
    r.skip(1)?;
    let (priority, idle_timeout, hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let (flags, importance, cookie) = (r.u16()?, r.u16()?, r.u64()?);
    let flow = Flow {
        cookie,
        idle_timeout,
        hard_timeout,
        importance,
        flags,
        ..Flow::new(table_id, priority, Match::decode(&mut r)?, Vec::new())
    };
    let mut stats = FlowStats { flow, duration: Duration::ZERO, idle: None, packet_count: 0, byte_count: 0 };
    decode_stats(&mut r, &mut stats)?;
    stats.flow.instructions = Instruction::decode_all(r)?;
    Ok(stats)
}

fn encode_flow(stats: &FlowStats, w: &mut Writer<'_>) {
    let flow = &stats.flow;
    let from = w.pos();
    w.zeros(4);
    w.u8(flow.table_id);
    w.u8(0);
    w.u16(flow.priority);
    w.u16(flow.idle_timeout);
    w.u16(flow.hard_timeout);
    w.u16(flow.flags);
    w.u16(flow.importance);
    w.u64(flow.cookie);
    flow.match_.encode(w);
    encode_stats(stats, w);
    flow.instructions.iter().for_each(|instruction| instruction.encode(w));
    w.patch_len(from, from, "flow description");
}

/// `OXS_OF_*`: class 0x8002, field, length 8.
const OXS_DURATION: u32 = 0x8002_0008;
const OXS_IDLE_TIME: u32 = 0x8002_0208;
const OXS_PACKET_COUNT: u32 = 0x8002_0808;
const OXS_BYTE_COUNT: u32 = 0x8002_0a08;

/// Statistics (OpenFlow 1.5, section 7.2.8): `{ reserved16, length16 }` and fields that look like match
/// fields. Those that are not known here are skipped.
pub(super) fn decode_stats(r: &mut Reader<'_>, stats: &mut FlowStats) -> Result<()> {
    let mut head = r.clone().named("statistics");
    head.skip(2)?;
    let len = usize::from(head.u16()?);
    if len < 4 {
        return Err(head.error(DecodeErrorKind::BadLength(len)));
    }
    let mut body = r.sub(len, "statistics")?;
    r.skip_padding(len);
    body.skip(4)?;
    while !body.is_empty() {
        let header = body.u32()?;
        let mut value = body.sub((header & 0xff) as usize, "statistics")?;
        match header {
            OXS_DURATION => stats.duration = decode_duration(&mut value)?,
            OXS_IDLE_TIME => stats.idle = Some(decode_duration(&mut value)?),
            OXS_PACKET_COUNT => stats.packet_count = value.u64()?,
            OXS_BYTE_COUNT => stats.byte_count = value.u64()?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn encode_stats(stats: &FlowStats, w: &mut Writer<'_>) {
    let from = w.pos();
    w.zeros(4);
    encode_duration(OXS_DURATION, stats.duration, w);
    if let Some(idle) = stats.idle {
        encode_duration(OXS_IDLE_TIME, idle, w);
    }
    w.u32(OXS_PACKET_COUNT);
    w.u64(stats.packet_count);
    w.u32(OXS_BYTE_COUNT);
    w.u64(stats.byte_count);
    w.patch_len(from + 2, from, "statistics");
    w.pad(from);
}

/// Seconds and nanoseconds, 32 bits each.
fn decode_duration(r: &mut Reader<'_>) -> Result<Duration> {
    let (seconds, nanoseconds) = (r.u32()?, r.u32()?);
    Ok(Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds.into()))
}

fn encode_duration(header: u32, duration: Duration, w: &mut Writer<'_>) {
    w.u32(header);
    w.u32(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX));
    w.u32(duration.subsec_nanos());
}
