//! What could be wrong with the protocol: each mutation changes what the pure
//! functions return, or what they are told. The simulation has to notice.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use limosa_protocol::cookie::Cookie;
use limosa_protocol::layout::VifOutput;
use limosa_protocol::lifecycle::{Change, Decision, OVERWRITE_PAUSE, World as Databases, decide};
use limosa_protocol::node::{Plan, plan};
use limosa_protocol::object::{NodeStatus, Want};
use limosa_protocol::{Facts, Migration, Phase, Purpose, Role, Step, Survey, Vouch};
use ofpacket::{Action, Flow, Instruction, Oxm, OxmField};

macro_rules! mutations {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// One thing that is wrong with the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation { $($(#[$doc])+ $variant,)+ }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

mutations! {
    /// No chassis has the rule below OVN's that covers its holes.
    NoGuard = "no-guard",
    /// The source does not pass on what reaches it late.
    NoRelay = "no-relay",
    /// The target's gate for direct packets is missing.
    NoGateDirect = "no-gate-direct",
    /// The target's gate for mirrored packets is open from the beginning.
    GateOpen = "gate-open",
    /// The switch is two bundles: the diversions go first, the gate afterwards.
    SplitSwitch = "split-switch",
    /// OVN binds the port to the target alone, before it is on both.
    ReleaseBeforeBind = "release-before-bind",
    /// The port is not pinned to the source.
    NoPin = "no-pin",
    /// The northbound database takes changes from a controller that has a successor.
    NoFence = "no-fence",
    /// Nobody waits for the chassis to follow a change.
    NoBarrier = "no-barrier",
    /// The target opens, and the controller lets it, before OVN has any flows for the port there.
    OpenUnbound = "open-unbound",
    /// Mirrored packets are refused in the instant in which direct ones are taken.
    NoOverlap = "no-overlap",
    /// Nobody waits for the datapath to follow the flows that stand.
    TrustAtOnce = "trust-at-once",
    /// The others send to the target alone before it takes direct packets.
    SteerEarly = "steer-early",
    /// The target refuses mirrored packets while some still send to the source alone.
    CloseEarly = "close-early",
    /// What sends to one side alone does not end by itself.
    EndlessSteer = "endless-steer",
    /// The target keeps a guard towards the source after the switch.
    KeepGuard = "keep-guard",
    /// The mirror does not clear the port that a packet came in on.
    KeepInPort = "keep-in-port",
    /// The guest's announcement opens nothing by itself; the agent does it later.
    NoLearn = "no-learn",
    /// Any frame of the guest's interface counts as its announcement.
    AnyAnnouncement = "any-announcement",
    /// What the guest sends on the target skips the source's pipeline.
    SkipPipeline = "skip-pipeline",
    /// What is passed on late is marked as if it had been judged.
    MarkedRelay = "marked-relay",
    /// The pin goes although the losing side still has the interface.
    UnpinEarly = "unpin-early",
    /// The target's first claim at the release is taken for the last one.
    TrustClaim = "trust-claim",
    /// The northbound options are not restored.
    LeaveOption = "leave-option",
    /// The activation strategy is not restored.
    LeaveStrategy = "leave-strategy",
    /// A guest that is back on the source is treated like any abort.
    IgnoreReturn = "ignore-return",
    /// The target's gate stays open for a guest that is dead.
    ReturnOpen = "return-open",
    /// On the way back no chassis looks to the source.
    ReturnUnguarded = "return-unguarded",
    /// On the way back nobody waits for the source to have the port.
    ReturnUnclaimed = "return-unclaimed",
    /// The orchestrator's word for a guest on the target counts for nothing.
    IgnoreActivate = "ignore-activate",
    /// The orchestrator's word counts only while the link is up.
    ActivateWithLink = "activate-with-link",
    /// A port that was claimed too early is refused.
    RefuseStolen = "refuse-stolen",
    /// What someone has overwritten stays so.
    GiveIn = "give-in",
    /// What someone has overwritten is set again at full speed.
    Fight = "fight",
    /// Nobody says that the target's interface is ready.
    NoVouch = "no-vouch",
    /// What was said of the target's interface is left there.
    KeepVouch = "keep-vouch",
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no mutation of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMutation(String);

impl fmt::Display for UnknownMutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Mutation::ALL.iter().map(|mutation| mutation.name()).collect();
        write!(f, "{:?} is no mutation; one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownMutation {}

impl FromStr for Mutation {
    type Err = UnknownMutation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().copied().find(|mutation| mutation.name() == text);
        known.ok_or_else(|| UnknownMutation(text.to_owned()))
    }
}

fn is_for(flow: &Flow, purpose: Purpose) -> bool {
    Cookie::decode(flow.cookie).is_some_and(|cookie| cookie.purpose == purpose)
}

/// The target takes direct and mirrored packets.
fn opens(flows: &[Flow]) -> bool {
    let has = |purpose| flows.iter().any(|flow| is_for(flow, purpose));
    has(Purpose::Take) && has(Purpose::DivertIn) && !has(Purpose::GateDirect)
}

/// The actions of a flow.
fn actions_of(flow: &mut Flow) -> Option<&mut Vec<Action>> {
    match &mut flow.instructions[..] {
        [Instruction::ApplyActions(actions)] => Some(actions),
        _ => None,
    }
}

impl Mutation {
    /// What becomes of a flow; `None` if it is left out.
    fn flow(self, flow: &Flow, object: &Migration, facts: &Facts) -> Option<Flow> {
        let mut flow = flow.clone();
        let is = |purpose| is_for(&flow, purpose);
        match self {
            Self::NoGuard if is(Purpose::Guard) => return None,
            Self::ReturnUnguarded if is(Purpose::Guard) && object.spec.want == Want::Return => return None,
            Self::NoRelay if is(Purpose::Relay) => return None,
            Self::EndlessSteer => flow.hard_timeout = 0,
            Self::NoGateDirect if is(Purpose::GateDirect) => return None,
            Self::GateOpen if is(Purpose::GateMirrored) => {
                let ofport = facts.interfaces.values().next()?.ofport;
                flow.instructions = vec![Instruction::ApplyActions(vec![Action::output(ofport)])];
            }
            Self::KeepInPort if is(Purpose::Mirror) => {
                for action in actions_of(&mut flow)? {
                    if let Action::Clone(copy) = action {
                        copy.remove(0);
                    }
                }
            }
            Self::NoLearn if is(Purpose::Announce) => {
                actions_of(&mut flow)?.retain(|action| !matches!(action, Action::Learn(_)));
            }
            Self::AnyAnnouncement if is(Purpose::Announce) => flow.match_.0.truncate(2),
            Self::SkipPipeline if is(Purpose::Reverse) => {
                let subject = object.status.progress.subject?;
                let set = |field, value: u32| Action::SetField(Oxm::new(field, value));
                let actions = actions_of(&mut flow)?;
                actions.insert(0, set(OxmField::reg(14), subject.port_key.into()));
                actions.insert(0, set(OxmField::METADATA, subject.datapath_key));
                if let Some(Action::Resubmit { table, .. }) = actions.last_mut() {
                    *table = Some(9);
                }
            }
            Self::MarkedRelay if is(Purpose::Relay) => {
                for action in actions_of(&mut flow)? {
                    if let Action::SetField(oxm) = action
                        && oxm.field == OxmField::tun_metadata(0)
                    {
                        *oxm = Oxm::new(oxm.field, 1u32 << 31 | oxm.to_u128().unwrap_or_default() as u32);
                    }
                }
            }
            _ => {}
        }
        Some(flow)
    }

    /// A plan with other flows, by an agent that takes them for the right ones.
    fn plan_flows(
        self,
        good: &Plan,
        object: &Migration,
        own: Option<&NodeStatus>,
        facts: &Facts,
        survey: &Survey,
        now: Timestamp,
    ) -> Option<Plan> {
        let mut believed = survey.clone();
        for right in &good.flows {
            match self.flow(right, object, facts) {
                None if !believed.ours.contains(right) => believed.ours.push(right.clone()),
                None => {}
                Some(wrong) => {
                    believed.ours.iter_mut().filter(|flow| flow.same_as(&wrong)).for_each(|flow| {
                        flow.clone_from(right);
                    });
                }
            }
        }
        let mut plan = plan(object, own, facts, &believed, now)?;
        plan.flows = plan.flows.iter().filter_map(|flow| self.flow(flow, object, facts)).collect();
        Some(plan)
    }

    /// What becomes of a plan.
    pub(crate) fn plan(
        self,
        mut good: Plan,
        object: &Migration,
        own: Option<&NodeStatus>,
        facts: &Facts,
        survey: &Survey,
        now: Timestamp,
    ) -> Option<Plan> {
        match self {
            Self::OpenUnbound => {
                let (subject, mut survey) = (object.status.progress.subject?, survey.clone());
                for interface in facts.interfaces.values() {
                    let (datapath_key, port_key) = (subject.datapath_key, subject.port_key);
                    survey.inputs.insert(interface.ofport);
                    survey.outputs.insert(VifOutput { datapath_key, port_key, ofport: interface.ofport });
                }
                plan(object, own, facts, &survey, now)
            }
            Self::NoOverlap => {
                if opens(&good.flows) {
                    let mut status = own.cloned()?;
                    status.take(Step::Opened, now);
                    let mut object = object.clone();
                    object.status.progress.holders.clear();
                    return plan(&object, Some(&status), facts, survey, now);
                }
                Some(good)
            }
            Self::TrustAtOnce => {
                let mut survey = survey.clone();
                survey.changed_at.values_mut().for_each(|at| *at = Timestamp::UNIX_EPOCH);
                plan(object, own, facts, &survey, now)
            }
            Self::SteerEarly if good.status.role != Role::Target && object.phase() == Phase::Bound => {
                let mut object = object.clone();
                if let Some(target) = object.status.nodes.values_mut().find(|node| node.role == Role::Target)
                {
                    target.take(Step::Opened, now);
                }
                plan(&object, own, facts, survey, now)
            }
            Self::CloseEarly if good.status.has(Step::Opened) => {
                let mut object = object.clone();
                object.status.progress.holders.clear();
                plan(&object, own, facts, survey, now)
            }
            Self::SplitSwitch => {
                let stands = |purpose| survey.ours.iter().any(|flow| is_for(flow, purpose));
                if opens(&good.flows) && stands(Purpose::GateDirect) && stands(Purpose::DivertIn) {
                    let diverts =
                        |flow: &Flow| is_for(flow, Purpose::DivertIn) || is_for(flow, Purpose::DivertOut);
                    good.flows = survey.ours.iter().filter(|flow| !diverts(flow)).cloned().collect();
                }
                Some(good)
            }
            Self::KeepGuard => {
                let target = good.status.role == Role::Target && object.phase().wants_flows();
                if target && !good.flows.iter().any(|flow| is_for(flow, Purpose::Guard)) {
                    // It is taken for nobody's business.
                    let (guards, rest): (Vec<Flow>, Vec<Flow>) =
                        survey.ours.iter().cloned().partition(|flow| is_for(flow, Purpose::Guard));
                    let believed = Survey { ours: rest, ..survey.clone() };
                    good = plan(object, own, facts, &believed, now)?;
                    good.flows.extend(guards);
                }
                Some(good)
            }
            Self::IgnoreReturn => {
                let object = self.deaf(object).unwrap_or_else(|| object.clone());
                plan(&object, own, facts, survey, now)
            }
            Self::ReturnOpen if good.status.role == Role::Target && object.phase().wants_flows() => {
                let mut object = object.clone();
                object.spec.want = Want::Complete;
                plan(&object, own, facts, survey, now)
            }
            Self::NoVouch => {
                good.vouch.take_if(|vouch| matches!(vouch, Vouch::Give { .. }));
                Some(good)
            }
            Self::KeepVouch if good.vouch.as_ref().is_some_and(|v| matches!(v, Vouch::TakeBack { .. })) => {
                let mut facts = facts.clone();
                facts.installed.clear();
                plan(object, own, &facts, survey, now)
            }
            _ => self.plan_flows(&good, object, own, facts, survey, now),
        }
    }

    /// The object as one reads it who does not heed what is wanted.
    fn deaf(self, object: &Migration) -> Option<Migration> {
        let link_up = || {
            let interface = object.target().and_then(|target| target.interface.as_ref());
            interface.is_some_and(|interface| interface.link_up)
        };
        let heard = match (self, object.spec.want) {
            (Self::IgnoreReturn, Want::Return) => Want::Abort,
            (Self::IgnoreActivate, Want::Activate) => Want::Complete,
            (Self::ActivateWithLink, Want::Activate) if !link_up() => Want::Complete,
            _ => return None,
        };
        let mut object = object.clone();
        object.spec.want = heard;
        Some(object)
    }

    /// What becomes of a decision.
    pub(crate) fn decide(self, object: &Migration, mut databases: Databases, now: Timestamp) -> Decision {
        let mut object = self.deaf(object).unwrap_or_else(|| object.clone());
        match self {
            Self::RefuseStolen => object.spec.guest = None,
            Self::ReturnUnclaimed if object.spec.want == Want::Return => {
                Arc::make_mut(&mut databases.cluster).hv_cfg = i64::MAX;
                if let Some(binding) = &mut databases.binding {
                    binding.chassis = Some(object.spec.from.clone());
                }
                if let Some(barrier) = &mut object.status.progress.barrier
                    && barrier.requested_chassis == object.spec.from
                {
                    barrier.round = 3;
                }
            }
            Self::Fight => {
                if let Some(barrier) = &mut object.status.progress.barrier {
                    barrier.since -= OVERWRITE_PAUSE;
                }
            }
            _ => {}
        }
        let object = &object;
        match self {
            Self::NoBarrier => Arc::make_mut(&mut databases.cluster).hv_cfg = i64::MAX,
            Self::TrustClaim if object.phase() == Phase::Switched => {
                let mut object = object.clone();
                if let Some(barrier) = &mut object.status.progress.barrier
                    && barrier.requested_chassis == object.spec.target()
                    && barrier.round == 2
                {
                    barrier.round = 3;
                }
                return decide(&object, &databases, now);
            }
            Self::OpenUnbound => {
                Arc::make_mut(&mut databases.cluster).hv_cfg = i64::MAX;
                if let Some(binding) = &mut databases.binding {
                    binding.additional.push(object.spec.target().to_owned());
                }
            }
            Self::UnpinEarly if matches!(object.phase(), Phase::Released | Phase::RollingBack) => {
                let mut object = object.clone();
                object.status.nodes.values_mut().for_each(|node| node.interface = None);
                return decide(&object, &databases, now);
            }
            Self::NoPin if object.phase() < Phase::Activated => {
                let mut decision = decide(object, &databases, now);
                if decision.change.take().is_some() {
                    decision.progress.enter(Phase::Arming, now);
                }
                return decision;
            }
            _ => {}
        }
        let mut decision = decide(object, &databases, now);
        match (self, &mut decision.change) {
            (Self::ReleaseBeforeBind, Some(Change::Set { requested_chassis, .. }))
                if object.phase() == Phase::Activated =>
            {
                *requested_chassis = object.spec.target().to_owned();
            }
            (Self::LeaveStrategy, Some(Change::Restore(options))) => {
                options
                    .activation_strategy
                    .clone_from(&databases.port.as_ref().and_then(|port| port.activation_strategy.clone()));
            }
            (Self::GiveIn, change @ Some(Change::Set { overwrites: Some(_), .. })) => *change = None,
            (Self::LeaveOption, change @ Some(Change::Restore(_))) => {
                *change = None;
                let end =
                    if object.phase() == Phase::Released { Phase::Completed } else { Phase::RolledBack };
                decision.progress.enter(end, now);
            }
            _ => {}
        }
        decision
    }
}
