//! Questions whose answers may take several messages (OpenFlow 1.5, section 7.3.5).

use std::fmt::{self, Write};

use bytes::Bytes;

use super::common::decode_all;
use super::flow_desc::FlowDescRequest;
use super::meter::MeterId;
use super::monitor::FlowMonitorRequest;
use super::multipart::{
    AGGREGATE, DESC, EXPERIMENTER, FLOW_DESC, FLOW_MONITOR, GROUP, GROUP_DESC, GROUP_FEATURES, IPFIX_BRIDGE,
    IPFIX_FLOW, METER, METER_CONFIG, METER_FEATURES, PORT, PORT_DESC, QUEUE, QUEUE_DESC, TABLE, TABLE_DESC,
    TABLE_FEATURES, decode_header, decode_id, encode_header, encode_nx, more_text, nx,
};
use super::names::Id;
use super::queue::QueueRequest;
use super::table_features::TableFeatures;
use super::text::group_id;
use super::{experimenter, table_text};
use crate::PortNo;
use crate::wire::{Reader, Result, Sink, Writer};

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
    /// What have flows done, all together?
    Aggregate(FlowDescRequest),
    /// How full are the tables?
    TableStats,
    /// What has this port done, or with [`PortNo::ANY`], each of them?
    PortStats(PortNo),
    /// What have queues done?
    QueueStats(QueueRequest),
    /// What has this group done, or with [`GROUP_ALL`](super::GROUP_ALL), each of them?
    GroupStats(u32),
    /// What is this group, or with [`GROUP_ALL`](super::GROUP_ALL), which groups are there?
    GroupDesc(u32),
    /// What can groups do?
    GroupFeatures,
    /// What has this meter done, or with [`METER_ALL`](super::METER_ALL), each of them?
    MeterStats(u32),
    /// What is this meter, or with [`METER_ALL`](super::METER_ALL), which meters are there?
    MeterConfig(u32),
    /// What can meters do?
    MeterFeatures,
    /// What can the tables do, or let them do this?
    TableFeatures(Vec<TableFeatures>),
    /// What is this port, or with [`PortNo::ANY`], which ports are there?
    PortDesc(PortNo),
    /// How are the tables set?
    TableDesc,
    /// Which queues are there?
    QueueDesc(QueueRequest),
    /// Tell me of flows, now and as they change.
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// What has the bridge's sampling done (`NXST_IPFIX_BRIDGE`)?
    IpfixBridge,
    /// What has the sampling of flows done (`NXST_IPFIX_FLOW`)?
    IpfixFlow,
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
            AGGREGATE => RequestBody::Aggregate(FlowDescRequest::decode(r)?),
            TABLE => RequestBody::TableStats,
            PORT => RequestBody::PortStats(PortNo(decode_id(r)?)),
            QUEUE => RequestBody::QueueStats(QueueRequest::decode(r)?),
            GROUP => RequestBody::GroupStats(decode_id(r)?),
            GROUP_DESC => RequestBody::GroupDesc(decode_id(r)?),
            GROUP_FEATURES => RequestBody::GroupFeatures,
            METER => RequestBody::MeterStats(decode_id(r)?),
            METER_CONFIG => RequestBody::MeterConfig(decode_id(r)?),
            METER_FEATURES => RequestBody::MeterFeatures,
            TABLE_FEATURES => RequestBody::TableFeatures(decode_all(r, TableFeatures::decode)?),
            PORT_DESC => RequestBody::PortDesc(PortNo(decode_id(r)?)),
            TABLE_DESC => RequestBody::TableDesc,
            QUEUE_DESC => RequestBody::QueueDesc(QueueRequest::decode(r)?),
            FLOW_MONITOR => RequestBody::FlowMonitor(decode_all(r, FlowMonitorRequest::decode)?),
            _ => match nx(kind, r) {
                Some(IPFIX_BRIDGE) => RequestBody::IpfixBridge,
                Some(IPFIX_FLOW) => RequestBody::IpfixFlow,
                _ => RequestBody::Other { kind, body: r.rest() },
            },
        };
        Ok(Self { more, body })
    }

    fn kind(&self) -> u16 {
        match &self.body {
            RequestBody::Desc => DESC,
            RequestBody::FlowDesc(_) => FLOW_DESC,
            RequestBody::Aggregate(_) => AGGREGATE,
            RequestBody::TableStats => TABLE,
            RequestBody::PortStats(_) => PORT,
            RequestBody::QueueStats(_) => QUEUE,
            RequestBody::GroupStats(_) => GROUP,
            RequestBody::GroupDesc(_) => GROUP_DESC,
            RequestBody::GroupFeatures => GROUP_FEATURES,
            RequestBody::MeterStats(_) => METER,
            RequestBody::MeterConfig(_) => METER_CONFIG,
            RequestBody::MeterFeatures => METER_FEATURES,
            RequestBody::TableFeatures(_) => TABLE_FEATURES,
            RequestBody::PortDesc(_) => PORT_DESC,
            RequestBody::TableDesc => TABLE_DESC,
            RequestBody::QueueDesc(_) => QUEUE_DESC,
            RequestBody::FlowMonitor(_) => FLOW_MONITOR,
            RequestBody::IpfixBridge | RequestBody::IpfixFlow => EXPERIMENTER,
            RequestBody::Other { kind, .. } => *kind,
        }
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        encode_header(self.kind(), self.more, w);
        match &self.body {
            RequestBody::Desc
            | RequestBody::TableStats
            | RequestBody::GroupFeatures
            | RequestBody::MeterFeatures
            | RequestBody::TableDesc => {}
            RequestBody::FlowDesc(request) | RequestBody::Aggregate(request) => request.encode(w),
            RequestBody::PortStats(PortNo(id))
            | RequestBody::PortDesc(PortNo(id))
            | RequestBody::GroupStats(id)
            | RequestBody::GroupDesc(id)
            | RequestBody::MeterStats(id)
            | RequestBody::MeterConfig(id) => {
                w.u32(*id);
                w.zeros(4);
            }
            RequestBody::QueueStats(request) | RequestBody::QueueDesc(request) => request.encode(w),
            RequestBody::TableFeatures(tables) => tables.iter().for_each(|table| table.encode(w)),
            RequestBody::FlowMonitor(requests) => requests.iter().for_each(|request| request.encode(w)),
            RequestBody::IpfixBridge => encode_nx(IPFIX_BRIDGE, w),
            RequestBody::IpfixFlow => encode_nx(IPFIX_FLOW, w),
            RequestBody::Other { body, .. } => w.slice(body),
        }
    }

    pub(super) fn id(&self) -> Id {
        match &self.body {
            RequestBody::IpfixBridge => Id::MultipartExperimenter(true, experimenter::NX, IPFIX_BRIDGE),
            RequestBody::IpfixFlow => Id::MultipartExperimenter(true, experimenter::NX, IPFIX_FLOW),
            RequestBody::Other { kind: EXPERIMENTER, body } => {
                let mut r = Reader::new(body, "multipart");
                Id::MultipartExperimenter(true, r.u32().unwrap_or(0), r.u32().unwrap_or(0))
            }
            _ => Id::Multipart(true, self.kind()),
        }
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        more_text(out, self.more)?;
        match &self.body {
            RequestBody::FlowDesc(request) | RequestBody::Aggregate(request) => request.text(out),
            RequestBody::PortStats(port) => write!(out, " port_no={port}"),
            RequestBody::PortDesc(port) => write!(out, " port={port}"),
            RequestBody::QueueStats(request) => request.text(out, true),
            RequestBody::QueueDesc(request) => request.text(out, false),
            RequestBody::GroupStats(id) | RequestBody::GroupDesc(id) => {
                write!(out, " group_id={}", group_id(*id))
            }
            RequestBody::MeterStats(id) | RequestBody::MeterConfig(id) => {
                write!(out, " meter={}", MeterId(*id))
            }
            RequestBody::TableFeatures(tables) => table_text::features_text(out, tables),
            RequestBody::FlowMonitor(requests) => requests.iter().try_for_each(|request| request.text(out)),
            _ => Ok(()),
        }
    }
}
