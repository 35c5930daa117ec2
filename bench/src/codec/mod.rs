//! ofpacket: decoding and encoding one message of each type, in nanoseconds and allocations, beside rovs-openflow
//! where that has such a message and the feature `rovs` is on.

#[cfg(feature = "rovs")]
mod rovs;
mod samples;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ofpacket::Message;

use crate::report::Row;

/// Measurements of each; the median counts.
const ROUNDS: usize = 15;
/// How long each of them takes, at least.
const ROUND: Duration = Duration::from_millis(1);

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
pub(crate) fn rows() -> anyhow::Result<Vec<Row>> {
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

/// The median time of each, in nanoseconds for one call.
fn nanoseconds<const N: usize>(name: &str, work: [&dyn Fn() -> bool; N]) -> anyhow::Result<[f64; N]> {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (work, times) in work.iter().zip(&mut times) {
            ensure!(work(), "cannot {name}");
            times.push(one_round(work));
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}

fn one_round(work: &dyn Fn() -> bool) -> f64 {
    let start = Instant::now();
    let mut calls = 0u32;
    // The clock is looked at so seldom that it does not count.
    while start.elapsed() < ROUND {
        for _ in 0..100 {
            black_box(work());
        }
        calls += 100;
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
