//! The guest, and the hypervisor that moves it: plugs interfaces, stops it
//! here, resumes it there, gives up, or changes its mind.

use std::rc::Rc;

use limosa_protocol::Phase;
use limosa_protocol::object::{Migration, Spec, Want};
use uuid::Uuid;

use crate::agent::PORT;
use crate::faults::Fault;
use crate::packet::{Packet, field};
use crate::pipeline::{GUEST_MAC, NAMES, SOURCE, TARGET, peer_mac};
use crate::store::View;
use crate::switch::Port;
use crate::world::{Event, World};
use crate::{Options, Time};

/// Where the guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Source,
    /// It is stopped.
    Nowhere,
    Target,
}

/// What the hypervisor has in mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// The guest moves.
    Moves,
    /// The migration is cancelled before the guest was stopped.
    Cancelled,
    /// The target's QEMU dies before the guest ran there.
    TargetDies,
    /// Someone aborts the migration while the hypervisor goes on.
    RacedAbort,
    /// The target dies after the guest has announced itself there; the source resumes.
    FailsBack,
}

/// One step of the hypervisor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Move {
    Create,
    Plug,
    /// Frames of the target's interface that are not the guest's.
    Noise(u8),
    Stop,
    Resume,
    Rarp,
    Abort,
    LinkDown,
    ResumeOnSource,
    UnplugSource,
    UnplugTarget,
}

#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) place: Place,
    /// Grows whenever it becomes something else where packets have to go.
    pub(crate) epoch: u32,
    /// When the target's switch has learned of it.
    pub(crate) announced_at: Option<Time>,
    pub(crate) story: Story,
    pub(crate) pinned: Option<String>,
    /// An announcement passed a target's switch that was in order, unnoticed.
    pub(crate) overheard: bool,
    /// The target's switch has been wiped since.
    pub(crate) wiped_since: bool,
    view: View,
    plugged: [bool; 2],
    target_link_up: bool,
    planned: bool,
    unplugs_source: bool,
    gave_up: bool,
    /// Frames whose Ethernet type or sender is not what a guest announces.
    next_ofport: u32,
}

/// QEMU's announcements after a resume, without jitter.
const RARPS: [Time; 5] = [100, 50_000, 200_000, 450_000, 800_000];
const ETH_TYPE_RARP: u64 = 0x8035;
const ETH_TYPE_IPV6: u64 = 0x86dd;

impl Guest {
    pub(crate) fn draw(rng: &mut fastrand::Rng, options: &Options) -> Self {
        let story = match rng.u8(0..100) {
            0..64 => Story::Moves,
            64..74 => Story::Cancelled,
            74..84 => Story::TargetDies,
            84..92 => Story::RacedAbort,
            _ if options.fail_back => Story::FailsBack,
            _ => Story::Moves,
        };
        Self {
            place: Place::Source,
            epoch: 0,
            announced_at: None,
            story,
            pinned: None,
            overheard: false,
            wiped_since: false,
            view: View::default(),
            plugged: [true, false],
            target_link_up: true,
            planned: false,
            unplugs_source: false,
            gave_up: false,
            next_ofport: 30,
        }
    }

    pub(crate) fn link_up(&self, chassis: usize) -> bool {
        chassis != TARGET || self.target_link_up
    }

    pub(crate) fn is_plugged(&self, chassis: usize) -> bool {
        self.plugged.get(chassis) == Some(&true)
    }
}

impl World {
    fn becomes(&mut self, place: Place) {
        self.note(|| format!("guest: {place:?}"));
        self.guest.place = place;
        self.guest.epoch += 1;
        self.stir();
    }

    /// The target's switch has opened the gate.
    pub(crate) fn announced(&mut self) {
        if self.guest.place != Place::Target {
            return self.violate("the gate opens although the guest does not run on the target".to_owned());
        }
        if self.guest.announced_at.is_none() {
            self.coverage.count("announced", Some(self.phase()));
            self.note(|| "guest: announced".to_owned());
            self.guest.announced_at = Some(self.now);
            self.guest.wiped_since = false;
            self.guest.epoch += 1;
            self.stir();
        }
    }

    /// What the one who waits for the migration (`limosa wait`) sees.
    pub(crate) fn hypervisor_sees(&mut self, revision: u64, object: Rc<Migration>) {
        if !self.guest.view.see(revision, object.clone()) {
            return;
        }
        match object.phase() {
            Phase::Arming if !self.guest.plugged[1] && !self.guest.gave_up => {
                let delay = self.some(0, 30_000);
                self.after(delay, Event::Hypervisor(Move::Plug));
            }
            Phase::Armed if !self.guest.planned => {
                self.guest.planned = true;
                self.begin_story();
            }
            Phase::Released if !self.guest.unplugs_source && self.guest.place == Place::Target => {
                self.guest.unplugs_source = true;
                let delay = self.some(0, 100_000);
                self.after(delay, Event::Hypervisor(Move::UnplugSource));
            }
            Phase::RollingBack | Phase::RolledBack | Phase::Rejected => self.gives_up(),
            _ => {}
        }
    }

    fn begin_story(&mut self) {
        let soon = self.some(500, 60_000);
        // A large guest takes minutes; here it is long enough for every deadline.
        let copied = if self.rng.u8(0..10) == 0 { soon + 40_000_000 } else { soon };
        let pause = self.rng.u64(200..30_000);
        let other = self.some(0, 40_000);
        let steps = match self.guest.story {
            Story::Moves => vec![(copied, Move::Stop), (copied + pause, Move::Resume)],
            Story::Cancelled => vec![(copied, Move::Abort)],
            Story::TargetDies if self.rng.bool() => vec![
                (copied, Move::Stop),
                (copied + pause / 2, Move::LinkDown),
                (copied + pause, Move::ResumeOnSource),
            ],
            Story::TargetDies => vec![(copied, Move::UnplugTarget)],
            Story::RacedAbort => vec![
                (copied, Move::Stop),
                (copied + pause, Move::Resume),
                ((copied + pause / 2 + other).saturating_sub(20_000), Move::Abort),
            ],
            Story::FailsBack => vec![
                (copied, Move::Stop),
                (copied + pause, Move::Resume),
                (copied + pause + other, Move::LinkDown),
                (copied + pause + other + 1_000, Move::ResumeOnSource),
                (copied + pause + other + 1_000 + other, Move::Abort),
            ],
        };
        for (delay, step) in steps {
            self.after(delay, Event::Hypervisor(step));
        }
    }

    /// The migration is taken back: the hypervisor takes back what it can.
    fn gives_up(&mut self) {
        if self.guest.place != Place::Source || self.guest.gave_up {
            return;
        }
        self.guest.gave_up = true;
        let delay = self.some(0, 50_000);
        self.after(delay, Event::Hypervisor(Move::UnplugTarget));
    }

    pub(crate) fn hypervisor(&mut self, step: Move) {
        let gave_up = self.guest.gave_up;
        match step {
            Move::Create => self.create(),
            Move::Plug if self.guest.plugged[1] || gave_up => {}
            Move::Plug => {
                self.guest.plugged[1] = true;
                self.plug(TARGET);
                for i in 0..3 {
                    let delay = self.rng.u64(0..40_000);
                    self.after(delay, Event::Hypervisor(Move::Noise(i)));
                }
            }
            Move::Noise(kind) => self.noise(kind),
            Move::Stop if self.guest.place == Place::Source && !gave_up => self.becomes(Place::Nowhere),
            Move::Resume if self.guest.place == Place::Nowhere && self.can_resume_on_target() => {
                self.becomes(Place::Target);
                let late = if self.rng.u8(0..8) == 0 { 0 } else { 1 };
                for delay in RARPS {
                    let jitter = self.rng.u64(0..300);
                    self.after(delay * late + jitter, Event::Hypervisor(Move::Rarp));
                }
            }
            Move::Resume if self.guest.place == Place::Nowhere => {
                self.becomes(Place::Source);
                self.gives_up();
            }
            Move::Rarp if self.guest.place == Place::Target => self.rarp(GUEST_MAC),
            Move::Abort => {
                self.note(|| "hypervisor: wants the migration aborted".to_owned());
                self.coverage.count("aborted", Some(self.phase()));
                self.edit(|object| object.spec.want = Want::Abort);
                if self.guest.story == Story::Cancelled {
                    self.gives_up();
                }
            }
            Move::LinkDown => {
                self.guest.target_link_up = false;
                if self.guest.place == Place::Target {
                    self.becomes(Place::Nowhere);
                }
                self.ports_changed(TARGET);
            }
            Move::ResumeOnSource if self.guest.place == Place::Nowhere => {
                self.becomes(Place::Source);
                let phase = self.phase();
                if matches!(phase, Phase::RollingBack | Phase::RolledBack)
                    || self.guest.story == Story::FailsBack
                {
                    self.gives_up();
                }
            }
            Move::UnplugSource => self.unplug(SOURCE),
            Move::UnplugTarget => {
                if self.guest.place != Place::Target {
                    self.guest.gave_up = true;
                    self.unplug(TARGET);
                }
            }
            Move::Stop | Move::Resume | Move::Rarp | Move::ResumeOnSource => {}
        }
    }

    /// A hypervisor that has learned in time that the migration is taken back,
    /// or misses the interface, cancels.
    fn can_resume_on_target(&self) -> bool {
        let phase = self.guest.view.object.as_ref().map(|object| object.phase());
        let taken_back = matches!(phase, Some(Phase::RollingBack | Phase::RolledBack));
        self.switches[TARGET].ofport(Port::Guest).is_some() && !taken_back
    }

    fn create(&mut self) {
        self.guest.pinned.clone_from(&self.nb.requested);
        let spec = Spec::new(PORT, NAMES[SOURCE], Some(NAMES[TARGET].to_owned()));
        let object = Migration::new("m".to_owned(), Uuid::from_u128(42), spec, self.timestamp());
        self.store.object = Some(Rc::new(object));
        self.publish();
        if self.guest.story == Story::Cancelled && self.rng.bool() {
            let delay = self.some(0, 150_000);
            self.after(delay, Event::Hypervisor(Move::Abort));
        }
    }

    /// An interface with the guest's name appears on a bridge.
    pub(crate) fn plug(&mut self, chassis: usize) {
        let ofport = self.guest.next_ofport;
        self.guest.next_ofport += 1;
        self.note(|| format!("hypervisor: plugs {ofport} on {}", NAMES[chassis]));
        self.switches[chassis].ports.push((ofport, Port::Guest));
        self.ports_changed(chassis);
    }

    fn unplug(&mut self, chassis: usize) {
        self.note(|| format!("hypervisor: unplugs from {}", NAMES[chassis]));
        self.guest.plugged[chassis] = false;
        self.switches[chassis].ports.retain(|(_, port)| *port != Port::Guest);
        self.ports_changed(chassis);
    }

    /// The local database tells agent and ovn-controller, each in its time.
    pub(crate) fn ports_changed(&mut self, chassis: usize) {
        let run = self.agents[chassis].run;
        let delay = self.some(100, 3_000);
        self.after(delay, Event::Facts { agent: chassis, run });
        self.ovn_soon(chassis);
    }

    fn frame(&self, eth_type: u64, dst: u64, sha: u64) -> Option<Packet> {
        let ofport = self.switches[TARGET].ofport(Port::Guest)?;
        let mut packet = Packet::new(crate::judge::NOBODY);
        packet.fields[field::IN_PORT] = u64::from(ofport);
        packet.fields[field::ETH_SRC] = GUEST_MAC;
        packet.fields[field::ETH_DST] = dst;
        packet.fields[field::ETH_TYPE] = eth_type;
        if eth_type == ETH_TYPE_RARP {
            packet.fields[field::ARP_OP] = 3;
            packet.fields[field::ARP_SHA] = sha;
        }
        Some(packet)
    }

    /// The interface has the guest's address long before the guest runs there,
    /// and its kernel speaks.
    fn noise(&mut self, kind: u8) {
        if self.guest.place == Place::Target {
            return;
        }
        let peer = self.rng.usize(0..self.count);
        let packet = match kind {
            0 => self.frame(ETH_TYPE_RARP, u64::MAX >> 16, 0x0200_0000_0999),
            _ => self.frame(ETH_TYPE_IPV6, peer_mac(peer), 0),
        };
        if let Some(packet) = packet {
            self.after(0, Event::Arrive(TARGET, packet));
        }
    }

    fn rarp(&mut self, sha: u64) {
        let Some(packet) = self.frame(ETH_TYPE_RARP, u64::MAX >> 16, sha) else { return };
        let before = self.guest.announced_at;
        self.arrive(TARGET, packet);
        if before.is_none() && self.guest.announced_at.is_none() {
            let excused = self.is_disturbed(TARGET) || self.phase() != Phase::Armed;
            self.guest.overheard |= !excused;
            self.coverage.count("announcement unheard", Some(self.phase()));
        }
    }
}

impl World {
    /// An interface goes and comes back under another number.
    pub(crate) fn replug(&mut self, chassis: usize, gap: Time) {
        if !self.guest.is_plugged(chassis) || self.switches[chassis].ofport(Port::Guest).is_none() {
            return;
        }
        self.coverage.count("re-plugged", Some(self.phase()));
        self.note(|| format!("switch {}: the interface goes", NAMES[chassis]));
        self.disturb(chassis);
        self.ledger.block(chassis, true);
        self.ledger.rebinds(chassis, self.now + gap + 100_000 * self.slow);
        self.switches[chassis].ports.retain(|(_, port)| *port != Port::Guest);
        if gap > 0 {
            self.ports_changed(chassis);
        }
        self.after(gap, Event::Mend(Fault::Replug(chassis, gap)));
    }

    pub(crate) fn replugged(&mut self, chassis: usize) {
        self.ledger.block(chassis, false);
        self.disturb(chassis);
        // What the guest has left for good is not plugged again.
        let phase = self.phase();
        let taken_back = matches!(phase, Phase::RollingBack | Phase::RolledBack);
        if chassis == TARGET && taken_back && self.guest.place != Place::Target {
            self.guest.gave_up = true;
            self.unplug(chassis);
        } else if chassis == SOURCE && matches!(phase, Phase::Released | Phase::Completed) {
            self.guest.unplugs_source = true;
            self.unplug(chassis);
        } else if self.guest.is_plugged(chassis) {
            self.plug(chassis);
        } else {
            self.ports_changed(chassis);
        }
    }
}
