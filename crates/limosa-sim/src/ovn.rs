//! OVN: the databases, northd, and ovn-controller on each chassis, which
//! claims, lets go and changes flows on its own, at its own times.
//!
//! As in `controller/binding.c` and `controller/physical.c` of 23.03: whether a
//! chassis may have a port is in the option alone; the flows of the interface
//! follow the option, those towards other chassis follow `Port_Binding`; a
//! release is not checked against what others have written meanwhile.

use std::rc::Rc;

use limosa_protocol::facts::Installed;
use limosa_protocol::object::Restore;

use crate::Time;
use crate::packet::{Rule, compile};
use crate::pipeline::{GUEST_KEY, NAMES, SOURCE, base, interface, to_tunnels};
use crate::switch::{Port, insert};
use crate::world::{Event, World};

/// `CLAIM_TIME_THRESHOLD_MS` of `controller/binding.c`.
const CLAIM_PAUSE: Time = 500_000;

/// The northbound database.
#[derive(Debug, Default, Clone)]
pub(crate) struct Nb {
    pub(crate) version: u64,
    /// `options:requested-chassis` of the guest's port.
    pub(crate) requested: Option<String>,
    /// `options:activation-strategy`; what OVN makes of it is not modelled.
    pub(crate) strategy: Option<String>,
    pub(crate) nb_cfg: i64,
    pub(crate) hv_cfg: i64,
    /// Which run of the controller may change the options (`external_ids:limosa-leader`).
    pub(crate) leader: u32,
}

impl Nb {
    pub(crate) fn options(&self) -> Restore {
        let (requested_chassis, activation_strategy) = (self.requested.clone(), self.strategy.clone());
        Restore { requested_chassis, activation_strategy }
    }
}

/// The southbound database.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sb {
    pub(crate) version: u64,
    requested: Option<String>,
    nb_cfg: i64,
    /// `Port_Binding` of the guest's port.
    pub(crate) chassis: Option<usize>,
    pub(crate) additional: Vec<usize>,
    /// When that changed last.
    binding_version: u64,
    /// `Chassis_Private.nb_cfg`.
    pub(crate) reported: [i64; 4],
}

/// What a chassis writes to the southbound database.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SbWrite {
    ClaimMain(usize),
    ClaimAdditional(usize),
    Release { chassis: usize, was_main: bool },
    Report(usize, i64),
}

#[derive(Debug, Default)]
pub(crate) struct OvnController {
    pub(crate) run: u32,
    pub(crate) alive: bool,
    /// Its flows stand; false until it has connected to the switch.
    pub(crate) installed: bool,
    sb: Rc<Sb>,
    pub(crate) ports: Vec<(u32, Port)>,
    base: Vec<Rc<Rule>>,
    /// Chassis that packets for the guest go to, and the interface here.
    remote: Vec<usize>,
    local: Option<u32>,
    /// The flow towards other chassis has been deleted and is yet to be added.
    pub(crate) hole: bool,
    again: bool,
    pub(crate) stuck_until: Time,
    /// When it last took the port from another chassis.
    claimed_at: Option<Time>,
    /// When its last transaction is carried out: there is one at a time.
    written: Time,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CanBind {
    Main,
    Additional,
    Not,
}

fn can_bind(requested: Option<&str>, chassis: usize) -> CanBind {
    let Some(requested) = requested.filter(|requested| !requested.is_empty()) else { return CanBind::Main };
    match requested.split(',').position(|name| name == NAMES[chassis]) {
        Some(0) => CanBind::Main,
        Some(_) => CanBind::Additional,
        None => CanBind::Not,
    }
}

impl Sb {
    fn apply(&mut self, write: SbWrite) {
        match write {
            SbWrite::ClaimMain(c) => {
                self.chassis = Some(c);
                self.additional.retain(|other| *other != c);
            }
            SbWrite::ClaimAdditional(c) => {
                // Having it twice, it would be sent everything twice: that is OVN's own matter.
                if !self.additional.contains(&c) && self.chassis != Some(c) {
                    self.additional.push(c);
                }
            }
            // Written over whatever is there by now.
            SbWrite::Release { was_main: true, .. } => self.chassis = None,
            SbWrite::Release { chassis, .. } => self.additional.retain(|other| *other != chassis),
            SbWrite::Report(c, nb_cfg) => self.reported[c] = self.reported[c].max(nb_cfg),
        }
    }
}

impl World {
    /// OVN as it is before the migration: settled.
    pub(crate) fn begin_ovn(&mut self) {
        let requested = self.nb.requested.clone();
        self.sb = Rc::new(Sb {
            version: 1,
            requested,
            nb_cfg: 1,
            chassis: Some(SOURCE),
            additional: Vec::new(),
            binding_version: 1,
            reported: [1; 4],
        });
        for c in 0..self.count {
            self.ovn[c] =
                OvnController { run: 1, alive: true, sb: self.sb.clone(), ..OvnController::default() };
            self.switches[c].mapped = true;
            self.ovn_fill(c, 1);
        }
    }

    /// A transaction that changes the port's options; the new `nb_cfg`.
    pub(crate) fn set_options(&mut self, options: Restore) -> i64 {
        self.note(|| format!("nb: {options:?}"));
        let mut nb = (*self.nb).clone();
        nb.version += 1;
        nb.nb_cfg += 1;
        let was_on_both = nb.requested.as_deref() == Some("a,b");
        (nb.requested, nb.strategy) = (options.requested_chassis, options.activation_strategy);
        if was_on_both {
            self.ledger.left_both_at = (nb.requested.as_deref() == Some(NAMES[SOURCE])).then_some(self.now);
        }
        let nb_cfg = nb.nb_cfg;
        self.set_nb(nb);
        let delay = self.some(300, 8_000);
        self.after(delay, Event::Northd);
        nb_cfg
    }

    /// A transaction that names the controller that may change the options.
    pub(crate) fn set_leader(&mut self, run: u32) {
        let nb = Nb { leader: run, version: self.nb.version + 1, ..(*self.nb).clone() };
        self.set_nb(nb);
    }

    fn set_nb(&mut self, nb: Nb) {
        self.nb = Rc::new(nb);
        let delay = self.some(100, 2_000) * self.slow;
        self.after(delay, Event::NbSeen(self.nb.clone()));
    }

    /// northd compiles the option, and gathers what the chassis report.
    pub(crate) fn northd(&mut self) {
        if !self.northd_up {
            return;
        }
        let reached = (0..self.count).map(|c| self.sb.reported[c]).min().unwrap_or_default();
        if reached > self.nb.hv_cfg {
            let mut nb = (*self.nb).clone();
            nb.version += 1;
            nb.hv_cfg = reached;
            self.note(|| format!("nb: hv_cfg {reached}"));
            self.set_nb(nb);
        }
        if (&self.sb.requested, self.sb.nb_cfg) != (&self.nb.requested, self.nb.nb_cfg) {
            let mut sb = (*self.sb).clone();
            (sb.requested, sb.nb_cfg) = (self.nb.requested.clone(), self.nb.nb_cfg);
            self.set_sb(sb);
        }
    }

    fn set_sb(&mut self, mut sb: Sb) {
        sb.version += 1;
        self.sb = Rc::new(sb);
        let delay = self.some(100, 2_000) * self.slow;
        self.after(delay, Event::SbSeen(None, 0, self.sb.clone()));
        for c in 0..self.count {
            let delay = self.some(100, 20_000);
            self.after(delay, Event::SbSeen(Some(c), self.ovn[c].run, self.sb.clone()));
        }
    }

    pub(crate) fn sb_write(&mut self, write: SbWrite) {
        let mut sb = (*self.sb).clone();
        sb.apply(write);
        if let SbWrite::Report(..) = write {
            if sb.reported != self.sb.reported {
                // Seen by northd alone.
                self.sb = Rc::new(sb);
                let delay = self.some(200, 5_000);
                self.after(delay, Event::Northd);
            }
            return;
        }
        if (sb.chassis, &sb.additional) != (self.sb.chassis, &self.sb.additional) {
            let names: Vec<_> = sb.additional.iter().map(|c| NAMES[*c]).collect();
            let main = sb.chassis.map(|c| NAMES[c]);
            self.note(|| format!("sb: bound to {main:?} and {names:?} ({write:?})"));
            if sb.chassis.is_none() {
                self.coverage.count("bound to no chassis", Some(self.phase()));
            }
            sb.binding_version = sb.version + 1;
            self.set_sb(sb);
        }
    }

    pub(crate) fn ovn_sees(&mut self, c: usize, run: u32, sb: Rc<Sb>) {
        let ovn = &mut self.ovn[c];
        if ovn.alive && ovn.run == run && sb.version > ovn.sb.version {
            ovn.sb = sb;
            self.ovn_run(c, run);
        }
    }

    /// Its interfaces or tunnels have changed, or it was stuck.
    pub(crate) fn ovn_soon(&mut self, c: usize) {
        let delay = self.some(200, 5_000);
        self.after(delay, Event::OvnRun(c, self.ovn[c].run));
    }

    /// It connects to the switch, now or as soon as there is one: every flow goes.
    pub(crate) fn ovn_connect(&mut self, c: usize, run: u32) {
        if !self.ovn[c].alive || self.ovn[c].run != run || !self.switches[c].up {
            return;
        }
        let phase = self.phase();
        self.coverage.count("wiped by ovn-controller", Some(phase));
        self.note(|| format!("ovn-controller {}: connects, every flow goes", NAMES[c]));
        self.disturb(c);
        self.switches[c].mapped = true;
        let ovn = &mut self.ovn[c];
        (ovn.sb, ovn.installed, ovn.hole) = (self.sb.clone(), false, false);
        (ovn.remote, ovn.local) = (Vec::new(), None);
        self.install(c, Vec::new());
        if self.rng.bool() {
            self.ovn_fill(c, run);
        } else {
            let delay = self.some(500, 30_000);
            self.after(delay, Event::OvnFill(c, run));
        }
    }

    /// All its flows at once.
    pub(crate) fn ovn_fill(&mut self, c: usize, run: u32) {
        if self.ovn[c].alive && self.ovn[c].run == run && self.switches[c].up {
            self.ovn[c].installed = true;
            self.ovn[c].ports.clear();
            self.ovn_run(c, run);
        }
    }

    pub(crate) fn ovn_run(&mut self, c: usize, run: u32) {
        let ovn = &self.ovn[c];
        if !ovn.alive || ovn.run != run || !ovn.installed {
            return;
        }
        if self.now < ovn.stuck_until {
            let delay = ovn.stuck_until - self.now;
            return self.after(delay, Event::OvnRun(c, run));
        }
        if ovn.hole {
            self.ovn[c].again = true;
            return;
        }
        let (local, remote, mut write) = self.ovn_wants(c);
        if matches!(write, Some(SbWrite::ClaimMain(_))) && self.ovn[c].sb.chassis.is_some() {
            // Two that may both have it do not fight at full speed.
            let next = self.ovn[c].claimed_at.map_or(self.now, |at| at + CLAIM_PAUSE);
            if self.now < next {
                write = None;
                self.after(next - self.now, Event::OvnRun(c, run));
            } else {
                self.ovn[c].claimed_at = Some(self.now);
            }
        }
        if let Some(write) = write {
            let delay = self.some(300, 5_000);
            self.ovn_writes(c, delay, write);
        }
        let ports = self.switches[c].ports.clone();
        let moved = ports != self.ovn[c].ports;
        let tunnels = |ports: &[(u32, Port)]| -> Vec<(u32, Port)> {
            ports.iter().copied().filter(|(_, port)| matches!(port, Port::Tunnel(_))).collect()
        };
        let retunnelled = moved && tunnels(&ports) != tunnels(&self.ovn[c].ports);
        if moved {
            self.ovn[c].base = base(c, self.count, &ports);
            self.ovn[c].ports = ports;
        }
        let lost_its_way = self.ovn_has_no_way(c) && !remote.is_empty();
        if lost_its_way {
            self.ledger.hole_closed(c, self.now);
        }
        let ovn = &mut self.ovn[c];
        let rerouted = remote != ovn.remote || (retunnelled && !remote.is_empty());
        let changed = moved || rerouted || local != ovn.local;
        // A flow that changes is deleted, and the new one is added a little later.
        let hole = rerouted && !ovn.remote.is_empty() && !remote.is_empty() && self.rng.u8(0..4) > 0;
        (ovn.remote, ovn.local, ovn.hole) = (remote, local, hole);
        if changed {
            self.ovn_install(c);
        }
        if hole {
            self.coverage.count("OVN deletes and adds later", Some(self.phase()));
            self.note(|| format!("ovn-controller {}: deletes the flow to the port", NAMES[c]));
            let delay = self.some(200, 6_000);
            self.after(delay, Event::OvnAdd(c, run));
        } else {
            self.ovn_done(c);
        }
    }

    /// Its transactions are carried out in order.
    fn ovn_writes(&mut self, c: usize, delay: Time, write: SbWrite) {
        let at = self.ovn[c].written.max(self.now + delay);
        self.ovn[c].written = at;
        self.after(at - self.now, Event::SbWrite(write));
    }

    /// What ovn-controller makes of what it sees: the interface, the chassis to
    /// tunnel to, and what it has to write.
    fn ovn_wants(&self, c: usize) -> (Option<u32>, Vec<usize>, Option<SbWrite>) {
        let sb = &self.ovn[c].sb;
        let can = can_bind(sb.requested.as_deref(), c);
        let interface = self.switches[c].ofport(Port::Guest).filter(|_| can != CanBind::Not);
        let is_additional = sb.additional.contains(&c);
        let write = match (can, interface) {
            (CanBind::Main, Some(_)) if sb.chassis != Some(c) => Some(SbWrite::ClaimMain(c)),
            (CanBind::Additional, Some(_)) if !is_additional && sb.chassis != Some(c) => {
                Some(SbWrite::ClaimAdditional(c))
            }
            (_, None) if sb.chassis == Some(c) => Some(SbWrite::Release { chassis: c, was_main: true }),
            (_, None) if is_additional => Some(SbWrite::Release { chassis: c, was_main: false }),
            _ => None,
        };
        // It sees its own transaction before anyone else does.
        let mut own = (**sb).clone();
        write.into_iter().for_each(|write| own.apply(write));
        let bound = own.chassis.into_iter().chain(own.additional);
        (interface, bound.filter(|other| *other != c).collect(), write)
    }

    pub(crate) fn ovn_add(&mut self, c: usize, run: u32) {
        if self.ovn[c].alive && self.ovn[c].run == run && self.ovn[c].hole {
            self.ovn[c].hole = false;
            self.ledger.hole_closed(c, self.now);
            self.ovn_install(c);
            self.ovn_done(c);
        }
    }

    /// Its flows, beside whatever else the bridge holds.
    fn ovn_install(&mut self, c: usize) {
        let ovn = &self.ovn[c];
        let mut rules: Vec<Rc<Rule>> = ovn.base.clone();
        rules.sort_by_key(|rule| (rule.flow.table_id, u16::MAX - rule.flow.priority));
        let switch = &self.switches[c];
        let tunnels: Vec<u32> =
            ovn.remote.iter().filter_map(|peer| switch.ofport(Port::Tunnel(*peer))).collect();
        let mut flows = ovn.local.map(|ofport| interface(GUEST_KEY, ofport)).unwrap_or_default();
        if !tunnels.is_empty() && !ovn.hole {
            flows.push(to_tunnels(GUEST_KEY, &tunnels));
        }
        flows.iter().for_each(|flow| insert(&mut rules, compile(&flow.clone().with_cookie(0x00c0_ffee))));
        let ours: Vec<Rc<Rule>> = switch.table.rules.iter().filter(|rule| rule.ours).cloned().collect();
        ours.into_iter().for_each(|rule| insert(&mut rules, rule));
        let (local, remote) = (ovn.local, ovn.remote.clone());
        if let Some(said) = self.guest.installed.get_mut(c).filter(|_| local.is_some()) {
            *said = Installed { installed: true, by_ovn: true, vouched_by: said.vouched_by.take() };
        }
        self.note(|| format!("ovn-controller {}: interface {local:?}, remote {remote:?}", NAMES[c]));
        self.install(c, rules);
    }

    fn ovn_done(&mut self, c: usize) {
        self.restored(c);
        let delay = self.some(500, 6_000);
        let nb_cfg = self.ovn[c].sb.nb_cfg;
        self.ovn_writes(c, delay, SbWrite::Report(c, nb_cfg));
        if std::mem::take(&mut self.ovn[c].again) {
            self.ovn_run(c, self.ovn[c].run);
        }
    }
}

impl World {
    /// The chassis has the port, if it may, and everyone has followed.
    pub(crate) fn ovn_is_settled(&self, c: usize) -> bool {
        let bound = self.sb.chassis == Some(c) || self.sb.additional.contains(&c);
        let wants = can_bind(self.sb.requested.as_deref(), c) != CanBind::Not && self.guest.is_plugged(c);
        // One that is stuck may have heard of it and not have done anything about it.
        let follows = |c: usize| self.ovn_rests(c) && self.ovn[c].sb.version >= self.sb.binding_version;
        bound == wants && (0..self.count).all(follows)
    }

    /// Every chassis has heard of the options and has nothing left to do, and
    /// nothing that it wrote is on its way.
    pub(crate) fn ovn_has_followed(&self) -> bool {
        (0..self.count).all(|c| {
            let ovn = &self.ovn[c];
            let done = self.ovn_rests(c) && self.ovn_wants(c).2.is_none();
            done && ovn.sb.nb_cfg >= self.nb.nb_cfg && ovn.written <= self.now
        })
    }

    /// Its flows are those that follow from what it has heard.
    fn ovn_rests(&self, c: usize) -> bool {
        let ovn = &self.ovn[c];
        let (local, remote, _) = self.ovn_wants(c);
        (local, &remote) == (ovn.local, &ovn.remote) && !ovn.hole
    }

    /// It has its flows for the interface here.
    pub(crate) fn ovn_serves(&self, c: usize) -> bool {
        self.ovn[c].local.is_some() && self.ovn[c].installed
    }

    /// What this chassis sends to the port goes to the source.
    pub(crate) fn ovn_leads_to_source(&self, c: usize) -> bool {
        c == SOURCE || self.ovn[c].remote.contains(&SOURCE)
    }

    /// The port is bound to nobody, as far as this chassis knows.
    pub(crate) fn ovn_has_no_way(&self, c: usize) -> bool {
        self.ovn[c].remote.is_empty() && self.ovn[c].local.is_none()
    }
}
