//! The guest, and the hypervisor that moves it: plugs interfaces, stops it
//! here, resumes it there, gives up, or changes its mind.

use std::rc::Rc;

use limosa_protocol::facts::Installed;
use limosa_protocol::object::{self, Migration, Restore, Spec, Want};
use limosa_protocol::{Phase, Vouch};
use uuid::Uuid;

use crate::agent::PORT;
use crate::faults::Fault;
use crate::packet::{Packet, field};
use crate::pipeline::{GUEST_MAC, NAMES, SOURCE, TARGET, peer_mac};
use crate::store::View;
use crate::story::{Plot, Story};
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

/// One step of the hypervisor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Move {
    Create,
    /// The object learns its target.
    NameTarget,
    Plug,
    /// The story begins, whatever Limosa has to say.
    Begin,
    /// Frames of the target's interface that are not the guest's.
    Noise(u8),
    Stop,
    Resume,
    Rarp,
    Abort,
    /// The orchestrator says that the guest runs on the target.
    Activate,
    /// The orchestrator says that the guest is on the source for good.
    Return,
    /// A CNI changes the port's options.
    Meddle,
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
    pub(crate) plot: Plot,
    /// The northbound options before the migration.
    pub(crate) options: Restore,
    /// The orchestrator has said that the guest runs on the target.
    pub(crate) told: bool,
    pub(crate) ran_on_target: bool,
    /// The orchestrator has said that it is back there only after the end.
    pub(crate) told_late: bool,
    /// What is said of the interfaces on source and target.
    pub(crate) installed: [Installed; 2],
    meddled: u32,
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
    next_ofport: u32,
}

/// QEMU's announcements after a resume, without jitter.
const RARPS: [Time; 5] = [100, 50_000, 200_000, 450_000, 800_000];
const ETH_TYPE_RARP: u64 = 0x8035;
const ETH_TYPE_IPV6: u64 = 0x86dd;

impl Guest {
    pub(crate) fn draw(rng: &mut fastrand::Rng, options: &Options) -> Self {
        let plot = Plot::draw(rng, options);
        Self {
            place: Place::Source,
            epoch: 0,
            announced_at: None,
            target_link_up: true,
            plot,
            options: Restore::default(),
            told: false,
            ran_on_target: false,
            told_late: false,
            installed: Default::default(),
            meddled: 0,
            overheard: false,
            wiped_since: false,
            view: View::default(),
            plugged: [true, false],
            planned: false,
            unplugs_source: false,
            gave_up: false,
            next_ofport: 30,
        }
    }

    pub(crate) fn link_up(&self, chassis: usize) -> bool {
        let started = !self.plot.waits_for_cni || self.installed[1].installed || self.place == Place::Target;
        chassis != TARGET || (self.target_link_up && started)
    }

    pub(crate) fn is_plugged(&self, chassis: usize) -> bool {
        self.plugged.get(chassis) == Some(&true)
    }
}

impl World {
    fn becomes(&mut self, place: Place) {
        self.note(|| format!("guest: {place:?}"));
        self.guest.place = place;
        self.guest.ran_on_target |= place == Place::Target;
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
            Phase::Armed if !self.guest.planned => self.begin_story(),
            Phase::Released if self.guest.place == Place::Target => self.leaves_source(),
            Phase::Rejected if self.guest.place == Place::Target => self.leaves_source(),
            Phase::RollingBack | Phase::RolledBack | Phase::Rejected => self.gives_up(),
            _ => {}
        }
    }

    /// The source is torn down; not by a hypervisor that has lost the answer of
    /// the target's.
    fn leaves_source(&mut self) {
        let knows = self.guest.plot.story != Story::FailsBack;
        if knows && !std::mem::replace(&mut self.guest.unplugs_source, true) {
            let delay = self.some(0, 100_000);
            self.after(delay, Event::Hypervisor(Move::UnplugSource));
        }
    }

    fn begin_story(&mut self) {
        self.guest.planned = true;
        let (soon, other) = (self.some(500, 60_000), self.some(0, 40_000));
        let steps = self.guest.plot.clone().steps(&mut self.rng, soon, other);
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
            Move::NameTarget if self.phase().is_final() => {}
            Move::NameTarget => self.edit(|object| object.spec.to = Some(NAMES[TARGET].to_owned())),
            Move::Activate if self.guest.place == Place::Target => {
                self.coverage.count("told to activate", Some(self.phase()));
                self.note(|| "orchestrator: the guest runs on the target".to_owned());
                self.guest.told = true;
                self.edit(|object| object.spec.want = Want::Activate);
            }
            Move::Return if self.guest.place == Place::Source => {
                self.coverage.count("told to return", Some(self.phase()));
                self.note(|| "orchestrator: the guest is on the source for good".to_owned());
                self.guest.told_late |= self.phase().is_final();
                self.edit(|object| object.spec.want = Want::Return);
            }
            Move::Meddle => self.meddle(),
            Move::Begin => self.begin_story(),
            Move::Plug if self.guest.plugged[1] || gave_up => {}
            Move::Plug => {
                self.guest.plugged[1] = true;
                if self.guest.plot.is_meddled_with() {
                    self.ledger.meddle();
                }
                self.plug(TARGET);
                for i in 0..3 {
                    let delay = self.rng.u64(0..40_000);
                    self.after(delay, Event::Hypervisor(Move::Noise(i)));
                }
            }
            Move::Noise(kind) => self.noise(kind),
            Move::Stop if self.guest.place == Place::Source && !gave_up => self.becomes(Place::Nowhere),
            Move::Resume if self.guest.place == Place::Nowhere && self.can_resume_on_target() => {
                let was_up = self.guest.link_up(TARGET);
                self.becomes(Place::Target);
                if !was_up {
                    self.ports_changed(TARGET);
                }
                if self.guest.view.object.as_ref().is_some_and(|o| o.phase() == Phase::Rejected) {
                    self.leaves_source();
                }
                if self.guest.plot.story == Story::Paused && self.guest.plot.link_down {
                    self.guest.target_link_up = false;
                    self.ports_changed(TARGET);
                }
                if !self.announces() {
                    return;
                }
                let late = if self.rng.u8(0..8) == 0 { 0 } else { 1 };
                for delay in RARPS {
                    let jitter = self.rng.u64(0..300);
                    self.after(delay * late + jitter, Event::Hypervisor(Move::Rarp));
                }
            }
            Move::Resume if self.guest.place == Place::Nowhere => {
                self.becomes(Place::Source);
                self.gives_up();
                if self.guest.plot.story == Story::Hasty {
                    let delay = self.some(0, 100_000);
                    self.after(delay, Event::Hypervisor(Move::Return));
                }
            }
            Move::Rarp if self.guest.place == Place::Target => self.rarp(GUEST_MAC),
            Move::Abort => {
                self.note(|| "hypervisor: wants the migration aborted".to_owned());
                self.coverage.count("aborted", Some(self.phase()));
                self.edit(|object| object.spec.want = Want::Abort);
                if self.guest.plot.story == Story::Cancelled {
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
                if matches!(phase, Phase::RollingBack | Phase::RolledBack) {
                    self.gives_up();
                }
            }
            Move::UnplugSource if self.guest.place == Place::Source => {}
            Move::UnplugSource => self.unplug(SOURCE),
            Move::UnplugTarget => {
                if self.guest.place != Place::Target {
                    self.guest.gave_up = true;
                    self.unplug(TARGET);
                }
            }
            Move::Stop | Move::Resume | Move::Rarp | Move::ResumeOnSource | Move::Activate | Move::Return => {
            }
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
        let plot = self.guest.plot.clone();
        self.guest.options = self.nb.options();
        let target = (!plot.late_target).then(|| NAMES[TARGET].to_owned());
        let mut spec = Spec::new(PORT, NAMES[SOURCE], target);
        spec.take_over = plot.take_over;
        spec.guest = plot.orchestrated.then(|| object::Guest {
            vm: "vm".to_owned(),
            nic: "default".to_owned(),
            migration: "m".to_owned(),
        });
        let object = Migration::new("m".to_owned(), Uuid::from_u128(42), spec, self.timestamp());
        self.store.object = Some(Rc::new(object));
        self.publish();
        if plot.late_target {
            let delay = self.some(0, 300_000);
            self.after(delay, Event::Hypervisor(Move::NameTarget));
        }
        if matches!(plot.story, Story::Cancelled | Story::Returned) && self.rng.bool() {
            let delay = self.some(0, 150_000);
            let gives_up = if plot.story == Story::Returned { Move::Return } else { Move::Abort };
            self.after(delay, Event::Hypervisor(gives_up));
        }
        if plot.early_plug || plot.story == Story::Hasty {
            let delay = self.rng.u64(0..60_000);
            self.after(delay, Event::Hypervisor(Move::Plug));
        }
        if plot.story == Story::Hasty {
            let delay = self.rng.u64(60_000..200_000);
            self.after(delay, Event::Hypervisor(Move::Begin));
        }
        if plot.meddles > 0 {
            let delay = self.some(10_000, 400_000);
            self.after(delay, Event::Hypervisor(Move::Meddle));
        }
    }

    /// A CNI that moves the port in its own way, and sets its options again
    /// as soon as it sees that they are not there.
    fn meddle(&mut self) {
        let phase = self.phase();
        if self.guest.meddled == self.guest.plot.meddles || phase >= Phase::Released {
            return;
        }
        if phase >= Phase::Pinning {
            self.guest.meddled += 1;
            self.coverage.count("options overwritten", Some(phase));
            self.ledger.meddle();
            let requested = [None, Some("a,b".to_owned()), Some(NAMES[TARGET].to_owned())];
            let requested_chassis = requested[self.rng.usize(0..3)].clone();
            let activation_strategy = self.rng.bool().then(|| "rarp".to_owned());
            self.set_options(Restore { requested_chassis, activation_strategy });
        }
        let delay = self.some(2_000, 300_000);
        self.after(delay, Event::Hypervisor(Move::Meddle));
    }

    fn announces(&self) -> bool {
        match self.guest.plot.story {
            Story::Paused => false,
            Story::Hasty => !self.guest.plot.link_down,
            _ => true,
        }
    }

    /// An agent writes what it has to say of an interface.
    pub(crate) fn vouch(&mut self, chassis: usize, vouch: &Vouch) {
        let plugged = self.guest.is_plugged(chassis);
        let Some(said) = self.guest.installed.get_mut(chassis).filter(|_| plugged) else { return };
        match vouch {
            Vouch::Give { by, .. } => {
                *said = Installed { installed: true, by_ovn: false, vouched_by: Some(by.clone()) };
            }
            Vouch::TakeBack { installed, .. } => {
                said.vouched_by = None;
                said.installed &= !installed;
            }
        }
        self.coverage.count("vouched", Some(self.phase()));
        self.note(|| format!("agent {}: {vouch:?}", NAMES[chassis]));
        self.ports_changed(chassis);
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
        self.guest.installed[chassis] = Installed::default();
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
            let excused = self.was_disturbed(TARGET, self.now) || self.phase() != Phase::Armed;
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
        // A source that is gone for long has no guest to take back.
        let gap = if chassis == SOURCE && self.guest.plot.story == Story::FailsBack { 0 } else { gap };
        self.coverage.count("re-plugged", Some(self.phase()));
        self.note(|| format!("switch {}: the interface goes", NAMES[chassis]));
        self.disturb(chassis);
        self.guest.installed[chassis] = Installed::default();
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
        } else if chassis == SOURCE
            && matches!(phase, Phase::Released | Phase::Completed)
            && self.guest.plot.story != Story::FailsBack
        {
            self.guest.unplugs_source = true;
            self.unplug(chassis);
        } else if self.guest.is_plugged(chassis) {
            self.plug(chassis);
        } else {
            self.ports_changed(chassis);
        }
    }
}
