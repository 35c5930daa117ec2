//! What is lost without any migration: a machine that cannot carry so many
//! packets loses them all the time, and a migration is not to be blamed for that.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{GUEST_MAC, Probing};
use crate::analysis::{Observed, PeerAnalysis, analyse};
use crate::guest::Guest;
use crate::lab::Lab;
use crate::probe::{MAX_RATE, asks_every};
use crate::sniff::{SniffResult, Sniffer};

/// How long each rate is tried.
const LASTS: Duration = Duration::from_secs(4);

/// How far the rate is doubled or halved: four times as much, or a
/// thirty-second of it.
const UP: u32 = 2;
const DOWN: u32 = 5;

/// What came of so many packets a second from each peer, the guest staying where it is.
#[derive(Debug, Clone, Serialize)]
pub struct Baseline {
    /// Packets a second from each peer.
    pub rate: u32,
    /// Packets sent by all of them.
    pub sent: u64,
    /// Packets that the network lost.
    pub lost: u64,
    /// Packets that the guest was asked to answer and did not.
    pub unanswered: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// What the measurement itself had no room for.
    pub missed: u32,
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, sent, lost, unanswered, missed, .. } = self;
        let asked = sent / asks_every(*rate);
        write!(
            f,
            "{rate:>6}/s from each peer: {lost} of {sent} packets lost, {unanswered} of {asked} unanswered by the guest"
        )?;
        if *missed > 0 { write!(f, "; {missed} not measured") } else { Ok(()) }
    }
}

/// Tries `rate`; then more and more until something is lost, or less and less
/// until nothing is. By rate, the lowest first.
pub(super) async fn search(
    lab: &Lab,
    guest: &Guest,
    rate: u32,
    mut tell: impl FnMut(&Baseline),
) -> Result<Vec<Baseline>> {
    let first = measure(lab, guest, rate).await?;
    tell(&first);
    let carried = first.lost == 0;
    let others: Vec<u32> =
        if carried { (1..=UP).map(|n| rate << n).collect() } else { (1..=DOWN).map(|n| rate >> n).collect() };
    let mut tried = vec![first];
    for rate in others.into_iter().filter(|rate| (1..=MAX_RATE).contains(rate)) {
        let next = measure(lab, guest, rate).await?;
        tell(&next);
        let ends = (next.lost == 0) != carried;
        tried.push(next);
        if ends {
            break;
        }
    }
    tried.sort_by_key(|baseline| baseline.rate);
    Ok(tried)
}

async fn measure(lab: &Lab, guest: &Guest, rate: u32) -> Result<Baseline> {
    let tap = Sniffer::start(lab, guest.chassis(), guest.tap()).await?;
    let probing = Probing::start_sampled(lab, rate).await?;
    tokio::time::sleep(LASTS).await;
    let peers = probing.finish().await?;
    let source = tap.finish().await?;
    let nothing = SniffResult::empty();
    let seen = Observed {
        pause_ns: i64::MAX,
        guest_mac: GUEST_MAC,
        source: &source,
        target: &nothing,
        peers: &peers,
    };
    let counts = analyse(&seen).peers;
    let sum = |of: fn(&PeerAnalysis) -> u64| counts.values().map(of).sum();
    Ok(Baseline {
        rate,
        sent: sum(|peer| peer.sent),
        lost: sum(|peer| peer.lost_before_pause),
        // It stops nowhere: what waits for it would be lost in a pause.
        unanswered: sum(|peer| peer.unanswered + peer.lost_in_pause),
        duplicates: sum(|peer| peer.duplicates),
        missed: source.missed,
    })
}
