//! The two who meet in a cell: one moves the guest, as an orchestrator does,
//! the other does something to the cluster meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::timeout;

use super::fault::{Boundary, Fault, Injury};
use super::objects::Objects;
use crate::clock::monotonic_ns;
use crate::demo::{Object, PORT};
use crate::guest::{Guest, MigrationTimes};
use crate::lab::Lab;
use crate::sniff::Sniffer;

/// How long one step of a migration may take, fault and all. Limosa itself
/// gives a chassis 30 s to follow.
pub(super) const STEP: Duration = Duration::from_secs(60);

/// How long what was killed stays away when nothing can go on without it.
const AWAY: Duration = Duration::from_secs(2);

/// How long an announcement may be without effect while a switch is deaf. Then
/// the orchestrator, which knows that the guest runs on the target, takes the
/// source's interface away.
const UNHEARD: Duration = Duration::from_secs(5);

/// How far the one who moves the guest has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mover {
    Preparing,
    /// Neither copy runs, and the target's is about to.
    BeforeResume,
    Resumed,
    /// Every flow is gone; the source is about to go.
    BeforeUnplug,
}

/// What the mover and the fault know of each other.
#[derive(Debug)]
pub(super) struct Meeting {
    at: Boundary,
    mover: watch::Sender<Mover>,
    struck: watch::Sender<bool>,
}

impl Meeting {
    pub(super) fn new(at: Boundary) -> Self {
        Self { at, mover: watch::Sender::new(Mover::Preparing), struck: watch::Sender::new(false) }
    }

    async fn mover_is(&self, wanted: Mover) -> Result<()> {
        let mut mover = self.mover.subscribe();
        mover.wait_for(|now| *now >= wanted).await.map(drop).context("nobody moves the guest")
    }

    /// The mover has come to where the fault may strike, and waits until it has.
    async fn pass(&self, at: Boundary, mover: Mover) -> Result<()> {
        self.mover.send_replace(mover);
        if self.at == at {
            self.struck.subscribe().wait_for(|struck| *struck).await.context("no fault strikes")?;
        }
        Ok(())
    }
}

/// The guest's move, as an orchestrator does it.
pub(super) struct Move<'a> {
    pub(super) lab: &'a Lab,
    pub(super) objects: &'a Objects,
    pub(super) name: &'a str,
    pub(super) meeting: &'a Meeting,
    pub(super) fault: Fault,
}

/// What the move leaves to be judged.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) target: Guest,
    pub(super) after: Sniffer,
    pub(super) times: MigrationTimes,
    /// No switch heard the guest's announcements.
    pub(super) unheard: bool,
}

impl Move<'_> {
    pub(super) async fn run(&self, source: &mut Guest, to: &str) -> Result<Moved> {
        let Self { lab, objects, name, meeting, .. } = self;
        objects.reached(name, "Arming", STEP).await?;
        let mut target = Guest::prepare_incoming(lab, to, PORT).await?;
        let after = Sniffer::start(lab, to, target.tap()).await?;
        objects.reached(name, "Armed", STEP).await?;
        if meeting.at == Boundary::Armed {
            // The guest moves while it is away.
            meeting.pass(Boundary::Armed, Mover::Preparing).await?;
        }
        source.begin_migration(&target, 1 << 30).await?;
        let pause = source.wait_paused().await?;
        source.wait_handed_over().await?;
        meeting.pass(Boundary::AtResume, Mover::BeforeResume).await?;
        let resume = target.resume().await?;
        meeting.mover.send_replace(Mover::Resumed);
        let times = MigrationTimes { pause, resume, downtime_ms: source.downtime_ms().await? };
        let unheard = !self.is_heard().await?;
        if unheard {
            self.take_source_away(source).await?;
        }
        objects.reached(name, "Released", STEP).await?;
        if meeting.at == Boundary::Cleaned {
            objects.until(name, "clean", STEP, Object::is_clean).await?;
            meeting.pass(Boundary::Cleaned, Mover::BeforeUnplug).await?;
        }
        if !unheard {
            self.take_source_away(source).await?;
        }
        objects.reached(name, "Completed", STEP).await?;
        Ok(Moved { target, after, times, unheard })
    }

    /// Waits for the activation; false if nobody heard of it. QEMU announces
    /// the guest five times within a second, and a switch that is down or
    /// without flows may miss them all.
    async fn is_heard(&self) -> Result<bool> {
        if matches!(self.fault, Fault::OvnController(_)) || self.fault.breaks_data_plane() {
            return Ok(self.objects.reached(self.name, "Activated", UNHEARD).await.is_ok());
        }
        self.objects.reached(self.name, "Activated", STEP).await.map(|_| true)
    }

    async fn take_source_away(&self, source: &Guest) -> Result<()> {
        source.kill(Signal::KILL).await?;
        source.unplug(self.lab).await
    }
}

/// When the fault struck and when it was mended, and the phase it met.
#[derive(Debug)]
pub(super) struct Struck {
    pub(super) phase: String,
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
}

pub(super) async fn inject(mut injury: Injury<'_>, name: &str, meeting: &Meeting) -> Result<Struck> {
    let (objects, at, fault) = (injury.objects, meeting.at, injury.fault);
    match at {
        Boundary::AtResume => meeting.mover_is(Mover::BeforeResume).await?,
        Boundary::Cleaned => meeting.mover_is(Mover::BeforeUnplug).await?,
        _ => objects.reached(name, at.phase(), 3 * STEP).await.map(drop)?,
    }
    let phase = objects.get(name).map(|object| object.phase().to_owned()).unwrap_or_default();
    let from_ns = monotonic_ns();
    injury.strike().await.with_context(|| format!("kill {fault}"))?;
    meeting.struck.send_replace(true);
    if at == Boundary::AtResume {
        meeting.mover_is(Mover::Resumed).await?;
    }
    if !fault.is_short() {
        let passed = objects.until(name, "past the boundary", STEP, |object| at.is_passed(object));
        // Both are fine: it went on without, or it could not.
        let _ = timeout(AWAY, passed).await;
    }
    injury.mend().await.with_context(|| format!("bring {fault} back"))?;
    Ok(Struck { phase, from_ns, to_ns: monotonic_ns() })
}
