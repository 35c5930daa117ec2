//! ofpacket: decoding and encoding one message of each type, in nanoseconds and allocations, beside rovs-openflow
//! where that has such a message and the feature `rovs` is on. A program of its own, since counting allocations makes
//! each of them a little slower.

#[path = "../report.rs"]
mod report;
#[cfg(feature = "rovs")]
mod rovs;
mod samples;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use ofpacket::Message;

use report::{Row, publish};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Args {
    /// Where the report goes.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    publish(&rows()?, &Args::parse().out.join("codec.json"))
}

/// Measurements of each; the fastest counts. Whatever else the machine does can only slow one down.
const ROUNDS: usize = 60;
/// How long each of them takes, at least.
const ROUND: Duration = Duration::from_micros(250);

/// What another crate can do with a message.
struct Theirs {
    /// `decode` or `encode`.
    verb: &'static str,
    /// Our name of the message.
    name: &'static str,
    /// What it is exactly.
    what: &'static str,
    /// Does it; whether it succeeded.
    work: Box<dyn Fn() -> bool>,
}

#[cfg(feature = "rovs")]
use rovs::theirs;

#[cfg(not(feature = "rovs"))]
fn theirs() -> anyhow::Result<Vec<Theirs>> {
    Ok(Vec::new())
}

/// Rows for every message: decoding and encoding.
fn rows() -> anyhow::Result<Vec<Row>> {
    let theirs = theirs()?;
    let mut rows = Vec::new();
    for sample in samples::samples()? {
        let decode = || Message::decode(&sample.bytes).is_ok();
        let encode = || sample.message.encode().is_ok();
        let work: [(&str, &dyn Fn() -> bool); 2] = [("decode", &decode), ("encode", &encode)];
        for (verb, ours) in work {
            let name = format!("ofpacket: {verb} {}", sample.name);
            let found = theirs.iter().find(|theirs| theirs.verb == verb && theirs.name == sample.name);
            match found {
                Some(theirs) => {
                    let what = format!("rovs-openflow 0.2 (OpenFlow 1.3): {verb} {}", theirs.what);
                    rows.extend(compare((&name, ours), (&what, &theirs.work))?);
                }
                None => {
                    let [time] = nanoseconds(&name, [ours])?;
                    rows.extend([Row::new(name.as_str(), time, "ns"), allocations(&name, ours)]);
                }
            }
        }
    }
    Ok(rows)
}

/// Both measured in turn.
fn compare(
    (name, ours): (&str, &dyn Fn() -> bool),
    (what, theirs): (&str, &dyn Fn() -> bool),
) -> anyhow::Result<[Row; 4]> {
    let [our_time, their_time] = nanoseconds(name, [ours, theirs])?;
    let their_rows = [Row::new(what, their_time, "ns"), allocations(what, theirs)];
    let our_rows = [
        Row::new(name, our_time, "ns").beside(&their_rows[0]),
        allocations(name, ours).beside(&their_rows[1]),
    ];
    let ([a, b], [c, d]) = (our_rows, their_rows);
    Ok([a, c, b, d])
}

/// The shortest time of each, in nanoseconds for one call.
fn nanoseconds<const N: usize>(name: &str, work: [&dyn Fn() -> bool; N]) -> anyhow::Result<[f64; N]> {
    let mut times = [f64::INFINITY; N];
    for _ in 0..ROUNDS {
        for (work, time) in work.iter().zip(&mut times) {
            ensure!(work(), "cannot {name}");
            *time = time.min(one_round(work));
        }
    }
    Ok(times)
}

fn one_round(work: &dyn Fn() -> bool) -> f64 {
    let start = Instant::now();
    let mut calls = 0u32;
    // The clock is looked at so seldom that it does not count.
    while start.elapsed() < ROUND {
        for _ in 0..20 {
            black_box(work());
        }
        calls += 20;
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// What one call allocates.
fn allocations(name: &str, work: &dyn Fn() -> bool) -> Row {
    let info = allocation_counter::measure(|| {
        black_box(work());
    });
    Row::new(name, info.count_total as f64, "allocations")
}
