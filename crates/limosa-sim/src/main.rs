//! `limosa-sim`: plays schedules, and shows the one that went wrong.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use clap::builder::ArgPredicate;
use limosa_sim::{Coverage, Mutation, Options, play};

/// Plays the protocol in virtual time, one schedule for each seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// How many schedules; with `--mutation` at most so many.
    #[arg(long, default_value_t = 10_000, default_value_if("mutation", ArgPredicate::IsPresent, "200000"))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print the whole schedule of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// What is wrong with the protocol; `all` tries each until it is caught.
    #[arg(long)]
    mutation: Option<String>,
    /// Nothing goes wrong.
    #[arg(long)]
    no_faults: bool,
    /// Go on after a violation, and print one line for each.
    #[arg(long)]
    keep_going: bool,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut options = Options { no_faults: args.no_faults, trace: args.trace, mutation: None };
    match args.mutation.as_deref() {
        Some("all") => return all_mutations(&args, options),
        Some(name) => match name.parse() {
            Ok(mutation) => options.mutation = Some(mutation),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        },
        None => {}
    }
    if let Some(seed) = args.seed {
        return show(seed, &options);
    }
    let (failed, coverage) = play_all(&args, options, true);
    print!("{coverage}");
    match failed {
        None => ExitCode::SUCCESS,
        Some(seed) => {
            println!("seed {seed} fails; its schedule:");
            show(seed, &Options { trace: true, ..options })
        }
    }
}

/// The first seed that fails, if one does, and what happened in all of them.
fn play_all(args: &Args, options: Options, progress: bool) -> (Option<u64>, Coverage) {
    let (next, failed, stop) = (AtomicU64::new(args.from), AtomicU64::new(u64::MAX), AtomicBool::new(false));
    let coverage = Mutex::new(Coverage::default());
    let (end, began) = (args.from + args.seeds, Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                let mut own = Coverage::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = play(seed, &options);
                    own.add(&outcome.coverage);
                    if let Some(violation) = outcome.violation {
                        if args.keep_going {
                            println!("seed {seed} at {} us: {}", violation.at, violation.what);
                        }
                        failed.fetch_min(seed, Ordering::Relaxed);
                        stop.store(!args.keep_going, Ordering::Relaxed);
                    }
                    let done = seed + 1 - args.from;
                    if progress && done.is_multiple_of(50_000) {
                        println!("{done} schedules in {:.0} s", began.elapsed().as_secs_f64());
                    }
                }
                coverage.lock().expect("no thread has panicked").add(&own);
            });
        }
    });
    let failed = failed.into_inner();
    ((failed != u64::MAX).then_some(failed), coverage.into_inner().expect("no thread has panicked"))
}

/// Each mutation, and the seed that catches it.
fn all_mutations(args: &Args, options: Options) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for mutation in Mutation::ALL {
        let options = Options { mutation: Some(*mutation), ..options };
        match play_all(args, options, false).0 {
            Some(seed) => {
                let what = play(seed, &options).violation.map(|violation| violation.what).unwrap_or_default();
                println!("{mutation:20} caught by seed {seed}: {what}");
            }
            None => {
                println!("{mutation:20} NOT caught by {} seeds", args.seeds);
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// One schedule, line by line.
fn show(seed: u64, options: &Options) -> ExitCode {
    let outcome = play(seed, options);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    match outcome.violation {
        None => {
            println!("seed {seed}: no violation; at rest after {:.1} s", outcome.ended as f64 / 1e6);
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("seed {seed}: {} (at {} us)", violation.what, violation.at);
            println!("again: cargo run --release -p limosa-sim -- --seed {seed} --trace");
            ExitCode::FAILURE
        }
    }
}
