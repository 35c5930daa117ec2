//! `limosa-lab`: the demo, and the tools that measure inside the lab.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use limosa_lab::{Lab, LabOptions, chaos, connections, demo, policy, probe, raw, sniff, tcp, worker};

#[path = "../guest/echo.rs"]
mod echo;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Migrate a guest from chassis to chassis and account for every packet
    ///
    /// Starts a real OVN cluster of three chassis, boots a guest, and moves it
    /// three times while three peers probe it. Needs root; needs the network
    /// once, for the guest's kernel. Fails unless no packet was lost from the
    /// first one that reached the guest on the target.
    ///
    /// An emulated guest answers some thousand packets a second. Above 1000 from
    /// each peer only 100 of them are for the guest; the others are for a second
    /// address of its port, which its network card passes over. All are counted
    /// where the network has done its part, at the guest's interface. What reaches
    /// it and is not answered is counted by itself.
    Demo {
        /// The directory for report.html and report.json
        #[arg(long, default_value = "target/demo")]
        out: PathBuf,
        /// Probes a second from each of the three peers
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// Hand the port over by OVN's own means instead, to compare with
        #[arg(long)]
        ovn: bool,
        /// By Limosa, then by OVN's own means, side by side, and what is lost without any migration
        #[arg(long, conflicts_with = "ovn")]
        both: bool,
        /// How often the guest migrates
        #[arg(long, default_value_t = 3)]
        migrations: usize,
        /// With 20,000 more flows on each chassis, and every ovn-controller computing them without pause
        #[arg(long)]
        busy: bool,
    },
    /// Kill everything at every step of a migration and see whether it converges
    ///
    /// Starts a real OVN cluster of three chassis, boots a guest, and moves it
    /// once for each process that can die and each boundary between two steps.
    /// Then measures: activation without agent or ovn-controller, wiped flows,
    /// a rolling update. Fails unless every migration came to its end, nothing
    /// was left behind and no packet was lost that the data plane did not lose
    /// itself.
    Chaos {
        /// The directory for report.json and report.txt, and for the logs of what failed
        #[arg(long, default_value = "target/chaos")]
        out: PathBuf,
        /// Only this fault
        #[arg(long)]
        killed: Option<chaos::Fault>,
        /// Only this boundary
        #[arg(long)]
        at: Option<chaos::Boundary>,
        /// Each process once and each boundary once, and no measurements
        #[arg(long, conflicts_with_all = ["killed", "at"])]
        quick: bool,
        /// Nothing but how soon flows that ovn-controller has deleted are back
        #[arg(long, conflicts_with_all = ["killed", "at", "quick"])]
        wipes: bool,
        /// Probes a second from each of the three peers
        #[arg(long, default_value_t = 500)]
        rate: u32,
    },
    /// Hold connections of every kind while a guest migrates, and see whether they go on
    ///
    /// Under a policy that denies by default: TCP, UDP and ICMP over IPv4 and
    /// IPv6, opened by the guest and by peers on three chassis, idle, chatty and
    /// in bulk. Once by Limosa, once by OVN's own means. Fails unless all go on
    /// with Limosa, and some do not without.
    Connections {
        /// The directory for report.json and report.txt
        #[arg(long, default_value = "target/connections")]
        out: PathBuf,
        /// Seconds that the idle ones are idle before the guest moves
        #[arg(long, default_value_t = 60)]
        idle: u64,
        /// Every kind with one peer only
        #[arg(long)]
        quick: bool,
    },
    /// Hold connections of one peer with the guest until SIGTERM; then each has to go on
    Hold(connections::HoldArgs),
    /// Send packets that no policy allows until SIGTERM, and count those that come
    Stray(policy::StrayArgs),
    /// Send UDP probes to an echo until SIGTERM, and note what is answered
    Probe {
        /// Where the echo is, as IP:7777
        #[arg(long)]
        dst: SocketAddrV4,
        /// Packets a second
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// Where those go that ask for no answer, if there are more than can be answered
        #[arg(long)]
        silent: Option<Ipv4Addr>,
        /// The file for the result (JSON)
        #[arg(long)]
        out: PathBuf,
    },
    /// Hold one TCP connection to an echo until SIGTERM, and check what it carries
    HoldTcp {
        /// Where the echo is, as IP:7777
        #[arg(long)]
        dst: SocketAddrV4,
        /// The file for the result (JSON)
        #[arg(long)]
        out: PathBuf,
    },
    /// Note announcements, probes and answers on an interface until SIGTERM
    Sniff {
        /// The interface, in this network namespace
        #[arg(long)]
        iface: String,
        /// The file for the result (JSON)
        #[arg(long)]
        out: PathBuf,
    },
    /// Send the RARP with which QEMU announces a guest it has resumed
    Rarp {
        /// The interface, in this network namespace
        #[arg(long)]
        iface: String,
        /// The guest's MAC address
        #[arg(long, value_parser = raw::parse_mac)]
        mac: [u8; 6],
    },
    /// Start a cluster to try things in by hand; it ends with Ctrl-C
    Up {
        /// How many chassis
        #[arg(long, default_value_t = 3)]
        chassis: usize,
    },
    /// Answer UDP and TCP on port 7777, as the guest does
    Echo,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("limosa-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo { out, rate, ovn, both, migrations, busy } => {
            let options = demo::Options { out, rate, ovn, migrations, busy, baseline: both };
            let run = async {
                Ok(if both { demo::both(&options).await?.ok() } else { demo::run(&options).await?.ok })
            };
            return judged(run).await;
        }
        Command::Chaos { out, killed, at, quick, wipes, rate } => {
            let options = chaos::Options { out, killed, at, quick, wipes, rate };
            return judged(async { Ok(chaos::run(&options).await?.ok) }).await;
        }
        Command::Connections { out, idle, quick } => {
            let options = connections::Options { out, quick, idle: Duration::from_secs(idle) };
            return judged(async { Ok(connections::run(&options).await?.ok()) }).await;
        }
        Command::Hold(args) => measure(move |stop| connections::hold(&args, stop)).await?,
        Command::Stray(args) => measure(move |stop| policy::stray(&args, stop)).await?,
        Command::Probe { dst, rate, silent, out } => {
            measure(move |stop| probe::run(dst, silent, rate, &out, stop)).await?;
        }
        Command::HoldTcp { dst, out } => measure(move |stop| tcp::run(dst, &out, stop)).await?,
        Command::Sniff { iface, out } => measure(move |stop| sniff::run(&iface, &out, stop)).await?,
        Command::Rarp { iface, mac } => raw::send_rarp(&iface, mac)?,
        Command::Up { chassis } => up(chassis).await?,
        Command::Echo => echo::main(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs what ends with a report, which has said why if it is not ok. Ctrl-C and
/// SIGTERM drop it, and with it the lab.
async fn judged(run: impl Future<Output = Result<bool>>) -> Result<ExitCode> {
    let terminated = worker::terminated()?;
    let ok = tokio::select! {
        ok = run => ok?,
        () = terminated => bail!("interrupted"),
    };
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a measurement until SIGTERM.
async fn measure(run: impl FnOnce(&AtomicBool) -> Result<()> + Send + 'static) -> Result<()> {
    let stop = worker::until_terminated()?;
    tokio::task::spawn_blocking(move || run(&stop)).await.context("a measurement panicked")?
}

async fn up(chassis: usize) -> Result<()> {
    let lab = Lab::start(LabOptions { chassis, ..LabOptions::default() }).await?;
    // Before anybody can know that there is something to interrupt.
    let terminated = worker::terminated()?;
    println!("directory: {}", lab.dir().display());
    println!("enter:     {} bash", lab.enter("ch1"));
    println!("It ends with Ctrl-C.");
    terminated.await;
    Ok(())
}
