//! Standing pins of instances that ask for them by annotation: which there should be, and the difference, written.

use std::collections::{BTreeMap, BTreeSet};

use limosa_kubevirt::pin::{self, Change, Pin, is_asked_for, pins};
use limosa_kubevirt::{Nodes, Pod};
use limosa_protocol::object::Migration;

use super::Kubevirt;
use super::view::View;
use crate::controller::databases::{Databases, WriteError};

/// By port.
type Pins = BTreeMap<String, Pin>;

impl Kubevirt {
    /// The pins that there should be, as far as it can be told for which chassis.
    pub(crate) fn pins(&self, nodes: &Nodes) -> Pins {
        let view = self.view.borrow().clone();
        if !self.options.pins || !view.is_complete() || !view.vmis.values().any(|vmi| is_asked_for(vmi)) {
            return Pins::new();
        }
        let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in view.pods.values() {
            pods.entry(&pod.vmi).or_default().push(pod);
        }
        let of = |uid: &str| pods.get(uid).map(Vec::as_slice).unwrap_or_default();
        view.vmis.values().flat_map(|vmi| pins(vmi, of(&vmi.meta.uid), nodes)).collect()
    }

    /// Makes the pins what they should be, of all ports that nobody migrates. After an error the rest has to wait.
    pub(crate) async fn write_pins(
        &mut self,
        wanted: &Pins,
        migrations: &[Migration],
        databases: &mut Databases,
    ) -> Result<(), WriteError> {
        let view = self.view.borrow().clone();
        if !view.is_complete() {
            return Ok(());
        }
        let moving: BTreeSet<&str> =
            migrations.iter().map(|migration| migration.spec.port.as_str()).collect();
        let ports: BTreeSet<String> = databases.standing().iter().chain(wanted.keys()).cloned().collect();
        for port in ports.iter().filter(|port| !moving.contains(port.as_str())) {
            let Some(found) = databases.found(port) else { continue };
            let asked = found.pin.as_ref().is_some_and(|pin| self.options.pins && asks(&view, &pin.vmi));
            let Some(change) = pin::change(&found, wanted.get(port), asked) else { continue };
            databases.change_standing(port, &change).await?;
            match change {
                Change::Set(Pin { vmi, chassis }) => {
                    tracing::info!(port, vmi, chassis, "pinned, as it asks for")
                }
                Change::TakeOff => tracing::info!(port, "no standing pin any more"),
                Change::Yield => tracing::warn!(
                    port,
                    found = found.requested,
                    "somebody else has changed options:requested-chassis; it stays as it is, and is not ours any more"
                ),
            }
        }
        Ok(())
    }
}

/// Whether an instance, by namespace and name, runs and asks for pins.
fn asks(view: &View, vmi: &str) -> bool {
    let key = vmi.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    key.and_then(|key| view.vmis.get(&key)).is_some_and(|vmi| is_asked_for(vmi))
}
