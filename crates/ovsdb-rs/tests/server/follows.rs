//! The replica follows whatever anybody does to the database.

use ovsdb_rs::{Clause, Datum, Function, Mutator, Row, Session, TableMonitor, Transaction};

use crate::fixture::{DEADLINE, NB, NB_SCHEMA, Random, Server, VSWITCH, VSWITCH_SCHEMA, open};

const STEPS: usize = 500;
const CHECK_EVERY: usize = 50;

/// What identifies rows in the random run: few names, so that steps meet.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const KEYS: [&str; 5] = ["k0", "k1", "k\"2", "k\\3", "schlüssel"];

fn named(name: &str) -> [Clause; 1] {
    [Clause::new("name", Function::Equal, name)]
}

#[tokio::test]
async fn a_long_random_run_leaves_replica_and_server_equal() {
    let server = Server::start(NB_SCHEMA);
    server.nbctl(&["init"]);
    let tables = ["NB_Global", "Logical_Switch", "Logical_Switch_Port", "Address_Set", "DHCP_Options", "QoS"];
    let monitors = tables.iter().map(|table| TableMonitor::new(*table)).collect();
    let session = open(&server.remote(), NB, monitors).await;
    let mut random = Random(20260101);
    for step in 0..STEPS {
        if random.below(6) == 0 {
            foreign_step(&server, &mut random);
        } else {
            own_step(&session, &mut random).await;
        }
        if (step + 1) % CHECK_EVERY == 0 {
            server.assert_replicated(&session, NB, &tables).await;
        }
    }
    let replica = session.replica();
    for table in tables.iter().filter(|table| **table != "QoS") {
        assert!(replica.table(table).next().is_some(), "the run leaves {table} empty and shows nothing");
    }
}

/// Any mix of operations on the same few rows; the server refuses some, such as a name that is taken.
async fn own_step(session: &Session, random: &mut Random) {
    let name = random.pick(&NAMES);
    let key = random.pick(&KEYS);
    let value = format!("v{}", random.below(3));
    let members: Vec<String> = (0..random.below(5)).map(|_| format!("10.0.0.{}", random.below(9))).collect();
    let transaction = Transaction::new().comment(name);
    let transaction = match random.below(12) {
        0 => transaction.insert("Address_Set", None, Row::new().with("name", name)),
        1 => transaction.delete("Address_Set", named(name)),
        2 => {
            transaction.update("Address_Set", named(name), Row::new().with("addresses", Datum::set(members)))
        }
        3 => transaction.mutate(
            "Address_Set",
            named(name),
            [("addresses", random.mutator(), Datum::set(members))],
        ),
        4 => transaction.set_keys("Address_Set", named(name), "external_ids", [(key, value)]),
        5 => transaction.delete_keys("Address_Set", named(name), "external_ids", [key]),
        6 => transaction.delete_pairs("Address_Set", named(name), "external_ids", [(key, value)]),
        7 => transaction
            .insert("Logical_Switch_Port", "port", Row::new().with("name", format!("{name}-{value}")))
            .mutate("Logical_Switch", named("sw"), [("ports", Mutator::Insert, Datum::named_uuid("port"))]),
        8 => {
            let tag =
                if random.below(2) == 0 { Datum::empty() } else { Datum::from(1 + random.below(9) as i64) };
            let row = Row::new().with("tag", tag).with("up", random.below(2) == 0);
            transaction.update("Logical_Switch_Port", named(&format!("{name}-{value}")), row)
        }
        9 => transaction.insert("Logical_Switch", None, Row::new().with("name", name)).insert(
            "DHCP_Options",
            None,
            Row::new().with("cidr", "10.0.0.0/8"),
        ),
        10 => {
            let to_value = [Clause::new("external_ids", Function::Includes, Datum::map([(key, value)]))];
            transaction.delete("Address_Set", to_value)
        }
        _ => transaction
            .mutate("NB_Global", [], [("nb_cfg", Mutator::Add, 1i64)])
            .insert(
                "QoS",
                "qos",
                Row::new()
                    .with("action", Datum::map([("dscp", random.below(64) as i64)]))
                    .with("direction", "to-lport")
                    .with("priority", 5i64),
            )
            .mutate(
                "Logical_Switch",
                named("sw"),
                [("qos_rules", random.mutator(), Datum::named_uuid("qos"))],
            ),
    };
    if let Err(error) = session.transact(transaction).await {
        assert_eq!(error.label(), "refused", "{error}");
    }
}

impl Random {
    fn mutator(&mut self) -> Mutator {
        if self.below(2) == 0 { Mutator::Insert } else { Mutator::Delete }
    }
}

fn foreign_step(server: &Server, random: &mut Random) {
    let name = random.pick(&NAMES);
    let port = format!("{name}-v{}", random.below(3));
    let option = format!("options:{}={}", random.pick(&["x", "y"]), random.below(3));
    let address = format!("10.0.0.{}", random.below(9));
    match random.below(9) {
        6 => server.nbctl(&["--if-exists", "add", "Address_Set", name, "addresses", &address]),
        7 => server.nbctl(&["--if-exists", "remove", "Address_Set", name, "addresses", &address]),
        8 => server.nbctl(&["--if-exists", "set", "Logical_Switch_Port", &port, "addresses=dynamic,unknown"]),
        0 => server.nbctl(&["--may-exist", "ls-add", "sw"]),
        1 => server.nbctl(&["--may-exist", "ls-add", "sw", "--", "--may-exist", "lsp-add", "sw", &port]),
        2 => server.nbctl(&["--if-exists", "lsp-del", &port]),
        3 => server.nbctl(&["--if-exists", "set", "Logical_Switch_Port", &port, &option, "enabled=true"]),
        4 => server.nbctl(&["--if-exists", "clear", "Logical_Switch_Port", &port, "options", "tag"]),
        _ => server.nbctl(&["set", "NB_Global", ".", &option]),
    }
}

#[tokio::test]
async fn what_ovs_vsctl_does_is_seen() {
    let server = Server::start(VSWITCH_SCHEMA);
    server.vsctl(&["init"]);
    let tables = ["Open_vSwitch", "Bridge", "Port", "Interface"];
    let monitors = vec![
        TableMonitor::new("Open_vSwitch").columns(["external_ids", "bridges"]),
        TableMonitor::new("Bridge").columns([
            "name",
            "ports",
            "external_ids",
            "other_config",
            "protocols",
            "flood_vlans",
        ]),
        TableMonitor::new("Port").columns(["name", "interfaces", "trunks", "tag"]),
        TableMonitor::new("Interface").columns(["name", "ofport_request", "options", "external_ids", "type"]),
    ];
    let session = open(&server.remote(), VSWITCH, monitors).await;
    server.vsctl(&["add-br", "br-int", "--", "set", "bridge", "br-int", "external_ids:ct-zone-p=7"]);
    let mut random = Random(7);
    for step in 0..100 {
        let port = random.pick(&NAMES);
        let trunks = format!("trunks={},{}", random.below(4), 4 + random.below(4));
        let iface_id = format!("external_ids:iface-id=lsp{}", random.below(3));
        let request = format!("ofport_request={}", 1 + random.below(9));
        let vlans = format!("flood_vlans={},{}", 1 + random.below(3), 4 + random.below(3));
        let config = format!("other_config:{}={}", random.pick(&KEYS[..2]), random.below(3));
        match random.below(8) {
            5 => server.vsctl(&["set", "bridge", "br-int", &vlans, &config]),
            6 => server.vsctl(&["add", "bridge", "br-int", "protocols", "OpenFlow13", "OpenFlow15"]),
            7 => match random.below(3) {
                0 => server.vsctl(&["remove", "bridge", "br-int", "protocols", "OpenFlow13"]),
                1 => server.vsctl(&["remove", "bridge", "br-int", "other_config", KEYS[0]]),
                _ => server.vsctl(&["clear", "bridge", "br-int", "flood_vlans", "other_config"]),
            },
            0 | 1 => server.vsctl(&[
                "--may-exist",
                "add-port",
                "br-int",
                port,
                "--",
                "set",
                "interface",
                port,
                &iface_id,
                &request,
            ]),
            2 => server.vsctl(&["--if-exists", "del-port", "br-int", port]),
            3 => server.vsctl(&["--if-exists", "set", "port", port, &trunks, "tag=5"]),
            _ => server.vsctl(&["--if-exists", "remove", "interface", port, "external_ids", "iface-id"]),
        }
        if step % 20 == 19 {
            server.assert_replicated(&session, VSWITCH, &tables).await;
        }
    }
    let replica = session.replica();
    let (_, bridge) = replica.find("Bridge", |row| row.str("name") == Some("br-int")).unwrap();
    assert_eq!(bridge.map_get("external_ids", "ct-zone-p"), Some("7"));
    for port in bridge.uuids("ports") {
        let port = replica.get("Port", &port).expect("a reference leads to a row");
        assert!(replica.get("Interface", &port.uuid("interfaces").unwrap()).is_some());
    }
}

#[tokio::test]
async fn a_snapshot_does_not_change_and_generations_rise() {
    let server = Server::start(NB_SCHEMA);
    let session = open(&server.remote(), NB, vec![TableMonitor::new("Address_Set").columns(["name"])]).await;
    let before = session.replica();
    let mut receiver = session.subscribe();
    receiver.mark_unchanged();
    let insert = Transaction::new().insert("Address_Set", None, Row::new().with("name", "a"));
    let uuid = session.transact(insert).await.unwrap()[0].uuid.unwrap();
    // Our own change is there when the answer is.
    let after = session.replica();
    assert_eq!(after.get("Address_Set", &uuid).unwrap().str("name"), Some("a"));
    assert!(before.get("Address_Set", &uuid).is_none());
    assert!(after.generation > before.generation);
    tokio::time::timeout(DEADLINE, receiver.changed()).await.unwrap().unwrap();
    let row = after.get("Address_Set", &uuid).unwrap();
    assert!(row.has("name") && !row.has("addresses") && row.int("name").is_none());
}
