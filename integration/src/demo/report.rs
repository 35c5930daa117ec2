//! What the demo found: for a program as JSON, for a person as one page of
//! HTML that needs nothing else, and in short for the terminal.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::baseline::Baseline;
use super::limosa::Step;
use super::since;
use crate::analysis::{Analysis, PeerAnalysis};
use crate::busy::Recomputed;
use crate::guest::MigrationTimes;
use crate::lab::{CENTRAL, Lab};
use crate::probe::{ProbeResult, asks_every};
use crate::tcp::TcpResult;

const PAGE: &str = include_str!("report.html");

/// Where the page's data goes.
const DATA_MARK: &str = "/*DATA*/";

/// What a peer sends in so many milliseconds may come twice in a migration.
const MAY_COME_TWICE: u64 = 5;

/// What the lab ran on.
#[derive(Debug, Clone, Serialize)]
pub struct Versions {
    /// Open vSwitch.
    pub ovs: String,
    /// OVN.
    pub ovn: String,
    /// QEMU.
    pub qemu: String,
}

impl Versions {
    /// Asks the programs.
    pub(crate) async fn of(lab: &Lab) -> Result<Self> {
        let of = async |program: &str| -> Result<String> {
            let said = lab.exec_in(CENTRAL, &[program, "--version"]).await?;
            let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
            Ok(said.split_whitespace().find(number).unwrap_or("unknown").to_owned())
        };
        Ok(Self {
            ovs: of("ovs-vswitchd").await?,
            ovn: of("ovn-controller").await?,
            qemu: of("qemu-system-x86_64").await?,
        })
    }
}

/// One migration. Times are milliseconds since the guest's pause.
#[derive(Debug, Clone, Serialize)]
pub struct Migration {
    /// The chassis that the guest left.
    pub from: String,
    /// The chassis that it went to.
    pub to: String,
    /// From QEMU's `STOP` on the source to its `RESUME` on the target.
    pub guest_pause_ms: f64,
    /// From the guest's announcement to the first packet that reached it.
    pub activation_ms: Option<f64>,
    /// When the guest announced itself.
    pub rarp_ms: Option<f64>,
    /// When that first packet reached it.
    pub first_packet_ms: Option<f64>,
    /// When its first answer left.
    pub first_answer_ms: Option<f64>,
    /// The steps of the migration as a whole.
    pub steps: BTreeMap<String, f64>,
    /// The steps that each chassis took.
    pub chassis_steps: BTreeMap<String, BTreeMap<String, f64>>,
    /// The peers.
    pub peers: BTreeMap<String, PeerAnalysis>,
    #[serde(skip)]
    packets: BTreeMap<String, Packets>,
}

/// Packets of a peer, for the picture: those that asked for an answer, and those
/// that were lost while the guest ran.
#[derive(Debug, Clone, Default, Serialize)]
struct Packets {
    numbers: Vec<u64>,
    /// When each was sent, hundredths of a millisecond since the pause.
    sent: Vec<i64>,
    /// How long the answer took, hundredths of a millisecond; -1 for none.
    took: Vec<i64>,
    /// The places here of those answered more than once.
    twice: Vec<usize>,
}

impl Packets {
    fn of(probe: &ProbeResult, peer: &PeerAnalysis, pause_ns: i64) -> Self {
        const HUNDREDTH: i64 = 10_000;
        let lost: HashSet<u64> = peer.losses.iter().map(|loss| loss.number).collect();
        let mut answers: HashMap<u64, Vec<i64>> = HashMap::new();
        for &(number, at) in &probe.arrivals {
            answers.entry(number).or_default().push(at);
        }
        let mut packets = Self::default();
        for (number, sent) in (0..).zip(&probe.sent) {
            if !probe.asks(number) && !lost.contains(&number) {
                continue;
            }
            let answers = answers.get(&number).map_or(&[][..], Vec::as_slice);
            if answers.len() > 1 {
                packets.twice.push(packets.sent.len());
            }
            packets.numbers.push(number);
            packets.sent.push((sent - pause_ns) / HUNDREDTH);
            packets.took.push(answers.first().map_or(-1, |at| ((at - sent) / HUNDREDTH).max(0)));
        }
        packets
    }
}

impl Migration {
    pub(super) fn new(
        from: &str,
        to: &str,
        times: MigrationTimes,
        taken: &[Step],
        analysis: Analysis,
        peers: &[(String, Ipv4Addr, ProbeResult)],
    ) -> Self {
        let pause_ns = times.pause.monotonic_ns;
        let mut steps = BTreeMap::new();
        let mut chassis_steps: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for step in taken {
            let at = since(pause_ns, step.at_ns);
            if step.who.starts_with("ch") {
                chassis_steps.entry(step.who.clone()).or_default().insert(step.name.clone(), at);
            } else {
                steps.insert(step.name.clone(), at);
            }
        }
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            guest_pause_ms: since(pause_ns, times.resume.monotonic_ns),
            activation_ms: analysis.activation_ms(),
            rarp_ms: analysis.rarp_ns.map(|at| since(pause_ns, at)),
            first_packet_ms: analysis.first.as_ref().map(|first| since(pause_ns, first.delivered_ns)),
            first_answer_ms: analysis.first_answer_ns.map(|at| since(pause_ns, at)),
            steps,
            chassis_steps,
            packets: peers
                .iter()
                .map(|(name, _, probe)| (name.clone(), Packets::of(probe, &analysis.peers[name], pause_ns)))
                .collect(),
            peers: analysis.peers,
        }
    }

    pub(super) fn sum(&self, of: impl Fn(&PeerAnalysis) -> u64) -> u64 {
        self.peers.values().map(of).sum()
    }

    /// Its result in a sentence.
    pub(super) fn in_words(&self) -> String {
        let activation =
            self.activation_ms.map_or_else(|| "never".to_owned(), |ms| format!("within {ms:.1} ms"));
        format!(
            "of {} packets {} were lost while the guest stood still, {} after that, {} came twice; \
             it left {} unanswered, and was reachable {activation}",
            self.sum(|p| p.sent),
            self.sum(|p| p.lost_in_pause),
            self.sum(|p| p.lost_after_activation),
            self.sum(|p| p.duplicates),
            self.sum(|p| p.unanswered),
        )
    }
}

/// What the demo found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether everything is as it should be.
    pub ok: bool,
    /// What is not.
    pub failures: Vec<String>,
    /// The migrations, in order.
    pub migrations: Vec<Migration>,
    /// The connection that was held.
    pub tcp: Option<TcpResult>,
    /// What the lab ran on.
    pub versions: Versions,
    /// Probes a second from each peer.
    pub rate: u32,
    /// Those of them that ask for an answer: one of so many.
    pub asks_every: u64,
    /// What was lost without any migration, by rate.
    pub baseline: Vec<Baseline>,
    /// Who handed the port over: `limosa`, or `ovn` by its own means.
    pub way: &'static str,
    /// What else every ovn-controller had to do.
    pub busy: Option<Recomputed>,
}

impl Report {
    pub(super) fn new(versions: Versions, rate: u32, ovn: bool) -> Self {
        let way = if ovn { "ovn" } else { "limosa" };
        Self {
            ok: false,
            failures: Vec::new(),
            migrations: Vec::new(),
            tcp: None,
            versions,
            rate,
            asks_every: asks_every(rate),
            baseline: Vec::new(),
            way,
            busy: None,
        }
    }

    /// Adds what the numbers say to what went wrong. OVN's own way loses
    /// packets and makes no promise: its losses are not failures.
    pub(super) fn judge(&mut self) {
        let promised = self.way != "ovn";
        let mut failures = Vec::new();
        if let Some(same) = self.baseline.iter().find(|same| same.rate == self.rate && same.lost > 0) {
            let Baseline { lost, sent, .. } = same;
            failures.push(format!(
                "{lost} of {sent} packets are lost at this rate without any migration: choose a lower --rate"
            ));
        }
        let few = u64::from(self.rate) * MAY_COME_TWICE / 1000;
        for migration in &self.migrations {
            let way = format!("{} to {}", migration.from, migration.to);
            if migration.activation_ms.is_none() {
                failures.push(format!("{way}: the guest answered nothing on the target"));
            }
            // A guest that is sent more than it can answer is not the network's affair.
            let answers_all = self.asks_every == 1;
            for (name, peer) in migration.peers.iter().filter(|_| promised) {
                for (count, what) in [
                    (peer.lost_before_pause, "lost before the guest's pause"),
                    (peer.lost_after_activation, "lost after the guest was reachable again"),
                    (peer.unanswered * u64::from(answers_all), "not answered by the guest"),
                    (if peer.duplicates > few { peer.duplicates } else { 0 }, "came twice"),
                ] {
                    if count > 0 {
                        failures.push(format!("{way}: {name}: {count} of {} packets {what}", peer.sent));
                    }
                }
            }
        }
        match &self.tcp {
            Some(tcp) if tcp.good() => {}
            Some(tcp) => {
                let why = tcp.error.as_deref().unwrap_or("what came back is not what was sent");
                failures.push(format!("the TCP connection did not carry its bytes to the end: {why}"));
            }
            None => failures.push("the TCP connection was not held to the end".to_owned()),
        }
        self.failures.extend(failures);
        self.ok = self.failures.is_empty();
    }

    /// Writes `report.json` and `report.html`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("write the report as JSON")?;
        fs::write(dir.join("report.json"), json + "\n").context("write report.json")?;
        let packets: Vec<_> = self.migrations.iter().map(|migration| &migration.packets).collect();
        // In a script element nothing but its end tag is special to HTML.
        let data = json!({ "report": self, "packets": packets }).to_string().replace("</", "<\\/");
        fs::write(dir.join("report.html"), PAGE.replacen(DATA_MARK, &data, 1)).context("write report.html")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "                 guest   reach-  packets     lost     lost    lost           unan-   longest"
        )?;
        writeln!(
            f,
            "migration   peer pause    able      sent   before in pause   after  twice  swered   silence"
        )?;
        for migration in &self.migrations {
            for (number, (name, peer)) in migration.peers.iter().enumerate() {
                let first = number == 0;
                let way =
                    if first { format!("{} > {}", migration.from, migration.to) } else { String::new() };
                let pause = if first { format!("{:.1} ms", migration.guest_pause_ms) } else { String::new() };
                let reach = migration.activation_ms.filter(|_| first);
                let reach = reach.map_or_else(String::new, |ms| format!("{ms:.1} ms"));
                writeln!(
                    f,
                    "{way:<11} {name:<3} {pause:>7} {reach:>7} {:>9} {:>8} {:>8} {:>7} {:>6} {:>7} {:>6.0} ms",
                    peer.sent,
                    peer.lost_before_pause,
                    peer.lost_in_pause,
                    peer.lost_after_activation,
                    peer.duplicates,
                    peer.unanswered,
                    peer.longest_silence_ms
                )?;
            }
        }
        if self.asks_every > 1 {
            writeln!(
                f,
                "\nthe guest was asked to answer one packet of {}; the others count at its interface",
                self.asks_every
            )?;
        }
        if !self.baseline.is_empty() {
            writeln!(f, "\nwithout any migration:")?;
        }
        for baseline in &self.baseline {
            writeln!(f, "  {baseline}")?;
        }
        if let Some(tcp) = &self.tcp {
            let how = if tcp.good() { "whole and in order" } else { "NOT whole" };
            writeln!(
                f,
                "\nTCP: {} kB there and {} kB back, {how}; longest stall {:.0} ms",
                tcp.sent / 1000,
                tcp.received / 1000,
                tcp.longest_stall_ms
            )?;
        }
        if let Some(Recomputed { flows, recomputed }) = &self.busy {
            writeln!(f, "the chassis had {flows:?} flows, and computed OVN's anew {recomputed:?} times")?;
        }
        let Versions { ovs, ovn, qemu } = &self.versions;
        writeln!(f, "Open vSwitch {ovs}, OVN {ovn}, QEMU {qemu}\n")?;
        if self.ok {
            let text =
                if self.way == "ovn" { "This was OVN's own way." } else { "Everything is as it should be." };
            return writeln!(f, "{text}");
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        Ok(())
    }
}
