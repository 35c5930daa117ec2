//! The controller behind `ssl:`, with certificates that do not last as long as a migration.

use std::path::PathBuf;

use limosa_lab::{CENTRAL, Daemon, Lab};
use rustix::process::Signal;

use super::{DEADLINE, GUEST_MAC, Stage};

const NB: &str = "ssl:127.0.0.1:6641";
const SB: &str = "ssl:127.0.0.1:6642";

/// A CA, and what it has signed for the databases and for the controller.
struct Certificates(PathBuf);

impl Certificates {
    async fn new(lab: &Lab) -> Self {
        let certificates = Self(lab.dir().join("tls"));
        certificates.issue(lab).await;
        certificates
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// All of them anew, from a CA that nobody knows yet, each file in one step.
    async fn issue(&self, lab: &Lab) {
        let script = format!(
            "mkdir -p {dir} {dir}.new; cd {dir}.new
             new() {{
                 openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$1 \\
                     -keyout $1.key -out $1.pem -addext basicConstraints=$2 $3
             }}
             new ca CA:TRUE
             for name in server client; do new $name CA:FALSE '-CA ca.pem -CAkey ca.key'; done
             mv * {dir}",
            dir = self.0.display()
        );
        lab.exec_in(CENTRAL, &["sh", "-ec", &script]).await.expect("openssl makes certificates");
    }

    /// Has both databases listen with them.
    async fn listen(&self, lab: &Lab) {
        let [key, certificate, ca] = ["server.key", "server.pem", "ca.pem"].map(|name| self.file(name));
        let ssl = ["set-ssl", &key, &certificate, &ca, "--", "set-connection"];
        lab.nbctl(&[&ssl[..], &["pssl:6641:127.0.0.1"]].concat()).await.unwrap();
        lab.sbctl(&[&ssl[..], &["pssl:6642:127.0.0.1"]].concat()).await.unwrap();
    }
}

#[tokio::test]
async fn certificates_are_replaced_in_the_middle_of_a_migration() {
    let mut stage = Stage::new(2).await;
    let lab = &stage.lab;
    let source = lab.endpoint("ch1", "vm1").await.unwrap();
    let options = lab.port_options("vm1").await.unwrap();
    let certificates = Certificates::new(lab).await;
    certificates.listen(lab).await;
    let by_unix = stage.limosa.controller().unwrap();
    by_unix.kill(Signal::KILL).unwrap();
    by_unix.wait_exit(DEADLINE).await.unwrap();
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| certificates.file(name));
    let files = ["--ca-cert", &ca, "--certificate", &certificate, "--private-key", &key];
    let arguments = [&["--nb", NB, "--sb", SB], &files[..]].concat();
    stage.limosa.start_controller_with(lab, &arguments).await.unwrap();
    let target = stage.to_armed("m").await;
    let pinned = stage.lab.port_options("vm1").await.unwrap();
    assert!(pinned.contains("requested-chassis=ch1") && pinned.contains("limosa-migration=m"), "{pinned}");

    // One server is started anew, the other drops its connections and reads the new files by itself.
    let lab = &stage.lab;
    certificates.issue(lab).await;
    let nb = lab.daemon(CENTRAL, Daemon::NbDb);
    nb.kill9().await.unwrap();
    nb.start().await.unwrap();
    let ctl = lab.daemon(CENTRAL, Daemon::SbDb).ctl().display().to_string();
    lab.exec_in(CENTRAL, &["ovs-appctl", "-t", &ctl, "ovsdb-server/reconnect"]).await.unwrap();

    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    stage.limosa.wait(lab, "m", "released").await.unwrap();
    source.remove(lab).await.unwrap();
    stage.limosa.wait(lab, "m", "completed").await.unwrap();
    let log = stage.limosa.controller().unwrap().log();
    assert_eq!(log.matches("the certificates have changed").count(), 2, "{log}");
    for remote in [NB, SB] {
        assert!(log.matches(remote).count() >= 2, "{log}");
    }
    assert_eq!(lab.port_options("vm1").await.unwrap(), options);
    assert_eq!(lab.bound_to("vm1").await.unwrap().as_deref(), Some("ch2"));
    stage.assert_nothing_of_ours().await;
    stage.assert_others_are_well().await;
}
