//! `ssl:` remotes: who is trusted, and what happens when files change.

use std::time::Duration;

use ovsdb_rs::{Datum, Options, Row, Session, State, TableMonitor, Tls, Transaction};
use tokio::time::timeout;

use crate::certificates::{Certificates, PLAIN};
use crate::fixture::{DEADLINE, NB, NB_SCHEMA, Server, fails, quick, run, wait_for};

fn with(tls: Tls) -> Options {
    let mut options = quick();
    options.tls = Some(tls);
    options
}

fn session(server: &Server, tls: Tls) -> Session {
    session_to(&server.ssl_remote("localhost"), tls)
}

fn session_to(remote: &str, tls: Tls) -> Session {
    let monitors = vec![TableMonitor::new("Address_Set")];
    Session::open_with(remote.parse().unwrap(), NB, monitors, with(tls))
}

async fn works(server: &Server, tls: Tls) {
    let session = session(server, tls);
    session.ready(DEADLINE).await.unwrap();
    server.nbctl(&["create", "Address_Set", "name=a"]);
    server.assert_replicated(&session, NB, &["Address_Set"]).await;
    server.nbctl(&["destroy", "Address_Set", "a"]);
}

#[tokio::test]
async fn what_the_ca_has_signed_is_trusted_whatever_its_name() {
    let certificates = Certificates::new();
    certificates.sign("named", "ca", Some("subjectAltName=DNS:localhost,IP:127.0.0.1"), 365);
    // As ovs-pki before OVS 2.11.
    certificates.sign("old", "ca", None, 365);
    certificates.sign("old-client", "ca", None, 365);
    // One certificate for everything.
    certificates.authority("alone");
    for (ca, server, client, names) in [
        ("ca", "server", "client", false),
        ("ca", "named", "client", true),
        ("ca", "old", "old-client", false),
        ("alone", "alone", "alone", false),
    ] {
        for protocol in ["TLSv1.2", "TLSv1.3"] {
            let mut arguments = certificates.server(ca, server);
            // OVS knows no name for 1.3: it is what is left without the others.
            if protocol == "TLSv1.2" {
                arguments.push("--ssl-protocols=TLSv1.2".to_owned());
            }
            let server = Server::start_ssl(NB_SCHEMA, &arguments);
            works(&server, certificates.client(ca, client)).await;
            let strict = session(&server, certificates.client(ca, client).verify_host(true));
            if names {
                strict.ready(DEADLINE).await.unwrap();
                let by_address = certificates.client(ca, client).verify_host(true);
                session_to(&server.ssl_remote("127.0.0.1"), by_address).ready(DEADLINE).await.unwrap();
            } else {
                let failure = fails(&strict, "tls").await.to_string();
                assert!(failure.contains("does not name this host"), "{failure}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_large_gets_through_without_a_probe_to_push_it() {
    let certificates = Certificates::new();
    let server = Server::start_ssl(NB_SCHEMA, &certificates.server("ca", "server"));
    let mut options = with(certificates.client("ca", "client"));
    options.probe_interval = Duration::ZERO;
    let remote = server.ssl_remote("localhost").parse().unwrap();
    let session = Session::open_with(remote, NB, vec![TableMonitor::new("Address_Set")], options);
    session.ready(DEADLINE).await.unwrap();
    let addresses = Datum::set((0..200_000).map(|index| format!("address number {index}")));
    let row = Row::new().with("name", "large").with("addresses", addresses);
    let insert = Transaction::new().insert("Address_Set", None, row);
    timeout(DEADLINE, session.transact(insert)).await.expect("an answer").unwrap();
    server.assert_replicated(&session, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn what_ovs_pki_makes_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let script = format!(
        "cd '{}' && ovs-pki --dir={pki} --log=log init && ovs-pki --dir={pki} --log=log req+sign server && \
         ovs-pki --dir={pki} --log=log req+sign client",
        dir.path().display(),
        pki = pki.display(),
    );
    run("sh", ["-c", &script]);
    let ca = pki.join("switchca/cacert.pem");
    let file = |name: &str| dir.path().join(name);
    let server = Server::start_ssl(
        NB_SCHEMA,
        &[
            format!("--ca-cert={}", ca.display()),
            format!("--certificate={}", file("server-cert.pem").display()),
            format!("--private-key={}", file("server-privkey.pem").display()),
        ],
    );
    works(&server, Tls::new(ca, file("client-cert.pem"), file("client-privkey.pem"))).await;
}

#[tokio::test]
async fn who_is_not_trusted_is_refused_and_it_is_said_why() {
    let certificates = Certificates::new();
    certificates.authority("other");
    certificates.sign("of-other", "other", Some(PLAIN), 365);
    certificates.sign("old-of-other", "other", None, 365);
    certificates.sign("expired", "ca", Some(PLAIN), -1);
    certificates.sign("old-expired", "ca", None, -1);
    certificates.sign("for-clients", "ca", Some("extendedKeyUsage=clientAuth"), 365);
    for (server, ca, client, why) in [
        ("server", "other", "client", "not signed by our CA"),
        ("of-other", "ca", "client", "not signed by our CA"),
        ("old-of-other", "ca", "client", "not signed by our CA"),
        ("expired", "ca", "client", "expired"),
        ("old-expired", "ca", "client", "expired"),
        ("for-clients", "ca", "client", "the server's certificate is refused"),
        // It is the server here that refuses.
        ("server", "ca", "of-other", "refused by the server"),
    ] {
        let server = Server::start_ssl(NB_SCHEMA, &certificates.server("ca", server));
        let session = session(&server, certificates.client(ca, client));
        let failure = fails(&session, "tls").await.to_string();
        assert!(failure.contains(why), "{why}: {failure}");
        let error = session.ready(Duration::from_millis(100)).await.unwrap_err().to_string();
        assert!(error.contains("check that both ends"), "{error}");
    }
}

#[tokio::test]
async fn old_protocols_are_refused() {
    let certificates = Certificates::new();
    let mut arguments = certificates.server("ca", "server");
    arguments.extend(["--ssl-protocols=TLSv1.1".to_owned(), "--ssl-ciphers=ALL:@SECLEVEL=0".to_owned()]);
    let server = Server::start_ssl(NB_SCHEMA, &arguments);
    let failure = fails(&session(&server, certificates.client("ca", "client")), "tls").await.to_string();
    assert!(failure.contains("ProtocolVersion"), "{failure}");
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_named() {
    let certificates = Certificates::new();
    let server = Server::start_ssl(NB_SCHEMA, &certificates.server("ca", "server"));
    certificates.sign("another", "ca", Some(PLAIN), 365);
    certificates.replace("empty.pem", "");
    certificates.replace("half.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    certificates.replace("junk.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let file = |name: &str| certificates.path(name);
    for (ca, certificate, key, why) in [
        ("none.pem", "client.pem", "client.key", "none.pem: No such file"),
        ("empty.pem", "client.pem", "client.key", "empty.pem: no certificate in PEM: nothing found"),
        ("junk.pem", "client.pem", "client.key", "junk.pem: no certificate in PEM"),
        ("ca.pem", "half.pem", "client.key", "half.pem: no certificate in PEM: the end is missing"),
        ("ca.pem", "junk.pem", "client.key", "junk.pem: no certificate in PEM"),
        ("ca.pem", "client.pem", "client.pem", "client.pem: no unencrypted private key in PEM"),
        ("ca.pem", "client.pem", "another.key", "another.key is not the key of"),
    ] {
        let session = session(&server, Tls::new(file(ca), file(certificate), file(key)));
        let failure = fails(&session, "certificates").await.to_string();
        assert!(failure.contains(why), "{why}: {failure}");
    }
    let without =
        Session::open_with(server.ssl_remote("localhost").parse().unwrap(), NB, Vec::new(), quick());
    let failure = fails(&without, "certificates").await.to_string();
    assert!(failure.contains("no certificates for an ssl: remote"), "{failure}");
}

#[tokio::test]
async fn rotated_files_count_from_the_next_connection_on() {
    let certificates = Certificates::new();
    let mut server = Server::start_ssl(NB_SCHEMA, &certificates.server("ca", "server"));
    // Names of the client's own: they are what is rotated.
    for (from, to) in [("ca.pem", "my-ca.pem"), ("client.pem", "my.pem"), ("client.key", "my.key")] {
        certificates.copy(from, to);
    }
    let session = session(&server, certificates.client("my-ca", "my"));
    session.ready(DEADLINE).await.unwrap();
    let reconnected = async |server: &Server| {
        wait_for(&session, "the reconnection", |replica| replica.connected).await;
        session.transact_within(Transaction::new().comment("again"), DEADLINE).await.unwrap();
        server.assert_replicated(&session, NB, &["Address_Set"]).await;
    };
    let restart = async |server: &mut Server, arguments: &[String]| {
        server.kill();
        wait_for(&session, "the outage", |replica| !replica.connected).await;
        assert!(server.restart_ssl(arguments));
    };
    // Half-written files: the last good ones stay in use.
    certificates.replace("my.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    restart(&mut server, &certificates.server("ca", "server")).await;
    reconnected(&server).await;
    // A new CA on both ends. Until all three files are there the session cannot know whom to trust.
    certificates.authority("ca2");
    certificates.sign("server2", "ca2", Some(PLAIN), 365);
    certificates.sign("client2", "ca2", Some(PLAIN), 365);
    restart(&mut server, &certificates.server("ca2", "server2")).await;
    fails(&session, "tls").await;
    certificates.copy("client2.pem", "my.pem");
    certificates.copy("ca2.pem", "my-ca.pem");
    // Certificate and key are no pair yet.
    fails(&session, "tls").await;
    certificates.copy("client2.key", "my.key");
    reconnected(&server).await;
    // Gone altogether.
    std::fs::remove_file(certificates.path("my-ca.pem")).unwrap();
    restart(&mut server, &certificates.server("ca2", "server2")).await;
    reconnected(&server).await;
}

#[tokio::test]
async fn each_address_of_a_host_name_is_tried() {
    // It resolves to ::1 as well on most machines, where nobody listens.
    let certificates = Certificates::new();
    let server = Server::start_ssl(NB_SCHEMA, &certificates.server("ca", "server"));
    let session = session_to(
        &format!("ssl:no-such-host.invalid:1,{}", server.ssl_remote("localhost")),
        certificates.client("ca", "client"),
    );
    session.ready(DEADLINE).await.unwrap();
    assert!(matches!(session.state(), State::Connected { .. }));
    let remote = "tcp:no-such-host.invalid:1";
    let unresolved = Session::open_with(remote.parse().unwrap(), NB, Vec::new(), quick());
    let failure = fails(&unresolved, "resolve").await.to_string();
    assert!(failure.contains("cannot resolve no-such-host.invalid"), "{failure}");
    timeout(DEADLINE, session.transact(Transaction::new().comment("x"))).await.unwrap().unwrap();
}
