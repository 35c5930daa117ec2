//! Clustered databases: which server is followed, and from where on.

use ovsdb_rs::{Clause, Function, Options, Session, State, TableMonitor, Transaction};

use crate::certificates::Certificates;
use crate::cluster::Cluster;
use crate::fixture::{
    DEADLINE, NB, NB_SCHEMA, add, assert_replicated, fails, quick, remove, schema, wait_for,
};
use crate::proxy::Proxy;

fn open(remotes: &str, options: Options) -> Session {
    Session::open_with(remotes.parse().unwrap(), NB, vec![TableMonitor::new("Address_Set")], options)
}

/// Waits until the session is connected to this server.
async fn at(session: &Session, remote: &str) {
    let wanted = State::Connected { remote: remote.parse().unwrap() };
    let mut state = session.subscribe_state();
    let found = tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == wanted)).await;
    found.unwrap_or_else(|_| panic!("not at {remote}: {:?}", session.state())).unwrap();
}

#[tokio::test]
async fn the_leader_is_followed() {
    let mut cluster = Cluster::start(3, &schema(NB_SCHEMA)).await;
    let mut any = quick();
    any.leader_only = false;
    let first = cluster.leader(None).await;
    let follower = (first + 1) % 3;
    // The leader is the last one named.
    let session = open(&cluster.remotes(follower), quick());
    session.ready(DEADLINE).await.unwrap();
    at(&session, &cluster.remote(first)).await;
    session.transact(add("a")).await.unwrap();
    // A follower alone will not do, unless any server will.
    let stuck = open(&cluster.remote(follower), quick());
    let failure = fails(&stuck, "not_leader").await;
    assert!(failure.cause.hint().contains("name every server"), "{failure}");
    let at_follower = open(&cluster.remote(follower), any);
    at_follower.ready(DEADLINE).await.unwrap();
    at_follower.transact(add("b")).await.unwrap();
    // It moves, and its old server lives on.
    cluster.transfer_leadership(first).await;
    let second = cluster.leader(Some(first)).await;
    at(&session, &cluster.remote(second)).await;
    session.transact_within(add("c"), DEADLINE).await.unwrap();
    // It dies.
    cluster.kill(second);
    let third = cluster.leader(Some(second)).await;
    at(&session, &cluster.remote(third)).await;
    session.transact_within(add("d"), DEADLINE).await.unwrap();
    assert_eq!(session.replica().table("Address_Set").count(), 4);
    assert_replicated(&cluster.unix(third), &session, NB, &["Address_Set"]).await;
}

#[tokio::test]
async fn a_server_without_its_cluster_is_left() {
    let mut cluster = Cluster::start(3, &schema(NB_SCHEMA)).await;
    let leader = cluster.leader(None).await;
    let mut any = quick();
    any.leader_only = false;
    let session = open(&cluster.remote(leader), any);
    session.ready(DEADLINE).await.unwrap();
    for server in (0..3).filter(|server| *server != leader) {
        cluster.kill(server);
    }
    fails(&session, "not_in_cluster").await;
    assert!(!session.replica().connected);
    for server in (0..3).filter(|server| *server != leader) {
        cluster.start_server(server);
    }
    session.transact_within(add("a"), DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_cluster_by_tls() {
    let certificates = Certificates::new();
    let mut cluster = Cluster::start_ssl(3, &schema(NB_SCHEMA), &certificates.server("ca", "server")).await;
    let mut options = quick();
    options.tls = Some(certificates.client("ca", "client"));
    let remotes = [0, 1, 2].map(|n| cluster.ssl_remote(n)).join(",");
    let session = open(&remotes, options);
    let first = cluster.leader(None).await;
    at(&session, &cluster.ssl_remote(first)).await;
    session.transact(add("a")).await.unwrap();
    cluster.kill(first);
    let second = cluster.leader(Some(first)).await;
    at(&session, &cluster.ssl_remote(second)).await;
    session.transact_within(add("b"), DEADLINE).await.unwrap();
    assert_replicated(&cluster.unix(second), &session, NB, &["Address_Set"]).await;
}

/// Cuts the session off, does something behind its back, lets it come back; whether the server knew where the
/// session had been, and how many rows it sent.
async fn while_away(proxy: &Proxy, session: &Session, happens: impl AsyncFnOnce()) -> (bool, usize) {
    proxy.set_open(false);
    wait_for(session, "the cut", |replica| !replica.connected).await;
    happens().await;
    proxy.set_open(true);
    wait_for(session, "the reconnection", |replica| replica.connected).await;
    let (_, reply) = proxy.seen("monitor_cond_since").pop().unwrap();
    let rows = reply["result"][2]["Address_Set"].as_object().map_or(0, serde_json::Map::len);
    (reply["result"][0].as_bool().unwrap(), rows)
}

#[tokio::test]
async fn a_reconnection_goes_on_where_the_connection_ended() {
    let cluster = Cluster::start(1, &schema(NB_SCHEMA)).await;
    let server = cluster.unix(0);
    let proxy = Proxy::start(&server, &[]).await;
    let session = open(&proxy.remote(), quick());
    session.ready(DEADLINE).await.unwrap();
    let other = open(&server, quick());
    for index in 0..20 {
        session.transact(add(&format!("as{index}"))).await.unwrap();
    }
    let same = async || assert_replicated(&server, &session, NB, &["Address_Set"]).await;
    // Nothing at all, then one change of each kind: only those are sent.
    assert_eq!(while_away(&proxy, &session, async || {}).await, (true, 0));
    same().await;
    let changed = while_away(&proxy, &session, async || {
        let named = [Clause::new("name", Function::Equal, "as1")];
        let change = Transaction::new().set_keys("Address_Set", named, "external_ids", [("a", "1")]);
        for change in [change, add("new"), remove("as2")] {
            other.transact_within(change, DEADLINE).await.unwrap();
        }
    });
    assert_eq!(changed.await, (true, 3));
    same().await;
    // The server keeps a hundred transactions.
    let much = while_away(&proxy, &session, async || {
        for index in 0..120 {
            other.transact(add(&format!("more{index}"))).await.unwrap();
        }
        other.transact(remove("as3")).await.unwrap();
    });
    assert_eq!(much.await, (false, 139));
    same().await;
    // With another condition the old rows are not those to go on from.
    let only = vec![Clause::new("name", Function::Equal, "as1"), Clause::new("name", Function::Equal, "as9")];
    let narrowed = while_away(&proxy, &session, async || {
        session.set_condition("Address_Set", only.clone()).await.unwrap();
    });
    assert_eq!(narrowed.await, (false, 2));
    assert_eq!(session.replica().table("Address_Set").count(), 2);
    // Set while connected it is one to go on with.
    session.set_condition("Address_Set", Vec::new()).await.unwrap();
    session.transact(add("last")).await.unwrap();
    assert_eq!(while_away(&proxy, &session, async || {}).await, (true, 0));
    same().await;
}
