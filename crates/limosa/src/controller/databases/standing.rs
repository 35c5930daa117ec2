//! Standing pins in the northbound database: what is written beside `requested-chassis` of a port that is pinned without
//! any migration. In its `external_ids`:
//!
//! | key | value |
//! |---|---|
//! | `limosa-pin` | `standing` |
//! | `limosa-pin-vmi` | the instance that asks for it, `NAMESPACE/NAME` |
//! | `limosa-pin-chassis` | what the option was set to: with another value the pin is somebody else's |

use std::collections::BTreeSet;

use limosa_kubevirt::pin::{Change, Found, Pin};
use limosa_protocol::object::Restore;
use ovsdb_rs::{Clause, Datum, Function, Transaction};

use super::tables::SwitchPort;
use super::write::{LSP, WriteError};
use super::{Databases, MARK, REQUESTED_CHASSIS, namespace};

const KIND: (&str, &str) = ("limosa-pin", "standing");
const VMI: &str = "limosa-pin-vmi";
const CHASSIS: &str = "limosa-pin-chassis";

/// The pin beside the option of a port, if it has one.
fn pin(port: &SwitchPort) -> Option<Pin> {
    let noted = |key| port.external_ids.get(key).cloned();
    noted(KIND.0)?;
    Some(Pin { vmi: noted(VMI).unwrap_or_default(), chassis: noted(CHASSIS).unwrap_or_default() })
}

/// The end of a migration of a port with a standing pin: what its option is then is ours as it was before.
pub(super) fn carry_along(transaction: Transaction, seen: &SwitchPort, options: &Restore) -> Transaction {
    match (pin(seen), &options.requested_chassis) {
        (Some(_), Some(chassis)) => {
            let named = [Clause::new("name", Function::Equal, &seen.name)];
            transaction.set_keys(LSP, named, "external_ids", [(CHASSIS, chassis.as_str())])
        }
        _ => transaction,
    }
}

impl Databases {
    /// The ports that have a standing pin, asked of the server.
    pub(super) async fn find_standing(&self) -> Result<BTreeSet<String>, WriteError> {
        let pinned = Clause::new("external_ids", Function::Includes, Datum::map([KIND]));
        let mut results = self.nb.transact(Transaction::new().select(LSP, [pinned], ["name"])).await?;
        let rows = results.pop().map(|select| select.rows).unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row.str("name").map(str::to_owned)).collect())
    }

    /// The ports that have a standing pin.
    pub(crate) fn standing(&self) -> &BTreeSet<String> {
        &self.standing
    }

    /// Follows those ports, too, once they are known.
    pub(crate) async fn follow_standing(&mut self) -> anyhow::Result<()> {
        let ports = self.ports.clone();
        self.follow(ports).await
    }

    /// What there is of a port that is followed; none if a migration has pinned it. One that has gone has no pin to
    /// look after.
    pub(crate) fn found(&mut self, port: &str) -> Option<Found> {
        let Some(row) = self.switch_port(port) else {
            self.standing.remove(port);
            return None;
        };
        let requested = row.options.get(REQUESTED_CHASSIS).cloned();
        let namespace = namespace(&row);
        (!row.external_ids.contains_key(MARK)).then(|| Found { requested, pin: pin(&row), namespace })
    }

    /// Writes the option with what says that it is ours, or takes it off; refused if anyone has changed the options
    /// meanwhile.
    pub(crate) async fn change_standing(&mut self, port: &str, change: &Change) -> Result<(), WriteError> {
        let seen = self.switch_port(port).ok_or_else(|| WriteError::NoPort(port.to_owned()))?;
        let named = || [Clause::new("name", Function::Equal, port)];
        let transaction = self.if_as_seen(&seen);
        let transaction = match change {
            Change::Set(Pin { vmi, chassis }) => transaction
                .comment(format!("limosa: {port} is pinned to {chassis} for {vmi}"))
                .set_keys(LSP, named(), "options", [(REQUESTED_CHASSIS, chassis.as_str())])
                .set_keys(
                    LSP,
                    named(),
                    "external_ids",
                    [KIND, (VMI, vmi.as_str()), (CHASSIS, chassis.as_str())],
                ),
            Change::TakeOff => transaction
                .comment(format!("limosa: no standing pin on {port} any more"))
                .delete_keys(LSP, named(), "options", [REQUESTED_CHASSIS])
                .delete_keys(LSP, named(), "external_ids", [KIND.0, VMI, CHASSIS]),
            Change::Yield => transaction
                .comment(format!("limosa: the pin of {port} is somebody else's"))
                .delete_keys(LSP, named(), "external_ids", [KIND.0, VMI, CHASSIS]),
        };
        self.transact_on(port, transaction).await?;
        if matches!(change, Change::Set(_)) {
            self.standing.insert(port.to_owned());
        } else {
            self.standing.remove(port);
        }
        Ok(())
    }
}
