//! What goes wrong in a schedule.

use limosa_protocol::Phase;

use crate::controller::Controller;
use crate::pipeline::{NAMES, SOURCE, TARGET};
use crate::switch::Port;
use crate::world::{Event, World};
use crate::{Options, Time};

/// A fault; the last number is how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Agent(usize, Time),
    Controller(Time),
    /// ovn-controller; as it comes back it deletes every flow.
    OvnController(usize, Time),
    /// ovn-controller is busy with something else.
    OvnStuck(usize, Time),
    Vswitchd(usize, Time),
    Northd(Time),
    /// The guest's interface gets another number, after a time without any.
    Replug(usize, Time),
    /// A tunnel gets another number.
    Retunnel(usize, usize),
    /// Writes to the store take effect or not, and no one is told.
    Store(Time),
    /// The databases do not answer the controller.
    Databases(Time),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Trigger {
    At(Time),
    /// This long after the phase was entered first.
    On(Phase, Time),
}

/// The faults of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    pub(crate) drawn: Vec<(Trigger, Fault)>,
    /// Processes that die as they wait for the nth time.
    agents: Vec<Option<u32>>,
    controller: Option<u32>,
    struck: Vec<Phase>,
    /// Something has made OVN bind the port anew.
    pub(crate) ovn_struck: bool,
}

fn down(rng: &mut fastrand::Rng) -> Time {
    match rng.u8(0..20) {
        0..13 => rng.u64(1_000..50_000),
        13..19 => rng.u64(50_000..3_000_000),
        _ => rng.u64(3_000_000..70_000_000),
    }
}

impl Faults {
    pub(crate) fn draw(rng: &mut fastrand::Rng, count: usize, options: &Options) -> Self {
        let mut faults = Self {
            drawn: Vec::new(),
            agents: vec![None; count],
            controller: None,
            struck: Vec::new(),
            ovn_struck: false,
        };
        if options.no_faults {
            return faults;
        }
        let n = [0, 1, 1, 1, 2, 2, 2, 3, 3, 4][rng.usize(0..10)];
        for _ in 0..n {
            let trigger = if rng.u8(0..5) == 0 {
                Trigger::At(rng.u64(0..300_000))
            } else {
                let phase = Phase::ALL[rng.usize(1..10)];
                Trigger::On(phase, if rng.bool() { rng.u64(0..3_000) } else { rng.u64(0..80_000) })
            };
            let (chassis, down) = (rng.usize(0..count), down(rng));
            let fault = match rng.u8(0..24) {
                0..4 => Fault::Agent(chassis, down),
                4..8 => {
                    faults.agents[chassis] = Some(rng.u32(1..30));
                    continue;
                }
                8..10 => Fault::Controller(down),
                10..14 => {
                    faults.controller = Some(rng.u32(1..30));
                    continue;
                }
                14..17 => Fault::OvnController(chassis, down),
                17 => Fault::OvnStuck(chassis, down * [1, 20][rng.usize(0..2)]),
                18 => Fault::Vswitchd(chassis, down),
                19 => Fault::Northd(down),
                20 => Fault::Replug(
                    [SOURCE, TARGET][rng.usize(0..2)],
                    // Back before it counts as gone: `MISSING_GRACE`.
                    [0, down.min(2_500_000)][rng.usize(0..2)],
                ),
                21 => Fault::Retunnel(chassis, rng.usize(0..count)),
                22 => Fault::Store(down),
                _ => Fault::Databases(down),
            };
            faults.drawn.push((trigger, fault));
        }
        faults
    }

    pub(crate) fn kills_agent(&mut self, agent: usize, waits: u32) -> bool {
        self.agents[agent].take_if(|nth| *nth == waits).is_some()
    }

    pub(crate) fn kills_controller(&mut self, waits: u32) -> bool {
        self.controller.take_if(|nth| *nth == waits).is_some()
    }
}

impl World {
    pub(crate) fn down_time(&mut self) -> Time {
        down(&mut self.rng)
    }

    /// Faults that were waiting for this phase.
    pub(crate) fn strike_on(&mut self, entered: Phase) {
        if self.faults.struck.contains(&entered) {
            return;
        }
        self.faults.struck.push(entered);
        for (trigger, fault) in self.faults.drawn.clone() {
            if let Trigger::On(phase, delay) = trigger
                && phase == entered
            {
                self.after(delay, Event::Fault(fault));
            }
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        self.note(|| format!("fault: {fault:?}"));
        let phase = Some(self.phase());
        self.faults.ovn_struck |=
            !matches!(fault, Fault::Agent(..) | Fault::Controller(_) | Fault::Store(_) | Fault::Databases(_));
        let lasts = match fault {
            Fault::Agent(a, lasts) => {
                if self.agents[a].alive {
                    self.stop_agent(a);
                }
                lasts
            }
            Fault::Controller(lasts) => {
                if self.controller.alive {
                    self.stop_controller();
                }
                lasts
            }
            Fault::OvnController(c, lasts) => {
                self.coverage.count("ovn-controller killed", phase);
                let ovn = &mut self.ovn[c];
                (ovn.alive, ovn.run, ovn.installed) = (false, ovn.run + 1, false);
                lasts
            }
            Fault::OvnStuck(c, lasts) => {
                self.coverage.count("ovn-controller stuck", phase);
                self.ovn[c].stuck_until = self.now + lasts;
                return;
            }
            Fault::Vswitchd(c, lasts) => {
                self.coverage.count("ovs-vswitchd killed", phase);
                if !self.switches[c].up {
                    return;
                }
                self.disturb(c);
                self.ledger.block(c, true);
                self.switches[c].up = false;
                let ovn = &mut self.ovn[c];
                (ovn.run, ovn.installed, ovn.hole) = (ovn.run + 1, false, false);
                let (run, generation) = (self.agents[c].run, self.switches[c].generation);
                let delay = self.some(20, 500);
                self.after(delay, Event::Disconnected { agent: c, run, generation });
                lasts
            }
            Fault::Northd(lasts) => {
                self.coverage.count("northd killed", phase);
                self.northd_up = false;
                lasts
            }
            Fault::Replug(c, gap) => return self.replug(c, gap),
            Fault::Retunnel(c, peer) => return self.retunnel(c, peer),
            Fault::Store(lasts) => {
                self.coverage.count("store away", phase);
                self.store.away_until = self.now + lasts;
                return;
            }
            Fault::Databases(lasts) => {
                self.coverage.count("databases away", phase);
                self.controller.away_until = self.now + lasts;
                self.poke_controller();
                lasts
            }
        };
        self.after(lasts, Event::Mend(fault));
    }

    pub(crate) fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::Agent(a, _) => {
                if !self.agents[a].alive {
                    self.start_agent(a);
                }
            }
            Fault::Controller(_) => {
                if !self.controller.alive {
                    self.start_controller();
                }
            }
            Fault::OvnController(c, _) => {
                let ovn = &mut self.ovn[c];
                if !ovn.alive {
                    (ovn.alive, ovn.run) = (true, ovn.run + 1);
                    let (run, delay) = (ovn.run, self.some(100, 10_000));
                    self.after(delay, Event::OvnConnect(c, run));
                }
            }
            Fault::Vswitchd(c, _) => {
                self.note(|| format!("switch {}: starts, empty", NAMES[c]));
                self.ledger.block(c, false);
                self.switches[c].restart();
                self.disturb(c);
                let delay = self.some(500, 50_000);
                self.after(delay, Event::OvnConnect(c, self.ovn[c].run));
            }
            Fault::Northd(_) => {
                self.northd_up = true;
                self.after(0, Event::Northd);
            }
            Fault::Replug(c, _) => self.replugged(c),
            Fault::Databases(_) => {
                let Controller { nb, sb, .. } = &mut self.controller;
                (*nb, *sb) = (self.nb.clone(), self.sb.clone());
                self.poke_controller();
            }
            Fault::OvnStuck(..) | Fault::Retunnel(..) | Fault::Store(_) => {}
        }
    }

    fn retunnel(&mut self, c: usize, peer: usize) {
        if c == peer {
            return;
        }
        self.coverage.count("tunnel re-created", Some(self.phase()));
        self.disturb(c);
        for (ofport, port) in &mut self.switches[c].ports {
            if *port == Port::Tunnel(peer) {
                *ofport += 100;
            }
        }
        self.ports_changed(c);
    }
}
