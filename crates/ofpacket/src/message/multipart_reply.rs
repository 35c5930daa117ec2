//! Answers that may take several messages (OpenFlow 1.5, section 7.3.5).

use std::fmt::{self, Write};

use bytes::Bytes;

use super::common::decode_all;
use super::flow_desc::{AggregateStats, decode_flow, encode_flow, flow_text};
use super::group::Group;
use super::group_stats::{GroupFeatures, GroupStats};
use super::ipfix::IpfixStats;
use super::meter::{MeterConfig, MeterFeatures, MeterStats};
use super::monitor::FlowUpdate;
use super::multipart::{
    AGGREGATE, DESC, EXPERIMENTER, FLOW_DESC, FLOW_MONITOR, GROUP, GROUP_DESC, GROUP_FEATURES, IPFIX_BRIDGE,
    IPFIX_FLOW, METER, METER_CONFIG, METER_FEATURES, PORT, PORT_DESC, QUEUE, QUEUE_DESC, TABLE, TABLE_DESC,
    TABLE_FEATURES, decode_header, encode_header, encode_nx, more_text, nx,
};
use super::names::Id;
use super::port_stats::PortStats;
use super::queue::{QueueDesc, QueueStats};
use super::switch_desc::SwitchDesc;
use super::table::{TableDesc, TableStats};
use super::table_features::TableFeatures;
use super::{PortDesc, experimenter, table_text};
use crate::flow::FlowStats;
use crate::wire::{Reader, Result, Sink, Writer};

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
    /// What flows have done, all together.
    Aggregate(AggregateStats),
    /// How full the tables are.
    TableStats(Vec<TableStats>),
    /// What ports have done.
    PortStats(Vec<PortStats>),
    /// What queues have done.
    QueueStats(Vec<QueueStats>),
    /// What groups have done.
    GroupStats(Vec<GroupStats>),
    /// Groups.
    GroupDesc(Vec<Group>),
    /// What groups can do.
    GroupFeatures(GroupFeatures),
    /// What meters have done.
    MeterStats(Vec<MeterStats>),
    /// Meters.
    MeterConfig(Vec<MeterConfig>),
    /// What meters can do.
    MeterFeatures(MeterFeatures),
    /// What tables can do.
    TableFeatures(Vec<TableFeatures>),
    /// Ports.
    PortDesc(Vec<PortDesc>),
    /// Tables.
    TableDesc(Vec<TableDesc>),
    /// Queues.
    QueueDesc(Vec<QueueDesc>),
    /// What a flow monitor saw.
    FlowMonitor(Vec<FlowUpdate>),
    /// What the bridge's sampling has done.
    IpfixBridge(IpfixStats),
    /// What the sampling of flows has done, for each set of collectors.
    IpfixFlow(Vec<IpfixStats>),
    /// Any other, as it was.
    Other {
        /// `ofp_multipart_type`.
        kind: u16,
        /// What follows the multipart header.
        body: Bytes,
    },
}

impl MultipartReply {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, more) = decode_header(r)?;
        let body = match kind {
            DESC => ReplyBody::Desc(Box::new(SwitchDesc::decode(r)?)),
            FLOW_DESC => ReplyBody::FlowDesc(decode_all(r, decode_flow)?),
            AGGREGATE => ReplyBody::Aggregate(AggregateStats::decode(r)?),
            TABLE => ReplyBody::TableStats(decode_all(r, TableStats::decode)?),
            PORT => ReplyBody::PortStats(decode_all(r, PortStats::decode)?),
            QUEUE => ReplyBody::QueueStats(decode_all(r, QueueStats::decode)?),
            GROUP => ReplyBody::GroupStats(decode_all(r, GroupStats::decode)?),
            GROUP_DESC => ReplyBody::GroupDesc(decode_all(r, Group::decode)?),
            GROUP_FEATURES => ReplyBody::GroupFeatures(GroupFeatures::decode(r)?),
            METER => ReplyBody::MeterStats(decode_all(r, MeterStats::decode)?),
            METER_CONFIG => ReplyBody::MeterConfig(decode_all(r, MeterConfig::decode)?),
            METER_FEATURES => ReplyBody::MeterFeatures(MeterFeatures::decode(r)?),
            TABLE_FEATURES => ReplyBody::TableFeatures(decode_all(r, TableFeatures::decode)?),
            PORT_DESC => ReplyBody::PortDesc(decode_all(r, PortDesc::decode)?),
            TABLE_DESC => ReplyBody::TableDesc(decode_all(r, TableDesc::decode)?),
            QUEUE_DESC => ReplyBody::QueueDesc(decode_all(r, QueueDesc::decode)?),
            FLOW_MONITOR => ReplyBody::FlowMonitor(decode_all(r, FlowUpdate::decode)?),
            _ => match nx(kind, r) {
                Some(IPFIX_BRIDGE) => ReplyBody::IpfixBridge(IpfixStats::decode(r)?),
                Some(IPFIX_FLOW) => ReplyBody::IpfixFlow(decode_all(r, IpfixStats::decode)?),
                _ => ReplyBody::Other { kind, body: r.rest() },
            },
        };
        Ok(Self { more, body })
    }

    fn kind(&self) -> u16 {
        match &self.body {
            ReplyBody::Desc(_) => DESC,
            ReplyBody::FlowDesc(_) => FLOW_DESC,
            ReplyBody::Aggregate(_) => AGGREGATE,
            ReplyBody::TableStats(_) => TABLE,
            ReplyBody::PortStats(_) => PORT,
            ReplyBody::QueueStats(_) => QUEUE,
            ReplyBody::GroupStats(_) => GROUP,
            ReplyBody::GroupDesc(_) => GROUP_DESC,
            ReplyBody::GroupFeatures(_) => GROUP_FEATURES,
            ReplyBody::MeterStats(_) => METER,
            ReplyBody::MeterConfig(_) => METER_CONFIG,
            ReplyBody::MeterFeatures(_) => METER_FEATURES,
            ReplyBody::TableFeatures(_) => TABLE_FEATURES,
            ReplyBody::PortDesc(_) => PORT_DESC,
            ReplyBody::TableDesc(_) => TABLE_DESC,
            ReplyBody::QueueDesc(_) => QUEUE_DESC,
            ReplyBody::FlowMonitor(_) => FLOW_MONITOR,
            ReplyBody::IpfixBridge(_) | ReplyBody::IpfixFlow(_) => EXPERIMENTER,
            ReplyBody::Other { kind, .. } => *kind,
        }
    }

    pub(super) fn encode(&self, w: &mut Writer<impl Sink>) {
        encode_header(self.kind(), self.more, w);
        match &self.body {
            ReplyBody::Desc(desc) => desc.encode(w),
            ReplyBody::FlowDesc(flows) => flows.iter().for_each(|flow| encode_flow(flow, w)),
            ReplyBody::Aggregate(stats) => stats.encode(w),
            ReplyBody::TableStats(tables) => tables.iter().for_each(|table| table.encode(w)),
            ReplyBody::PortStats(ports) => ports.iter().for_each(|port| port.encode(w)),
            ReplyBody::QueueStats(queues) => queues.iter().for_each(|queue| queue.encode(w)),
            ReplyBody::GroupStats(groups) => groups.iter().for_each(|group| group.encode(w)),
            ReplyBody::GroupDesc(groups) => groups.iter().for_each(|group| group.encode(w)),
            ReplyBody::GroupFeatures(features) => features.encode(w),
            ReplyBody::MeterStats(meters) => meters.iter().for_each(|meter| meter.encode(w)),
            ReplyBody::MeterConfig(meters) => meters.iter().for_each(|meter| meter.encode(w)),
            ReplyBody::MeterFeatures(features) => features.encode(w),
            ReplyBody::TableFeatures(tables) => tables.iter().for_each(|table| table.encode(w)),
            ReplyBody::PortDesc(ports) => ports.iter().for_each(|port| port.encode(w)),
            ReplyBody::TableDesc(tables) => tables.iter().for_each(|table| table.encode(w)),
            ReplyBody::QueueDesc(queues) => queues.iter().for_each(|queue| queue.encode(w)),
            ReplyBody::FlowMonitor(updates) => updates.iter().for_each(|update| update.encode(w)),
            ReplyBody::IpfixBridge(stats) => {
                encode_nx(IPFIX_BRIDGE, w);
                stats.encode(w);
            }
            ReplyBody::IpfixFlow(stats) => {
                encode_nx(IPFIX_FLOW, w);
                stats.iter().for_each(|stats| stats.encode(w));
            }
            ReplyBody::Other { body, .. } => w.slice(body),
        }
    }

    pub(super) fn id(&self) -> Id {
        match &self.body {
            ReplyBody::IpfixBridge(_) => Id::MultipartExperimenter(false, experimenter::NX, IPFIX_BRIDGE),
            ReplyBody::IpfixFlow(_) => Id::MultipartExperimenter(false, experimenter::NX, IPFIX_FLOW),
            ReplyBody::Other { kind: EXPERIMENTER, body } => {
                let mut r = Reader::new(body, "multipart");
                Id::MultipartExperimenter(false, r.u32().unwrap_or(0), r.u32().unwrap_or(0))
            }
            _ => Id::Multipart(false, self.kind()),
        }
    }

    pub(super) fn text(&self, out: &mut String) -> fmt::Result {
        more_text(out, self.more)?;
        match &self.body {
            ReplyBody::Desc(desc) => desc.text(out),
            ReplyBody::FlowDesc(flows) => flows.iter().try_for_each(|flow| flow_text(flow, out)),
            ReplyBody::Aggregate(stats) => stats.text(out),
            ReplyBody::TableStats(tables) => table_text::stats_text(out, tables),
            ReplyBody::PortStats(ports) => {
                writeln!(out, " {} ports", ports.len())?;
                ports.iter().try_for_each(|port| port.text(out))
            }
            ReplyBody::QueueStats(queues) => {
                writeln!(out, " {} queues", queues.len())?;
                queues.iter().try_for_each(|queue| queue.text(out))
            }
            ReplyBody::GroupStats(groups) => groups.iter().try_for_each(|group| group.text(out)),
            ReplyBody::GroupDesc(groups) => groups.iter().try_for_each(|group| {
                out.write_str("\n ")?;
                group.text(out, true)
            }),
            ReplyBody::GroupFeatures(features) => features.text(out),
            ReplyBody::MeterStats(meters) => meters.iter().try_for_each(|meter| meter.text(out)),
            ReplyBody::MeterConfig(meters) => meters.iter().try_for_each(|meter| {
                out.write_char('\n')?;
                meter.text(out)
            }),
            ReplyBody::MeterFeatures(features) => features.text(out),
            ReplyBody::TableFeatures(tables) => table_text::features_text(out, tables),
            ReplyBody::PortDesc(ports) => {
                out.write_char('\n')?;
                let mut sorted: Vec<_> = ports.iter().collect();
                sorted.sort_by_key(|port| port.port_no);
                sorted.into_iter().try_for_each(|port| port.text(out))
            }
            ReplyBody::TableDesc(tables) => tables.iter().try_for_each(|table| table.text(out)),
            ReplyBody::QueueDesc(queues) => QueueDesc::text_all(queues, out),
            ReplyBody::FlowMonitor(updates) => updates.iter().try_for_each(|update| update.text(out)),
            ReplyBody::IpfixBridge(stats) => stats.bridge_text(out),
            ReplyBody::IpfixFlow(stats) => {
                writeln!(out, " {} ids", stats.len())?;
                stats.iter().try_for_each(|stats| stats.flow_text(out))
            }
            ReplyBody::Other { .. } => Ok(()),
        }
    }
}
