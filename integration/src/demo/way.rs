//! Two ways to hand the port over: Limosa's, and OVN's own to compare it with.

use anyhow::Result;
use serde_json::Value;

use super::limosa::{Limosa, Step};
use crate::clock::{ClockPair, monotonic_ns};
use crate::lab::Lab;

/// How the port is handed over.
#[derive(Debug)]
pub(crate) enum Way {
    Limosa(Limosa),
    Ovn,
}

/// A migration under way.
#[derive(Debug)]
pub(crate) struct Ticket {
    port: String,
    /// The object's name; OVN has none.
    name: String,
    to: String,
    options: String,
    pub(super) steps: Vec<Step>,
}

/// What follows the guest's announcement, and how a person calls it.
const LIMOSA_PHASES: [(&str, &str); 4] = [
    ("activated", "the target's switch let the guest in; its traffic still runs through the source"),
    ("bound", "OVN has the port on both chassis, and every chassis has caught up"),
    ("switched", "OVN's own flows on the target carry the traffic"),
    ("released", "OVN has the port on the target alone"),
];

impl Way {
    /// Asks for the migration; then the target's interface may appear.
    pub(crate) async fn begin(&self, lab: &Lab, port: &str, from: &str, to: &str) -> Result<Ticket> {
        let options = lab.port_options(port).await?;
        let name = match self {
            Self::Limosa(limosa) => limosa.migrate(lab, port, from, to).await?.name().to_owned(),
            Self::Ovn => {
                let both = format!("requested-chassis={from},{to}");
                lab.nbctl(&["--wait=hv", "lsp-set-options", port, &both, "activation-strategy=rarp"]).await?;
                String::new()
            }
        };
        Ok(Ticket { port: port.to_owned(), name, to: to.to_owned(), options, steps: Vec::new() })
    }

    /// Waits until the guest may run on the target.
    pub(crate) async fn armed(&self, lab: &Lab, ticket: &Ticket) -> Result<()> {
        match self {
            Self::Limosa(limosa) => limosa.wait(lab, &ticket.name, "armed").await.map(drop),
            Self::Ovn => lab.sync().await,
        }
    }

    /// Follows the steps after the guest runs on the target until the source
    /// is no longer needed; `tell` hears of each.
    pub(crate) async fn follow(
        &self,
        lab: &Lab,
        ticket: &mut Ticket,
        mut tell: impl FnMut(&str),
    ) -> Result<()> {
        match self {
            Self::Limosa(limosa) => {
                for (phase, text) in LIMOSA_PHASES {
                    let object = limosa.wait(lab, &ticket.name, phase).await?;
                    ticket.steps = object.steps(ClockPair::now());
                    tell(text);
                }
            }
            Self::Ovn => {
                ticket.step("Rebinding");
                let alone = format!("requested-chassis={}", ticket.to);
                lab.nbctl(&["--wait=hv", "lsp-set-options", &ticket.port, &alone]).await?;
                ticket.step("Rebound");
                tell("OVN has the port on the target alone");
            }
        }
        Ok(())
    }

    /// Waits for the end, once the source's interface is gone.
    pub(crate) async fn end(&self, lab: &Lab, ticket: &mut Ticket) -> Result<()> {
        match self {
            Self::Limosa(limosa) => {
                let object = limosa.wait(lab, &ticket.name, "completed").await?;
                ticket.steps = object.steps(ClockPair::now());
            }
            Self::Ovn => {
                lab.nbctl(&["--wait=hv", "clear", "Logical_Switch_Port", &ticket.port, "options"]).await?;
                ticket.step("Completed");
            }
        }
        Ok(())
    }

    /// What the migration's object says of the connections that `from` tracked.
    pub(crate) async fn connections(&self, lab: &Lab, ticket: &Ticket, from: &str) -> Result<Value> {
        match self {
            Self::Limosa(limosa) => {
                Ok(limosa.wait(lab, &ticket.name, "completed").await?.connections(from).clone())
            }
            Self::Ovn => Ok(Value::Null),
        }
    }

    /// What is not as it was before: flows of ours on any bridge, options of
    /// the port, processes that have ended.
    pub(crate) async fn left_behind(&self, lab: &Lab, ticket: &Ticket) -> Result<Vec<String>> {
        let mut left = super::limosa::left_behind(lab, &ticket.port, &ticket.options).await?;
        if let Self::Limosa(limosa) = self {
            left.extend(limosa.ended());
        }
        Ok(left)
    }
}

impl Ticket {
    fn step(&mut self, name: &str) {
        self.steps.push(Step { name: name.to_owned(), who: "ovn-nbctl".to_owned(), at_ns: monotonic_ns() });
    }
}
