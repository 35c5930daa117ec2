//! ovn-controllers without switches, and what is looked up in both databases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use ovsdb_rs::{
    Clause, Datum, Function, Mutator, Replica, Row, Session, TableMonitor, Transaction, Typed, Uuid,
};
use tokio::sync::watch;

use super::Stage;
use super::ledger::Ledger;
use crate::kube::DEADLINE;
use crate::lab::Lab;

ovsdb_rs::table! {
    struct PortBinding in "Port_Binding" {
        logical_port: String,
        chassis: Option<Uuid>,
        additional_chassis: Vec<Uuid>,
        options: BTreeMap<String, String>,
    }
    struct Chassis in "Chassis" {
        name: String,
    }
    struct ChassisPrivate in "Chassis_Private" {
        name: String,
        nb_cfg: i64,
    }
    struct SbGlobal in "SB_Global" {
        nb_cfg: i64,
    }
    struct SwitchPort in "Logical_Switch_Port" {
        name: String,
        options: BTreeMap<String, String>,
        external_ids: BTreeMap<String, String>,
    }
}

const REQUESTED: &str = "requested-chassis";
/// Where every port is.
const SWITCH: &str = "ls0";

/// What the northbound database says of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub options: BTreeMap<String, String>,
    pub external_ids: BTreeMap<String, String>,
}

/// `Port_Binding.chassis` and `additional_chassis`, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    pub chassis: Option<String>,
    pub additional: Vec<String>,
}

/// Both databases.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) nb: Session,
    pub(super) sb: Session,
}

fn named(column: &str, name: &str) -> [Clause; 1] {
    [Clause::new(column, Function::Equal, name)]
}

impl Sessions {
    pub(super) async fn open(lab: &Lab) -> Result<Self> {
        let nb = Session::open(lab.nb().parse()?, "OVN_Northbound", vec![TableMonitor::of::<SwitchPort>()]);
        let monitors = vec![
            TableMonitor::of::<PortBinding>(),
            TableMonitor::of::<Chassis>(),
            TableMonitor::of::<ChassisPrivate>(),
            TableMonitor::of::<SbGlobal>(),
        ];
        let sb = Session::open(lab.sb().parse()?, "OVN_Southbound", monitors);
        nb.ready(DEADLINE).await?;
        sb.ready(DEADLINE).await?;
        let switch = Transaction::new().insert("Logical_Switch", None, Row::new().with("name", SWITCH));
        nb.transact(switch).await.context("make a switch")?;
        Ok(Self { nb, sb })
    }

    pub(super) async fn add_chassis(&self, chassis: &str, node: &str) -> Result<()> {
        // Nothing is ever sent there, but no two may have the same.
        let ip = std::net::Ipv4Addr::from(fastrand::u32(0x0a00_0001..0x0aff_ffff)).to_string();
        let encap = Row::new().with("type", "geneve").with("ip", ip).with("chassis_name", chassis);
        let row = Row::new()
            .with("name", chassis)
            .with("hostname", node)
            .with("encaps", Datum::named_uuid("encap"));
        let private = Row::new().with("name", chassis).with("chassis", Datum::named_uuid("chassis"));
        let add = Transaction::new()
            .insert("Encap", "encap", encap)
            .insert(Chassis::TABLE, "chassis", row)
            .insert(ChassisPrivate::TABLE, None, private);
        self.sb.transact(add).await.with_context(|| format!("register chassis {chassis}")).map(drop)
    }

    pub(super) async fn remove_chassis(&self, chassis: &str) -> Result<()> {
        let remove = Transaction::new()
            .delete(ChassisPrivate::TABLE, named("name", chassis))
            .delete(Chassis::TABLE, named("name", chassis));
        self.sb.transact(remove).await.with_context(|| format!("delete chassis {chassis}")).map(drop)
    }

    pub(super) async fn add_ports(&self, ports: &[String], options: &Options) -> Result<()> {
        let mut add = Transaction::new();
        for (i, port) in ports.iter().enumerate() {
            let name = format!("port{i}");
            let row = Row::new()
                .with("name", port)
                .with("addresses", Datum::set(["02:00:00:00:01:01"]))
                .with("options", Datum::map(&options.options))
                .with("external_ids", Datum::map(&options.external_ids));
            add = add.insert(SwitchPort::TABLE, name.as_str(), row).mutate(
                "Logical_Switch",
                named("name", SWITCH),
                [("ports", Mutator::Insert, Datum::named_uuid(name))],
            );
        }
        self.nb.transact(add).await.context("make ports").map(drop)
    }

    pub(super) async fn set(&self, port: &str, column: &str, pairs: &[(&str, &str)]) -> Result<()> {
        let set = Transaction::new().set_keys(
            SwitchPort::TABLE,
            named("name", port),
            column,
            pairs.iter().copied(),
        );
        self.nb.transact(set).await.with_context(|| format!("set {column} of {port}")).map(drop)
    }

    pub(super) fn options(&self, port: &str) -> Options {
        let replica = self.nb.replica();
        let row = replica.find(SwitchPort::TABLE, |row| row.str("name") == Some(port));
        let row = row.map(|(uuid, row)| SwitchPort::from_row(*uuid, row));
        row.map(|row| Options { options: row.options, external_ids: row.external_ids }).unwrap_or_default()
    }

    pub(super) fn bound(&self, port: &str) -> Bound {
        let replica = self.sb.replica();
        let row = replica.find(PortBinding::TABLE, |row| row.str("logical_port") == Some(port));
        row.map(|(uuid, row)| bound(&replica, &PortBinding::from_row(*uuid, row))).unwrap_or_default()
    }
}

/// What the southbound database says of every port.
pub(super) fn bound_ports(sb: &Replica) -> BTreeMap<String, Bound> {
    sb.rows().map(|row: PortBinding| (row.logical_port.clone(), bound(sb, &row))).collect()
}

fn bound(sb: &Replica, row: &PortBinding) -> Bound {
    let name = |chassis: Chassis| chassis.name;
    let mut additional: Vec<String> = sb.referenced(&row.additional_chassis).map(name).collect();
    additional.sort();
    Bound { chassis: sb.referenced(&row.chassis).map(name).next(), additional }
}

/// Takes note of every value of every port's pin.
pub(super) async fn note_options(nb: Session, ledger: Arc<Mutex<Ledger>>) {
    let mut changes = nb.subscribe();
    loop {
        let replica = changes.borrow_and_update().clone();
        for mut row in replica.rows::<SwitchPort>() {
            let pin = row.options.remove(REQUESTED);
            ledger.lock().unwrap_or_else(PoisonError::into_inner).note_pin(&row.name, pin);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Plays the ovn-controllers of all chassis that are alive.
pub(super) async fn play(sb: Session, stage: watch::Sender<Stage>) {
    let (mut changes, mut stage) = (sb.subscribe(), stage.subscribe());
    loop {
        let replica = changes.borrow_and_update().clone();
        let transaction = turn(&replica, &stage.borrow_and_update());
        if !transaction.is_empty() && sb.transact(transaction).await.is_err() {
            // The database has gone, and with it the play.
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = stage.changed() => if changed.is_err() { return },
        }
    }
}

/// What they all write about what they see: claims and releases first, and that they have followed.
fn turn(sb: &Replica, stage: &Stage) -> Transaction {
    let uuids: BTreeMap<String, Uuid> = sb.rows().map(|row: Chassis| (row.name, row.uuid)).collect();
    let mut transaction = Transaction::new();
    for row in sb.rows::<PortBinding>() {
        let now = bound(sb, &row);
        let wanted = claims(&row, &now, stage);
        if wanted != now {
            let set = |names: &[String]| Datum::set(names.iter().filter_map(|name| uuids.get(name).copied()));
            let chassis: Vec<String> = wanted.chassis.into_iter().collect();
            let claimed =
                Row::new().with("chassis", set(&chassis)).with("additional_chassis", set(&wanted.additional));
            let port = named("logical_port", &row.logical_port);
            transaction = transaction.update(PortBinding::TABLE, port, claimed);
        }
    }
    let nb_cfg = sb.rows().next().map_or(0, |global: SbGlobal| global.nb_cfg);
    let late = |row: &ChassisPrivate| row.nb_cfg < nb_cfg && stage.chassis.contains_key(&row.name);
    for row in sb.rows::<ChassisPrivate>().filter(late) {
        let reached = Row::new().with("nb_cfg", nb_cfg);
        transaction = transaction.update(ChassisPrivate::TABLE, named("name", &row.name), reached);
    }
    transaction
}

/// Who has a port once every chassis has done what it may and must. What a chassis that is dead has had stays its own
/// until another takes it.
fn claims(row: &PortBinding, now: &Bound, stage: &Stage) -> Bound {
    let requested = row.options.get(REQUESTED).map(String::as_str).unwrap_or_default();
    let place = |chassis: &str| {
        let node = stage.chassis.get(chassis).map(String::as_str);
        match requested {
            "" => Some(0),
            list => list.split(',').position(|name| name == chassis || Some(name) == node),
        }
    };
    let plugged = stage.plugged.get(&row.logical_port).into_iter().flatten();
    let here: Vec<&String> = plugged.filter(|chassis| stage.chassis.contains_key(*chassis)).collect();
    let is_dead = |chassis: &&String| !stage.chassis.contains_key(*chassis);
    let main = here.iter().rev().find(|chassis| place(chassis) == Some(0)).copied();
    let main = main.or_else(|| now.chassis.as_ref().filter(is_dead)).cloned();
    let second = here.iter().filter(|chassis| place(chassis).is_some_and(|place| place > 0)).copied();
    let mut additional: Vec<String> = second
        .chain(now.additional.iter().filter(is_dead))
        .filter(|c| Some(*c) != main.as_ref())
        .cloned()
        .collect();
    additional.sort();
    additional.dedup();
    Bound { chassis: main, additional }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(alive: &[&str], plugged: &[&str]) -> Stage {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        Stage {
            chassis: alive.iter().map(|&name| (name.to_owned(), format!("node-{name}"))).collect(),
            plugged: [("p".to_owned(), owned(plugged))].into(),
            ..Stage::default()
        }
    }

    #[test]
    fn a_port_is_claimed_by_whom_it_is_requested_for() {
        let bound = |chassis: Option<&str>, additional: &[&str]| Bound {
            chassis: chassis.map(str::to_owned),
            additional: additional.iter().map(|&name| name.to_owned()).collect(),
        };
        let both = ["a", "b"];
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Bound, Bound);
        // requested-chassis, who is alive, who has the interface, who has the port, who has it then.
        let cases: [Case<'_>; 8] = [
            ("", &both, &["a"], bound(None, &[]), bound(Some("a"), &[])),
            // Whoever is plugged last takes an unpinned port.
            ("", &both, &both, bound(Some("a"), &[]), bound(Some("b"), &[])),
            ("a", &both, &both, bound(Some("b"), &[]), bound(Some("a"), &[])),
            ("a,b", &both, &both, bound(Some("a"), &[]), bound(Some("a"), &["b"])),
            ("node-b", &both, &both, bound(Some("a"), &["b"]), bound(Some("b"), &[])),
            ("a", &both, &["b"], bound(Some("a"), &[]), bound(None, &[])),
            // A dead one keeps what it has, until another may take it.
            ("a,b", &["b"], &both, bound(Some("a"), &[]), bound(Some("a"), &["b"])),
            ("b", &["b"], &both, bound(Some("a"), &["b"]), bound(Some("b"), &[])),
        ];
        for (requested, alive, plugged, now, then) in cases {
            let row = PortBinding {
                uuid: Uuid::nil(),
                logical_port: "p".to_owned(),
                chassis: None,
                additional_chassis: Vec::new(),
                options: [(REQUESTED.to_owned(), requested.to_owned())].into(),
            };
            let found = claims(&row, &now, &stage(alive, plugged));
            assert_eq!(found, then, "{requested:?} {alive:?} {plugged:?} {now:?}");
        }
    }
}
