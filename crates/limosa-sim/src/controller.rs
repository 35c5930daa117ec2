//! The controller, as `limosa controller` does it
//! (`crates/limosa/src/controller`): it decides, writes the object, changes the
//! database, and waits for an answer at each of these.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use limosa_protocol::lifecycle::{
    Binding, Change, Cluster, Decision, LogicalPort, World as Databases, decide,
};
use limosa_protocol::object::{ConditionType, Problem, Progress, Restore, Truth};
use limosa_protocol::{MacAddr, Migration, Phase};

use crate::Time;
use crate::mutation::Mutation;
use crate::ovn::{Nb, Sb};
use crate::pipeline::{DATAPATH_KEY, GUEST_KEY, GUEST_MAC, NAMES};
use crate::store::View;
use crate::world::{Event, World};

/// The controller's own pause (`controller::RETRY`).
const RETRY: Time = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Controller {
    pub(crate) run: u32,
    pub(crate) alive: bool,
    latest: View,
    written: Option<Progress>,
    pub(crate) nb: Rc<Nb>,
    pub(crate) sb: Rc<Sb>,
    /// Until then the databases do not answer.
    pub(crate) away_until: Time,
    /// The northbound database names this run as the one that may write.
    leads: bool,
    turn: Option<Turn>,
    again: bool,
    /// What failed is not tried again before.
    not_before: Time,
    timer: u32,
    waits: u32,
    /// What it changed the options to last, and how often at full speed.
    set: Option<(Restore, Time)>,
    hurries: u32,
}

/// A turn under way.
#[derive(Debug)]
struct Turn {
    object: Migration,
    change: Option<Change>,
    decided: Timestamp,
    entered: bool,
    wake_at: Option<Timestamp>,
    /// What `advance` counts.
    rounds: usize,
}

/// A message of the controller's, and what it leads to.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Progress(Progress),
    /// Which run may change the northbound options from now on, if it is still
    /// the one that was seen.
    Lead {
        seen: u32,
    },
    /// The northbound options, if they are still what was seen and the run that
    /// sends this may change them.
    Option {
        seen: Restore,
        value: Restore,
        nb_cfg: i64,
    },
    /// What was set, noted in the object.
    Barrier(Progress),
}

impl World {
    pub(crate) fn start_controller(&mut self) {
        let run = self.controller.run + 1;
        let away_until = self.controller.away_until;
        self.controller = Controller {
            run,
            alive: true,
            latest: self.store.view(),
            nb: self.nb.clone(),
            sb: self.sb.clone(),
            away_until,
            ..Controller::default()
        };
        self.note(|| "controller: starts".to_owned());
        self.poke_controller();
    }

    pub(crate) fn stop_controller(&mut self) {
        let phase = self.phase();
        self.coverage.count("controller killed", Some(phase));
        self.note(|| "controller: killed".to_owned());
        (self.controller.alive, self.controller.run) = (false, self.controller.run + 1);
    }

    fn controls(&self, run: u32) -> bool {
        self.controller.alive && self.controller.run == run
    }

    /// The controller waits for an answer, and may be killed there.
    fn controller_waits(&mut self) {
        self.controller.waits += 1;
        if self.faults.kills_controller(self.controller.waits) {
            self.coverage.count("controller killed while it waits", None);
            let down = self.down_time();
            self.stop_controller();
            self.after(down, Event::Mend(crate::faults::Fault::Controller(0)));
        }
    }

    pub(crate) fn poke_controller(&mut self) {
        if !self.controller.alive {
            return;
        }
        if self.controller.turn.is_some() {
            self.controller.again = true;
            return;
        }
        let pause = self.controller.not_before.saturating_sub(self.now);
        let delay = pause + self.some(10, 200);
        self.after(delay, Event::ControllerTurn(self.controller.run));
        self.controller.timer += 1;
    }

    pub(crate) fn controller_sees(&mut self, run: u32, revision: u64, object: Rc<Migration>) {
        if self.controls(run) && self.controller.latest.see(revision, object) {
            self.poke_controller();
        }
    }

    pub(crate) fn nb_seen(&mut self, nb: Rc<Nb>) {
        if self.controller.alive
            && self.now >= self.controller.away_until
            && nb.version > self.controller.nb.version
        {
            self.controller.nb = nb;
            self.poke_controller();
        }
    }

    pub(crate) fn sb_seen(&mut self, sb: Rc<Sb>) {
        if self.controller.alive
            && self.now >= self.controller.away_until
            && sb.version > self.controller.sb.version
        {
            self.controller.sb = sb;
            self.poke_controller();
        }
    }

    pub(crate) fn controller_wake(&mut self, run: u32, timer: u32) {
        if self.controls(run) && self.controller.timer == timer {
            self.poke_controller();
        }
    }

    pub(crate) fn controller_turn(&mut self, run: u32) {
        if !self.controls(run) || self.controller.turn.is_some() {
            return;
        }
        let Some(object) = self.controller.latest.object.clone() else { return };
        let mut object = (*object).clone();
        if let Some(progress) = &self.controller.written {
            object.status.progress = progress.clone();
        }
        if object.phase().is_final() {
            return;
        }
        let decided = self.timestamp();
        let turn = Turn { object, change: None, decided, entered: false, wake_at: None, rounds: 0 };
        self.controller.turn = Some(turn);
        if self.now < self.controller.away_until {
            self.tell_trouble();
        } else if self.controller.leads {
            self.advance();
        } else {
            self.write(Write::Lead { seen: self.nb.leader });
        }
    }

    /// Says on the object that nothing can be decided.
    fn tell_trouble(&mut self) {
        let Some(turn) = &self.controller.turn else { return };
        let mut progress = turn.object.status.progress.clone();
        let why = Problem::new("DatabaseUnreachable", "flows and options stay as they are");
        progress.set_condition(ConditionType::Progressing, Truth::False, why, self.timestamp());
        if progress == turn.object.status.progress {
            return self.end_controller_turn(None);
        }
        self.controller.turn.as_mut().expect("a turn").entered = false;
        self.write(Write::Progress(progress));
    }

    fn advance(&mut self) {
        let now = self.timestamp();
        let databases = self.databases();
        let Some(turn) = &mut self.controller.turn else { return };
        turn.rounds += 1;
        if turn.rounds > Phase::ALL.len() {
            return self.end_controller_turn(Some(RETRY));
        }
        let decision = match self.mutation {
            None => decide(&turn.object, &databases, now),
            Some(mutation) => mutation.decide(&turn.object, databases, now),
        };
        let Decision { progress, change, wake_at } = decision;
        turn.entered = progress.phase != turn.object.phase();
        (turn.change, turn.wake_at, turn.decided) = (change, wake_at, now);
        if progress == turn.object.status.progress {
            self.carry_out();
        } else {
            self.write(Write::Progress(progress));
        }
    }

    /// The change of the northbound option, if there is one; else the next round.
    fn carry_out(&mut self) {
        let Some(turn) = &mut self.controller.turn else { return };
        let value = match &turn.change {
            Some(Change::Set { requested_chassis, .. }) => {
                Restore { requested_chassis: Some(requested_chassis.clone()), activation_strategy: None }
            }
            Some(Change::Restore(value)) => value.clone(),
            None if turn.entered => return self.advance(),
            None => {
                let wait = turn.wake_at.map(|at| at.duration_since(turn.decided).as_micros().max(0) as Time);
                return self.end_controller_turn(wait);
            }
        };
        let seen = self.controller.nb.options();
        self.write(Write::Option { seen, value, nb_cfg: 0 });
    }

    fn write(&mut self, write: Write) {
        let delay = self.some(100, 1_500);
        self.after(delay, Event::Write(self.controller.run, write));
        self.controller_waits();
    }

    /// The message at the store or the database. What was sent by a process
    /// that has died may have got out or not, and may be under way for long.
    pub(crate) fn controller_write(&mut self, run: u32, write: Write) {
        if !self.controls(run) {
            match self.rng.u8(0..4) {
                0 | 1 => return,
                2 => {
                    let delay = self.down_time();
                    return self.after(delay, Event::Write(run, write));
                }
                _ => {}
            }
        }
        // The store refuses what was made of an object that has changed since.
        let outlived = self.controller.run > run + 1;
        if outlived && matches!(write, Write::Progress(_) | Write::Barrier(_)) {
            return self.coverage.count("a dead controller's write refused", None);
        }
        let result = match write {
            Write::Progress(progress) | Write::Barrier(progress) => {
                let (takes, answers) = self.store_answers();
                if takes {
                    let progress = progress.clone();
                    self.edit(|object| object.status.progress = progress);
                }
                answers.then_some(Write::Progress(progress))
            }
            Write::Lead { seen } => {
                let away = self.now < self.controller.away_until;
                if (away && self.rng.bool()) || seen != self.nb.leader {
                    None
                } else {
                    self.set_leader(run);
                    (!away).then_some(write)
                }
            }
            Write::Option { seen, value, .. } => {
                let away = self.now < self.controller.away_until;
                let deposed = self.nb.leader != run && self.mutation != Some(Mutation::NoFence);
                if deposed {
                    self.coverage.count("a deposed controller's change refused", None);
                }
                if (away && self.rng.bool()) || deposed || seen != self.nb.options() {
                    None
                } else {
                    self.check_fight(&seen, &value);
                    let nb_cfg = self.set_options(value.clone());
                    (!away).then_some(Write::Option { seen, value, nb_cfg })
                }
            }
        };
        let delay = self.some(50, 500);
        self.after(delay, Event::Written(run, result.ok_or(())));
    }

    pub(crate) fn controller_written(&mut self, run: u32, result: Result<Write, ()>) {
        if !self.controls(run) {
            return;
        }
        let Ok(write) = result else {
            self.coverage.count("controller's write unknown or refused", None);
            self.controller.not_before = self.now + RETRY;
            return self.end_controller_turn(Some(RETRY));
        };
        let away = self.now < self.controller.away_until;
        match write {
            Write::Progress(progress) | Write::Barrier(progress) => {
                self.controller.written = Some(progress.clone());
                let Some(turn) = &mut self.controller.turn else { return };
                turn.object.status.progress = progress;
                if away { self.end_controller_turn(Some(RETRY)) } else { self.carry_out() }
            }
            Write::Lead { .. } => {
                self.catch_up();
                self.controller.leads = true;
                self.advance();
            }
            Write::Option { nb_cfg, .. } => {
                self.catch_up();
                let Some(turn) = &mut self.controller.turn else { return };
                let mut progress = turn.object.status.progress.clone();
                if turn.change.take().is_some_and(|change| change.note(nb_cfg, &mut progress)) {
                    turn.entered = true;
                    self.write(Write::Barrier(progress));
                } else {
                    self.advance();
                }
            }
        }
    }

    /// A session is told of its own change, and of all before it, before the reply.
    fn catch_up(&mut self) {
        if self.controller.nb.version < self.nb.version {
            self.controller.nb = self.nb.clone();
        }
    }

    /// Options that someone else changes are not set again at full speed.
    fn check_fight(&mut self, seen: &Restore, value: &Restore) {
        let now = self.now;
        let last = self.controller.set.replace((value.clone(), now));
        if seen == value {
            return;
        }
        // Once may be: it had decided to ask for `hv_cfg` again before it saw.
        let hurries = last.is_some_and(|(last, at)| last == *value && now < at + RETRY * 9 / 10);
        self.controller.hurries = if hurries { self.controller.hurries + 1 } else { 0 };
        if self.controller.hurries > 1 {
            self.violate("the options are fought over at full speed".to_owned());
        }
    }

    fn end_controller_turn(&mut self, wait: Option<Time>) {
        self.controller.turn = None;
        self.controller.timer += 1;
        if let Some(wait) = wait {
            self.after(wait, Event::ControllerWake(self.controller.run, self.controller.timer));
        }
        if std::mem::take(&mut self.controller.again) {
            self.poke_controller();
        }
    }

    fn databases(&self) -> Databases {
        let (nb, sb) = (&self.controller.nb, &self.controller.sb);
        let name = |chassis: usize| NAMES[chassis].to_owned();
        let mac = GUEST_MAC.to_be_bytes();
        let port = LogicalPort {
            kind: String::new(),
            macs: vec![MacAddr(std::array::from_fn(|i| mac[i + 2]))],
            requested_chassis: nb.requested.clone(),
            activation_strategy: nb.strategy.clone(),
            ..LogicalPort::default()
        };
        let binding = Binding {
            chassis: sb.chassis.map(name),
            additional: sb.additional.iter().copied().map(name).collect(),
            datapath_key: DATAPATH_KEY.into(),
            port_key: GUEST_KEY.into(),
        };
        let geneve = BTreeSet::from(["geneve".to_owned()]);
        let cluster = Cluster {
            chassis: (0..self.count).map(|c| (name(c), geneve.clone())).collect::<BTreeMap<_, _>>(),
            hv_cfg: nb.hv_cfg,
            nb_cfg: (0..self.count).map(|c| (name(c), sb.reported[c])).collect(),
            can_bind_twice: true,
            ..Cluster::default()
        };
        let (port, binding) = (Some(port), Some(binding));
        Databases { cluster: Arc::new(cluster), port, binding, ..Databases::default() }
    }
}
