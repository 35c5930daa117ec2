//! The store: one object, which everyone who watches it sees late.

use std::rc::Rc;

use limosa_protocol::object::Migration;

use crate::Time;
use crate::world::{Event, World};

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) object: Option<Rc<Migration>>,
    /// Grows with each change.
    pub(crate) revision: u64,
    /// Until then nothing is sure that is written.
    pub(crate) away_until: Time,
}

/// Who watches the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seer {
    Agent(usize),
    Controller,
    Hypervisor,
}

/// What a watcher holds: the object at one revision, never an older one later.
#[derive(Debug, Default, Clone)]
pub(crate) struct View {
    pub(crate) object: Option<Rc<Migration>>,
    revision: u64,
}

impl View {
    /// Takes in what the watch tells; false if it is old.
    pub(crate) fn see(&mut self, revision: u64, object: Rc<Migration>) -> bool {
        let new = revision > self.revision;
        if new {
            *self = Self { object: Some(object), revision };
        }
        new
    }
}

impl Store {
    /// What someone reads who opens the store now.
    pub(crate) fn view(&self) -> View {
        View { object: self.object.clone(), revision: self.revision }
    }
}

impl World {
    /// Changes the object; every watcher will see it, or something later.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Migration)) {
        let Some(old) = self.store.object.clone() else { return };
        let mut new = (*old).clone();
        edit(&mut new);
        if new == *old {
            return;
        }
        let (from, to) = (old.phase(), new.phase());
        self.store.object = Some(Rc::new(new));
        if from != to {
            self.coverage.count("phase", Some(to));
            self.note(|| format!("store: {from} -> {to}"));
            self.strike_on(to);
        }
        self.publish();
    }

    pub(crate) fn publish(&mut self) {
        let Some(object) = self.store.object.clone() else { return };
        self.store.revision += 1;
        let mut seers = vec![(Seer::Controller, self.controller.run), (Seer::Hypervisor, 0)];
        seers.extend((0..self.count).map(|agent| (Seer::Agent(agent), self.agents[agent].run)));
        for (seer, run) in seers {
            let delay = self.some(100, 3_000) * self.slow;
            self.after(delay, Event::Seen(seer, run, self.store.revision, object.clone()));
        }
    }

    pub(crate) fn seen(&mut self, seer: Seer, run: u32, revision: u64, object: Rc<Migration>) {
        match seer {
            Seer::Agent(agent) => self.agent_sees(agent, run, revision, object),
            Seer::Controller => self.controller_sees(run, revision, object),
            Seer::Hypervisor => self.hypervisor_sees(revision, object),
        }
    }

    /// Whether a write takes effect, and whether its writer hears so.
    pub(crate) fn store_answers(&mut self) -> (bool, bool) {
        if self.now < self.store.away_until { (self.rng.bool(), false) } else { (true, true) }
    }
}
