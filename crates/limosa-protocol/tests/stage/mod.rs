//! The world around one migration, played by hand.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use limosa_protocol::Phase;
use limosa_protocol::lifecycle::{Binding, Change, Cluster, LogicalPort, MISSING_GRACE, World, decide};
use limosa_protocol::object::{
    ConditionType, Guest, InterfaceStatus, Migration, NodeStatus, Spec, Step, Truth,
};
use uuid::Uuid;

/// A migration of `vm1` from a to b, and everything around it.
pub(crate) struct Stage {
    pub(crate) migration: Migration,
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    pub(crate) nb_cfg: i64,
    /// Every value that the option was given, in order.
    pub(crate) options: Vec<Option<String>>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let spec = Spec::new("vm1", "a", Some("b".to_owned()));
        let geneve = || BTreeSet::from(["geneve".to_owned()]);
        let world = World {
            port: Some(LogicalPort {
                macs: vec!["02:00:00:00:01:01".parse().unwrap()],
                ..LogicalPort::default()
            }),
            binding: Some(Binding {
                chassis: Some("a".into()),
                datapath_key: 7,
                port_key: 3,
                ..Binding::default()
            }),
            cluster: Arc::new(Cluster {
                chassis: BTreeMap::from(["a", "b", "x"].map(|name| (name.to_owned(), geneve()))),
                can_bind_twice: true,
                ..Cluster::default()
            }),
            ..World::default()
        };
        let migration = Migration::new("m".into(), Uuid::from_u128(41), spec, Timestamp::UNIX_EPOCH);
        Self { migration, world, now: Timestamp::UNIX_EPOCH, nb_cfg: 0, options: Vec::new() }
    }

    pub(crate) fn cluster(&mut self) -> &mut Cluster {
        Arc::make_mut(&mut self.world.cluster)
    }

    /// Decides and carries out, until nothing more follows.
    pub(crate) fn settle(&mut self) -> Phase {
        for _ in 0..20 {
            let decision = decide(&self.migration, &self.world, self.now);
            let before = self.migration.phase();
            self.migration.status.progress = decision.progress;
            match decision.change {
                Some(ref change @ Change::Set { ref requested_chassis, .. }) => {
                    self.nb_cfg += 1;
                    self.set_option(Some(requested_chassis.clone()));
                    let name = self.migration.metadata.name.clone();
                    let port = self.world.port.as_mut().unwrap();
                    port.activation_strategy = None;
                    port.pinned_by = Some(name);
                    change.note(self.nb_cfg, &mut self.migration.status.progress);
                }
                Some(Change::Restore(options)) => {
                    self.set_option(options.requested_chassis);
                    let port = self.world.port.as_mut().unwrap();
                    port.activation_strategy = options.activation_strategy;
                    port.pinned_by = None;
                }
                None if before == self.migration.phase() => return before,
                None => {}
            }
        }
        panic!("does not settle: {:#?}", self.migration.status);
    }

    pub(crate) fn set_option(&mut self, value: Option<String>) {
        self.world.port.as_mut().unwrap().requested_chassis.clone_from(&value);
        if self.options.last() != Some(&value) {
            self.options.push(value);
        }
    }

    /// The chassis that the option names claim the port.
    pub(crate) fn ovn_claims(&mut self) {
        let option = self.world.port.as_ref().unwrap().requested_chassis.clone().unwrap();
        let mut names = option.split(',').map(str::to_owned);
        let binding = self.world.binding.as_mut().unwrap();
        binding.chassis = names.next();
        binding.additional = names.collect();
        self.settle();
    }

    pub(crate) fn chassis_catch_up(&mut self) {
        self.ovn_claims();
        // It is asked for more than once.
        while self.world.cluster.hv_cfg != self.nb_cfg {
            self.cluster().hv_cfg = self.nb_cfg;
            self.settle();
        }
    }

    pub(crate) fn node(&mut self, chassis: &str) -> &mut NodeStatus {
        let role = self.migration.role_of(chassis);
        self.migration.status.nodes.entry(chassis.to_owned()).or_insert_with(|| NodeStatus::new(role))
    }

    pub(crate) fn plug(&mut self, chassis: &str, link_up: bool) {
        self.node(chassis).interface = Some(InterfaceStatus { name: "tap0".into(), ofport: 5, link_up });
    }

    /// For good, as it turns out.
    pub(crate) fn unplug(&mut self, chassis: &str) {
        self.node(chassis).interface = None;
        self.settle();
        self.now += MISSING_GRACE;
    }

    pub(crate) fn steps(&mut self, chassis: &str, steps: &[Step]) {
        let now = self.now;
        steps.iter().for_each(|step| self.node(chassis).take(*step, now));
    }

    pub(crate) fn reach_armed(&mut self) {
        assert_eq!(self.settle(), Phase::Pinning);
        self.chassis_catch_up();
        assert_eq!(self.settle(), Phase::Arming);
        self.plug("a", true);
        self.plug("b", true);
        self.steps("b", &[Step::Armed]);
        assert_eq!(self.settle(), Phase::Arming, "the source is not ready");
        self.steps("a", &[Step::Armed]);
        assert_eq!(self.settle(), Phase::Armed);
    }

    pub(crate) fn reach_switched(&mut self) {
        self.reach_armed();
        self.reach_switched_from_armed();
    }

    pub(crate) fn reach_switched_from_armed(&mut self) {
        self.steps("b", &[Step::Activated]);
        assert_eq!(self.settle(), Phase::Activated);
        self.chassis_catch_up();
        self.steps("b", &[Step::Bound]);
        assert_eq!(self.settle(), Phase::Bound);
        self.steps("b", &[Step::Opened, Step::Switched]);
        assert_eq!(self.settle(), Phase::Switched);
    }

    pub(crate) fn why(&self, kind: ConditionType) -> (Truth, String, String) {
        let condition = self.migration.status.progress.condition(kind).expect("no such condition");
        (condition.status, condition.reason.clone(), condition.message.clone())
    }

    /// The orchestrator's object, which names the virtual machine.
    pub(crate) fn orchestrated() -> Self {
        let mut stage = Self::new();
        let (vm, nic, migration) = ("vm".to_owned(), "default".to_owned(), "m".to_owned());
        stage.migration.spec.guest = Some(Guest { vm, nic, migration });
        stage
    }

    pub(crate) fn bind_to(&mut self, chassis: &str) {
        self.world.binding.as_mut().unwrap().chassis = Some(chassis.to_owned());
    }

    pub(crate) fn option(&self) -> Option<&str> {
        self.world.port.as_ref().unwrap().requested_chassis.as_deref()
    }

    /// Flows are gone everywhere, and so is the interface of the side that has no guest.
    pub(crate) fn clean_up(&mut self, loser: &str) {
        for chassis in ["a", "b"] {
            self.steps(chassis, &[Step::Cleaned]);
        }
        self.unplug(loser);
    }
}
