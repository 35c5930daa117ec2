//! The demo: a guest goes from chassis to chassis and back under constant
//! probing, and every packet is accounted for.

mod baseline;
mod comparison;
mod limosa;
mod report;
pub(crate) mod way;

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rustix::process::Signal;

pub use baseline::Baseline;
pub use comparison::{Comparison, both};
pub use limosa::{COOKIE_MAGIC, Limosa, Object, Step, flows_of_ours, is_ours, left_behind};
pub use report::{Migration, Report, Versions};
use way::Way;

use crate::analysis::{Observed, analyse};
use crate::busy::{self, Busy, OVN_FLOWS};
use crate::clock::MS;
use crate::daemon::Daemon;
use crate::guest::{Guest, migrate};
use crate::lab::{Lab, LabOptions};
use crate::network::LogicalPort;
use crate::probe::{ANSWERED_RATE, ProbeResult, Prober};
use crate::sniff::Sniffer;
use crate::tcp::HeldTcp;

/// The logical port, and the guest behind it.
pub(crate) const PORT: &str = "vm1";
pub(crate) const GUEST_MAC: &str = "02:00:00:00:01:01";
pub(crate) const GUEST_IP: &str = "192.168.7.10";

/// A second address of the port, which the guest does not have: what is sent there comes to its
/// interface, and its network card passes it over.
const SILENT_MAC: &str = "02:00:00:00:01:fe";
const SILENT_IP: &str = "192.168.7.254";

/// The lab's peers, one on every chassis: one on the source, one on the
/// target, one on neither.
pub(crate) const PEERS: [(&str, &str, Ipv4Addr); 3] = [
    ("p1", "ch1", Ipv4Addr::new(192, 168, 7, 21)),
    ("p2", "ch2", Ipv4Addr::new(192, 168, 7, 22)),
    ("p3", "ch3", Ipv4Addr::new(192, 168, 7, 23)),
];

/// The peer that holds the TCP connection.
const TCP_PEER: &str = "p3-ch3";

/// The guest's way, again and again. Within three migrations each chassis is
/// once a source, a target or a bystander.
const ROUTE: [(&str, &str); 4] = [("ch1", "ch2"), ("ch2", "ch1"), ("ch1", "ch3"), ("ch3", "ch1")];

/// How long the probing goes on after the end of a migration.
pub(crate) const AFTERMATH: Duration = Duration::from_millis(300);

/// What the demo is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the report goes.
    pub out: PathBuf,
    /// Probes a second from each peer.
    pub rate: u32,
    /// Hand over by OVN's own means, to compare with.
    pub ovn: bool,
    /// How often the guest migrates.
    pub migrations: usize,
    /// Every ovn-controller has thousands of flows and computes them without pause.
    pub busy: bool,
    /// Find out first what is lost without any migration.
    pub baseline: bool,
}

impl Options {
    /// What `make demo` does.
    pub fn new(out: PathBuf) -> Self {
        Self { out, rate: 1000, ovn: false, migrations: 3, busy: false, baseline: false }
    }
}

/// Tells a person what happens.
#[derive(Debug)]
pub(crate) struct Teller(Instant);

impl Teller {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn tell(&self, text: impl Display) {
        println!("{:>7.2} s  {text}", self.0.elapsed().as_secs_f64());
    }
}

/// Runs the demo, writes the report, and returns it.
///
/// # Errors
///
/// When the lab does not come up or the report cannot be written. What goes
/// wrong in a migration is in the report.
pub async fn run(options: &Options) -> Result<Report> {
    let teller = Teller::new();
    if !options.ovn {
        // Before anything is started.
        Limosa::binary()?;
    }
    std::fs::create_dir_all(&options.out).with_context(|| format!("create {}", options.out.display()))?;
    teller.tell("starting an OVN cluster: 3 chassis, each with its own switch and ovn-controller");
    let lab = Lab::start(LabOptions { alone: true, ..LabOptions::default() }).await?;
    let mut report = Report::new(Versions::of(&lab).await?, options.rate, options.ovn);
    let ended = on_stage(&lab, options, &teller, &mut report).await;
    if let Err(error) = ended {
        report.failures.push(format!("{error:#}"));
    }
    keep_logs(&lab, options)?;
    report.judge();
    report.write(&options.out)?;
    print!("\n{report}");
    println!("\n{}", options.out.join("report.html").display());
    Ok(report)
}

/// What is in the lab while the guest moves.
async fn on_stage(lab: &Lab, options: &Options, teller: &Teller, report: &mut Report) -> Result<()> {
    lab.peers().await?;
    lab.port("ls0", LogicalPort::new(PORT, GUEST_MAC, GUEST_IP)).await?;
    let [own, silent] = [[GUEST_MAC, GUEST_IP], [SILENT_MAC, SILENT_IP]].map(|pair| pair.join(" "));
    let both = |verb| [verb, PORT, &own, &silent];
    let (addresses, security) = (both("lsp-set-addresses"), both("lsp-set-port-security"));
    lab.nbctl(&[&addresses[..], &["--"], &security].concat()).await?;
    let way = if options.ovn {
        teller.tell("no Limosa: the port will be handed over by OVN's own means");
        Way::Ovn
    } else {
        teller.tell("starting Limosa: an agent on every chassis, one controller");
        Way::Limosa(Limosa::start(lab).await?)
    };
    teller.tell("booting the guest under QEMU on ch1");
    let mut guest = Guest::start(lab, "ch1", PORT).await?;
    let tcp = HeldTcp::start(lab, TCP_PEER, GUEST_IP).await?;
    teller.tell("the guest answers; p3 holds a TCP connection to it from now to the end");
    let controllers: Vec<_> = lab.all_chassis().iter().map(|ch| ch.daemon(Daemon::OvnController)).collect();
    let pids: Vec<_> = controllers.iter().map(|controller| controller.pid()).collect();

    let mut busy = None;
    if options.busy {
        teller.tell(format!("giving OVN {OVN_FLOWS} more flows, and every ovn-controller no pause"));
        busy::fill(lab, "ls0").await?;
        busy = Some(Busy::start(lab).await?);
    }
    if options.baseline {
        teller.tell("what is lost without any migration:");
        report.baseline =
            baseline::search(lab, &guest, options.rate, |found| teller.tell(format!("  {found}"))).await?;
    }

    let migrations = options.migrations;
    for (number, (from, to)) in ROUTE.into_iter().cycle().take(migrations).enumerate() {
        println!();
        teller.tell(format!("migration {} of {migrations}: from {from} to {to}", number + 1));
        guest = match one(lab, options, teller, report, &way, guest, to).await {
            Ok(guest) => guest,
            Err(error) => {
                report
                    .failures
                    .push(format!("the migration from {from} to {to} did not complete: {error:#}"));
                break;
            }
        };
    }

    println!();
    if let Some(busy) = busy {
        report.busy = Some(busy.finish(lab).await?);
    }
    report.tcp = Some(tcp.finish().await?);
    teller.tell("closed the TCP connection");
    for (chassis, (controller, pid)) in lab.all_chassis().iter().zip(controllers.iter().zip(pids)) {
        let name = chassis.name();
        if !controller.alive() || controller.pid() != pid {
            report.failures.push(format!("ovn-controller of {name} died"));
        }
        let crash = controller.crash_lines();
        report.failures.extend(crash.iter().map(|line| format!("ovn-controller of {name} says: {line}")));
    }
    Ok(())
}

/// One migration of the guest, which returns on the target.
async fn one(
    lab: &Lab,
    options: &Options,
    teller: &Teller,
    report: &mut Report,
    way: &Way,
    mut source: Guest,
    to: &str,
) -> Result<Guest> {
    let from = source.chassis().to_owned();
    let before = Sniffer::start(lab, &from, source.tap()).await?;
    let probing = Probing::start_sampled(lab, options.rate).await?;
    teller.tell(format!("p1, p2 and p3 each send {} packets a second to the guest", options.rate));

    let mut ticket = way.begin(lab, PORT, &from, to).await?;
    let mut target = Guest::prepare_incoming(lab, to, PORT).await?;
    let after = Sniffer::start(lab, to, target.tap()).await?;
    way.armed(lab, &ticket).await?;
    teller.tell(format!("armed: {to} has an interface for the guest, and may take it"));

    let times = migrate(&mut source, &mut target).await?;
    teller.tell(format!("the guest runs on {to}; it stood still for {:.1} ms", times.pause_ms()));
    way.follow(lab, &mut ticket, |text| teller.tell(text)).await?;
    source.kill(Signal::KILL).await?;
    source.unplug(lab).await?;
    way.end(lab, &mut ticket).await?;
    teller.tell(format!("completed: nothing is left on {from}"));

    // What comes late is to be seen as well.
    tokio::time::sleep(AFTERMATH).await;
    let peers = probing.finish().await?;
    let (before, after) = (before.finish().await?, after.finish().await?);
    let left = way.left_behind(lab, &ticket).await?;
    report.failures.extend(left.into_iter().map(|what| format!("after {from} to {to}: {what}")));
    let missed = before.missed + after.missed;
    if missed > 0 {
        let what = "packets at the guest's interfaces were too many to be counted: choose a lower --rate";
        report.failures.push(format!("{from} to {to}: {missed} {what}"));
    }
    let pause_ns = times.pause.monotonic_ns;
    let seen = Observed { pause_ns, guest_mac: GUEST_MAC, source: &before, target: &after, peers: &peers };
    let migration = Migration::new(&from, to, times, &ticket.steps, analyse(&seen), &peers);
    teller.tell(migration.in_words());
    report.migrations.push(migration);
    ensure!(target.alive(), "the guest's QEMU on {to} has ended");
    Ok(target)
}

/// All peers' probing of the guest.
#[derive(Debug)]
pub(crate) struct Probing(Vec<(&'static str, Ipv4Addr, Prober)>);

impl Probing {
    /// Starts `rate` packets a second from each peer; each has had an answer
    /// when this returns.
    pub(crate) async fn start(lab: &Lab, rate: u32) -> Result<Self> {
        Self::start_at(lab, None, rate).await
    }

    /// As [`start`](Self::start), but if there are too many for the guest it is to answer
    /// some of them only.
    async fn start_sampled(lab: &Lab, rate: u32) -> Result<Self> {
        Self::start_at(lab, Some(SILENT_IP).filter(|_| rate > ANSWERED_RATE), rate).await
    }

    async fn start_at(lab: &Lab, silent: Option<&str>, rate: u32) -> Result<Self> {
        let probers = PEERS.map(async |(name, chassis, ip)| {
            let ns = format!("{name}-{chassis}");
            if silent.is_some() {
                let known = ["ip", "neigh", "replace", SILENT_IP, "lladdr", SILENT_MAC, "dev", "eth0"];
                lab.exec_in(&ns, &known).await?;
            }
            let prober = Prober::start_at(lab, &ns, GUEST_IP, silent, rate).await?;
            anyhow::Ok((name, ip, prober))
        });
        Ok(Self(try_join_all(probers).await?))
    }

    /// Stops it: name, address and probes of each peer.
    pub(crate) async fn finish(self) -> Result<Vec<(String, Ipv4Addr, ProbeResult)>> {
        let ended = self
            .0
            .into_iter()
            .map(async |(name, ip, prober)| anyhow::Ok((name.to_owned(), ip, prober.finish().await?)));
        try_join_all(ended).await
    }
}

/// What Limosa and the measuring programs said, next to the report.
fn keep_logs(lab: &Lab, options: &Options) -> Result<()> {
    let to = options.out.join("logs");
    std::fs::create_dir_all(&to).context("make a directory for the logs")?;
    for old in std::fs::read_dir(&to).context("read the old logs")?.flatten() {
        std::fs::remove_file(old.path()).context("remove an old log")?;
    }
    for entry in std::fs::read_dir(lab.dir().join("log")).context("read the logs")?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).context("keep a log")?;
        }
    }
    Ok(())
}

/// Nanoseconds since the guest's pause, in milliseconds.
fn since(pause_ns: i64, at_ns: i64) -> f64 {
    ((at_ns - pause_ns) as f64 / MS as f64 * 1000.0).round() / 1000.0
}
