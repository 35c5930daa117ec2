//! What the local database says of an interface's being ready, and saying so in
//! ovn-controller's place ([`limosa_protocol::vouch`]).

use std::collections::BTreeMap;
use std::time::Duration;

use limosa_protocol::Vouch;
use limosa_protocol::facts::Installed;
use limosa_protocol::object::Problem;
use ovsdb_rs::{Clause, Function, Session, Transaction};

const INTERFACE: &str = "Interface";
const EXTERNAL_IDS: &str = "external_ids";
const INSTALLED: &str = "ovn-installed";
const INSTALLED_TS: &str = "ovn-installed-ts";
const VOUCHED: &str = "limosa-vouched";
/// The database is on this machine; the flows do not wait for it any longer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the `external_ids` of an interface.
pub(super) fn read(external_ids: &BTreeMap<String, String>) -> Installed {
    let id = |key| external_ids.get(key).map(String::as_str);
    Installed {
        installed: id(INSTALLED) == Some("true"),
        by_ovn: id(INSTALLED_TS).is_some(),
        vouched_by: id(VOUCHED).map(str::to_owned),
    }
}

/// Writes what is to be said; done when the replica of `session` shows it.
pub(super) async fn write(session: &Session, vouch: &Vouch) -> Result<(), Problem> {
    let failed = |why: String| {
        let message = format!("the local Open_vSwitch database does not take {vouch:?}: {why}");
        Problem::new("CannotVouch", message)
    };
    match tokio::time::timeout(TIMEOUT, session.transact(transaction(vouch))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer for {} s: is ovsdb-server running?", TIMEOUT.as_secs()))),
    }
}

fn transaction(vouch: &Vouch) -> Transaction {
    let named = |name: &str| [Clause::new("name", Function::Equal, name)];
    match vouch {
        Vouch::Give { interface, by } => Transaction::new()
            .comment(format!("limosa: {interface} is ready, as far as migration {by} goes"))
            .delete_keys(INTERFACE, named(interface), EXTERNAL_IDS, [INSTALLED_TS])
            .set_keys(
                INTERFACE,
                named(interface),
                EXTERNAL_IDS,
                [(INSTALLED, "true"), (VOUCHED, by.as_str())],
            ),
        Vouch::TakeBack { interface, installed } => {
            let keys = [VOUCHED].into_iter().chain(installed.then_some(INSTALLED));
            Transaction::new()
                .comment(format!("limosa: no word of ours on {interface} any more"))
                .delete_keys(INTERFACE, named(interface), EXTERNAL_IDS, keys)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command};

    use ovsdb_rs::{Remote, Remotes, Replica, TableMonitor};
    use tempfile::TempDir;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    struct Server {
        child: Child,
        _dir: TempDir,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// A real ovsdb-server with one interface, and a session to it.
    async fn database() -> (Server, Session) {
        let dir = tempfile::tempdir().unwrap();
        let (db, socket) = (dir.path().join("db"), dir.path().join("sock"));
        let schema = Path::new("/usr/share/openvswitch/vswitch.ovsschema");
        let made = Command::new("ovsdb-tool").arg("create").args([db.as_path(), schema]).status();
        assert!(made.expect("install the package openvswitch-switch").success());
        let remote = format!("--remote=punix:{}", socket.display());
        let control = format!("--unixctl={}", dir.path().join("ctl").display());
        let child =
            Command::new("ovsdb-server").args(["--no-chdir", &remote, &control]).arg(&db).spawn().unwrap();
        let server = Server { child, _dir: dir };
        let monitor = TableMonitor::of::<Interface>();
        let remotes = Remotes::from(Remote::Unix(socket.clone()));
        let session = Session::open(remotes, "Open_vSwitch", vec![monitor]);
        session.ready(DEADLINE).await.unwrap();
        let added = Command::new("ovs-vsctl")
            .arg(format!("--db=unix:{}", socket.display()))
            .args(["--no-wait", "init", "--", "add-br", "br-int", "--", "add-port", "br-int", "tap0"])
            .args(["--", "set", "Interface", "tap0", "external_ids:iface-id=vm1"])
            .args(["external_ids:ovn-installed-ts=1", "external_ids:attached-mac=02:00:00:00:01:01"])
            .status();
        assert!(added.unwrap().success());
        let mut replicas = session.subscribe();
        let seen = replicas.wait_for(|replica| tap0(replica).is_some());
        drop(tokio::time::timeout(DEADLINE, seen).await.unwrap().unwrap());
        (server, session)
    }

    ovsdb_rs::table! {
        struct Interface in "Interface" {
            name: String,
            external_ids: BTreeMap<String, String>,
        }
    }

    fn tap0(replica: &Replica) -> Option<BTreeMap<String, String>> {
        let row = replica.rows().find(|row: &Interface| row.name == "tap0");
        row.map(|row| row.external_ids)
    }

    #[tokio::test]
    async fn what_is_said_is_there_and_goes_again() {
        let (_server, session) = database().await;
        let found = || read(&tap0(&session.replica()).unwrap());
        let interface = || "tap0".to_owned();
        assert_eq!(found(), Installed { by_ovn: true, ..Installed::default() }, "a stamp from before");
        write(&session, &Vouch::Give { interface: interface(), by: "m".into() }).await.unwrap();
        let given = Installed { installed: true, by_ovn: false, vouched_by: Some("m".into()) };
        assert_eq!(found(), given);
        write(&session, &Vouch::TakeBack { interface: interface(), installed: false }).await.unwrap();
        assert_eq!(found(), Installed { installed: true, ..Installed::default() });
        write(&session, &Vouch::Give { interface: interface(), by: "m".into() }).await.unwrap();
        write(&session, &Vouch::TakeBack { interface: interface(), installed: true }).await.unwrap();
        assert_eq!(found(), Installed::default());
        let ids = tap0(&session.replica()).unwrap();
        assert_eq!(ids.get("iface-id").map(String::as_str), Some("vm1"), "nothing else is touched");
        assert!(ids.contains_key("attached-mac"));
    }
}
