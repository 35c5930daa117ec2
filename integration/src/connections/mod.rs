//! Connections of every kind between a guest and three peers, under a policy
//! that denies by default, while the guest is migrated: by Limosa, and by OVN's
//! own means, which shows that the connections would notice.

mod balancer;
mod fill;
mod hold;
mod kind;
mod link;
mod orders;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use balancer::{balance, route};
pub use fill::{fill, tracked, zone};
pub use hold::{HoldArgs, run as hold};
pub use kind::{Kind, Opener, Talk, Transport, Verdict};

use crate::demo::way::Way;
use crate::demo::{GUEST_IP, GUEST_MAC, Limosa, PORT, Teller};
use crate::guest::{Guest, migrate};
use crate::lab::{Lab, LabOptions};
use crate::network::LogicalPort;
use crate::policy::deny_by_default;
use hold::{FIRST_PORT, Holder};
use link::Own;

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the report goes.
    pub out: PathBuf,
    /// Every kind with one peer each, and not with every peer.
    pub quick: bool,
    /// How long the idle ones are idle before the guest moves.
    pub idle: Duration,
}

/// What became of the connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub limosa: Outcome,
    pub ovn: Outcome,
}

/// What became of them in one migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub verdicts: Vec<Verdict>,
    /// What Limosa says of them in the migration's object.
    pub carried: Value,
    /// What the source tracked and the target does not, once it decides.
    pub missing: Vec<String>,
}

impl Report {
    /// Every connection went on with Limosa, and some of the hard ones, of each
    /// kind, did not without: or this would show nothing.
    pub fn ok(&self) -> bool {
        let stalled = |transport| {
            let of_kind = |verdict: &&Verdict| verdict.kind.is_hard() && verdict.kind.transport == transport;
            self.ovn.verdicts.iter().filter(of_kind).any(|verdict| !verdict.went_on)
        };
        let Outcome { verdicts, missing, .. } = &self.limosa;
        let all_went_on = !verdicts.is_empty() && verdicts.iter().all(|verdict| verdict.went_on);
        all_went_on && missing.is_empty() && stalled(Transport::Tcp) && stalled(Transport::Udp)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (way, Outcome { verdicts, carried, missing }) in
            [("Limosa", &self.limosa), ("OVN's own", &self.ovn)]
        {
            let went_on = verdicts.iter().filter(|verdict| verdict.went_on).count();
            let (all, hard) = (verdicts.len(), verdicts.iter().filter(|v| v.kind.is_hard()).count());
            writeln!(
                f,
                "{way}: {went_on} of {all} connections went on ({hard} of them only if they are remembered)"
            )?;
            if let Some([median, slowest]) = idle_answers(verdicts) {
                writeln!(
                    f,
                    "  an idle one's next message was answered within {median:.0} ms, the slowest within {slowest:.0} ms"
                )?;
            }
            writeln!(
                f,
                "  {} of its entries are not on the target; in the object: {carried}",
                missing.len()
            )?;
            for Verdict { kind, peer, error, .. } in verdicts.iter().filter(|verdict| !verdict.went_on) {
                writeln!(f, "  stalled: {kind}, {peer}: {}", error.as_deref().unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

/// How long the next message of an idle connection took to be answered, milliseconds: the median,
/// and the longest.
fn idle_answers(verdicts: &[Verdict]) -> Option<[f64; 2]> {
    let idle = verdicts.iter().filter(|verdict| verdict.kind.is_idle());
    let mut took: Vec<f64> = idle.filter_map(|verdict| verdict.answered_ms).collect();
    took.sort_by(f64::total_cmp);
    Some([*took.get(took.len() / 2)?, *took.last()?])
}

/// A peer: its name, its chassis, the last octet of its addresses.
const PEERS: [(&str, &str, u8); 3] = [("p1", "ch1", 21), ("p2", "ch2", 22), ("p3", "ch3", 23)];
const GUEST_IP6: &str = "fd00:7::10";

/// Of a peer; a hundred above are those by which a load balancer offers it.
fn addresses(octet: u8) -> [IpAddr; 2] {
    let ip6 = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, octet.into());
    [Ipv4Addr::new(192, 168, 7, octet).into(), ip6.into()]
}

fn vips(octet: u8) -> [IpAddr; 2] {
    addresses(octet + 100)
}

/// Migrates a guest to and fro, and writes `report.json` and `report.txt`.
///
/// # Errors
///
/// When the lab does not come up, a migration does not complete, or the report
/// cannot be written.
pub async fn run(options: &Options) -> Result<Report> {
    let teller = Teller::new();
    Limosa::binary()?;
    std::fs::create_dir_all(&options.out).with_context(|| format!("create {}", options.out.display()))?;
    teller
        .tell("starting an OVN cluster of three chassis, with a policy that denies by default, and a guest");
    let lab = Lab::start(LabOptions::default()).await?;
    lab.switch("ls0").await?;
    for (name, chassis, octet) in PEERS {
        let [ip, ip6] = addresses(octet).map(|ip| ip.to_string());
        let mac = format!("02:00:00:00:02:{octet:02x}");
        lab.port("ls0", LogicalPort::new(name, &mac, &ip).with_ip6(&ip6)).await?;
        lab.endpoint(chassis, name).await?;
    }
    lab.port("ls0", LogicalPort::new(PORT, GUEST_MAC, GUEST_IP).with_ip6(GUEST_IP6)).await?;
    deny_by_default(&lab, PORT).await?;
    route(&lab, PEERS.map(|(_, _, octet)| vips(octet)).as_flattened()).await?;
    let limosa = Way::Limosa(Limosa::start(&lab).await?);
    let guest = Guest::start(&lab, "ch1", PORT).await?;

    let stage = Stage { lab: &lab, options, teller: &teller };
    teller.tell("by Limosa, from ch1 to ch2");
    let (guest, limosa) = stage.moved(&limosa, guest, "ch2", FIRST_PORT).await?;
    teller.tell("by OVN's own means, from ch2 to ch1");
    let (_, ovn) = stage.moved(&Way::Ovn, guest, "ch1", FIRST_PORT + 200).await?;
    let report = Report { limosa, ovn };
    let json = serde_json::to_vec_pretty(&report).context("write the report")?;
    std::fs::write(options.out.join("report.json"), json).context("write report.json")?;
    std::fs::write(options.out.join("report.txt"), report.to_string()).context("write report.txt")?;
    print!("\n{report}");
    Ok(report)
}

/// What a chassis tracks for the guest: addresses, mark and label.
async fn entries(lab: &Lab, chassis: &str) -> Result<BTreeSet<String>> {
    let tracked = tracked(lab, chassis, PORT).await?;
    Ok(tracked
        .iter()
        .map(|c| format!("{} {:?} mark={} label={:#x}", c.protocol, c.orig, c.mark, c.label))
        .collect())
}

struct Stage<'a> {
    lab: &'a Lab,
    options: &'a Options,
    teller: &'a Teller,
}

impl Stage<'_> {
    /// Holds connections over one migration of the guest, which returns on the
    /// target.
    async fn moved(
        &self,
        way: &Way,
        mut source: Guest,
        to: &str,
        first_port: u16,
    ) -> Result<(Guest, Outcome)> {
        let Self { lab, options, teller } = self;
        let from = source.chassis().to_owned();
        let mut holders = self.open(Kind::is_lasting, first_port).await?;
        tokio::time::sleep(options.idle).await;
        holders.extend(self.open(|kind| !kind.is_lasting(), first_port + 100).await?);
        teller.tell("the connections are open");
        let before = entries(lab, &from).await?;
        let mut ticket = way.begin(lab, PORT, &from, to).await?;
        let mut target = Guest::prepare_incoming(lab, to, PORT).await?;
        way.armed(lab, &ticket).await?;
        migrate(&mut source, &mut target).await?;
        way.follow(lab, &mut ticket, |text| teller.tell(text)).await?;
        let missing = before.difference(&entries(lab, to).await?).cloned().collect();
        source.kill(Signal::KILL).await?;
        source.unplug(lab).await?;
        way.end(lab, &mut ticket).await?;
        let carried = way.connections(lab, &ticket, &from).await?;
        let verdicts = try_join_all(holders.into_iter().map(Holder::finish)).await?.concat();
        let went_on = verdicts.iter().filter(|verdict| verdict.went_on).count();
        teller.tell(format!("{went_on} of {} connections went on", verdicts.len()));
        Ok((target, Outcome { verdicts, carried, missing }))
    }

    /// Opens those connections of each peer that are `wanted`.
    async fn open(&self, wanted: impl Fn(Kind) -> bool, first_port: u16) -> Result<Vec<Holder>> {
        let kinds: Vec<Kind> = [false, true].into_iter().flat_map(Kind::all).collect();
        let holders = (0..).zip(PEERS).map(|(place, (name, chassis, octet))| {
            // Each pair of openers with the same peer, in the other family with another.
            let is_mine = |number: usize| {
                let (family, number) = (number * 2 / kinds.len(), number % (kinds.len() / 2));
                !self.options.quick || (number / 2 + family) % 3 == place
            };
            let mine = (0..).zip(&kinds).filter(|(number, kind)| is_mine(*number) && wanted(**kind));
            let kinds: Vec<Kind> = mine.map(|(_, kind)| *kind).collect();
            async move {
                let ([ip, ip6], [vip, vip6]) = (addresses(octet), vips(octet));
                for (kind, port) in
                    kinds.iter().zip(first_port..).filter(|(kind, _)| kind.opener == Opener::Balanced)
                {
                    let [own, vip] = if kind.ip6 { [ip6, vip6] } else { [ip, vip] };
                    let own = Own::new(*kind, own, vip, port);
                    balance(self.lab, own.seen, &own.backends()).await?;
                }
                self.lab.sync().await?;
                let [own, own6, vip, vip6] = [ip, ip6, vip, vip6].map(|ip| ip.to_string());
                let (kinds, first_port) = (serde_json::to_string(&kinds)?, first_port.to_string());
                let args = [
                    ["--guest", GUEST_IP],
                    ["--guest6", GUEST_IP6],
                    ["--own", &own],
                    ["--own6", &own6],
                    ["--vip", &vip],
                    ["--vip6", &vip6],
                    ["--name", name],
                    ["--first-port", &first_port],
                    ["--kinds", &kinds],
                ];
                Holder::start(self.lab, &format!("{name}-{chassis}"), args.as_flattened()).await
            }
        });
        try_join_all(holders).await
    }
}
