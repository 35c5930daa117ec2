//! Connections that come again.

use std::time::Duration;

use ofpacket::FlowMod;
use openflow_rs::{Session, SessionConfig, SessionEvent, Target};

use crate::support::Ovs;
use crate::{by_key, connect, dumped, numbered, numbered_mods, soon};

fn session(ovs: &Ovs) -> Session {
    Session::new(Target::Unix(ovs.socket()), config(), |_| true)
}

fn config() -> SessionConfig {
    SessionConfig { first_wait: Duration::from_millis(1), ..SessionConfig::default() }
}

/// Starts ovs-vswitchd again.
fn restart(ovs: &Ovs) {
    ovs.start_vswitchd();
    // It makes the bridge when it has read its database.
    ovs.vsctl(["set", "bridge", "br0", "other_config:restarted=true"]);
}

/// The next thing of this kind.
async fn until(session: &mut Session, is: impl Fn(&SessionEvent) -> bool) -> SessionEvent {
    loop {
        let event = soon(session.next()).await;
        if is(&event) {
            return event;
        }
    }
}

/// The table is what the switch has, once this many flows have been told.
async fn agrees(session: &mut Session, ovs: &Ovs, len: usize) {
    while session.flows().len() != len {
        soon(session.next()).await;
    }
    let (client, _events) = connect(ovs).await;
    assert_eq!(by_key(session.flows().iter().cloned()), dumped(&client).await);
}

#[tokio::test]
async fn it_finds_what_happened_while_it_was_away() {
    let ovs = Ovs::start();
    let mut session = session(&ovs);
    assert!(session.client().is_none() && !session.is_current());
    assert!(
        matches!(soon(session.next()).await, SessionEvent::Connected(features) if features.n_tables > 200)
    );
    let client = session.client().expect("a connection").clone();
    client.bundle(numbered_mods(0..3000)).await.expect("a bundle");
    until(&mut session, |event| matches!(event, SessionEvent::TableReplaced)).await;
    agrees(&mut session, &ovs, 3000).await;
    assert!(session.is_current());

    ovs.kill("ovs-vswitchd");
    let lost = until(&mut session, |event| matches!(event, SessionEvent::Lost { .. })).await;
    assert!(
        matches!(&lost, SessionEvent::Lost { reason, .. } if ["eof", "io"].contains(&reason.label())),
        "{lost:?}"
    );
    assert!(session.client().is_none() && !session.is_current());
    assert_eq!(session.flows().len(), 3000, "the last that was known");
    assert_eq!(
        client.barrier().await.expect_err("it has ended").label(),
        client.closed().expect("why").label()
    );
    // Nobody listens: again and again.
    for _ in 0..3 {
        let lost = soon(session.next()).await;
        assert!(
            matches!(&lost, SessionEvent::Lost { reason, .. } if reason.label() == "connect"),
            "{lost:?}"
        );
    }

    // It begins empty, and somebody else adds flows before we are back.
    restart(&ovs);
    let (other, _events) = connect(&ovs).await;
    other.bundle(numbered_mods(2000..2500)).await.expect("a bundle");
    until(&mut session, |event| matches!(event, SessionEvent::Connected(_))).await;
    assert_eq!(session.flows().len(), 3000, "it changes at one blow");
    while !session.is_current() {
        assert_eq!(session.flows().len(), 3000);
        let event = soon(session.next()).await;
        assert!(matches!(event, SessionEvent::TableReplaced), "{event:?}");
    }
    agrees(&mut session, &ovs, 500).await;

    // The monitor is there again, for others' changes and for our own.
    other.bundle(numbered_mods(5000..5100)).await.expect("a bundle");
    agrees(&mut session, &ovs, 600).await;
    let client = session.client().expect("a connection").clone();
    client.bundle(vec![FlowMod::delete_strict(&numbered(5000))]).await.expect("a bundle");
    agrees(&mut session, &ovs, 599).await;
}

#[tokio::test]
async fn it_can_be_told_to_begin_anew() {
    let ovs = Ovs::start();
    let mut session = session(&ovs);
    until(&mut session, |event| matches!(event, SessionEvent::TableReplaced)).await;
    for round in 1..=3 {
        let old = session.client().expect("a connection").clone();
        session.reconnect();
        let (other, _events) = connect(&ovs).await;
        other.bundle(numbered_mods(0..round * 100)).await.expect("a bundle");
        assert!(session.client().is_none());
        until(&mut session, |event| matches!(event, SessionEvent::TableReplaced)).await;
        agrees(&mut session, &ovs, round as usize * 100).await;
        let error = old.barrier().await;
        // Whoever holds the old one may go on with it.
        assert!(error.is_ok(), "{error:?}");
    }
    assert!(session.try_next().is_none());
}

/// Without 1.5 there is no connection, and with it there is.
#[tokio::test]
async fn it_says_why_it_cannot_connect() {
    let ovs = Ovs::start();
    ovs.vsctl(["set", "bridge", "br0", "protocols=OpenFlow13"]);
    let mut session = session(&ovs);
    for _ in 0..3 {
        let lost = soon(session.next()).await;
        let SessionEvent::Lost { reason, retry_in } = &lost else { panic!("{lost:?}") };
        assert_eq!(reason.label(), "version");
        assert!(*retry_in <= config().longest_wait);
    }
    ovs.vsctl(["clear", "bridge", "br0", "protocols"]);
    until(&mut session, |event| matches!(event, SessionEvent::TableReplaced)).await;
}
