//! What befalls the leader, again and again.

use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::fixture::DEADLINE;

/// What befalls the leader, in turn.
const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Freeze, Fault::CutOff, Fault::CutOffFromPeers];

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Freeze,
    CutOff,
    /// Its clients still reach it, and it can do nothing for them.
    CutOffFromPeers,
}

impl Fault {
    fn strike(self, cluster: &mut Cluster, n: usize) {
        match self {
            Self::Kill => cluster.kill(n),
            Self::Freeze => cluster.freeze(n),
            Self::CutOff => {
                cluster.link_peers(n, false);
                cluster.link_clients(n, false);
            }
            Self::CutOffFromPeers => cluster.link_peers(n, false),
        }
    }

    fn heal(self, cluster: &mut Cluster, n: usize) {
        match self {
            Self::Kill => cluster.start_server(n),
            Self::Freeze => cluster.thaw(n),
            Self::CutOff | Self::CutOffFromPeers => {
                cluster.link_peers(n, true);
                cluster.link_clients(n, true);
            }
        }
    }
}

/// So many faults, spread evenly over so many transactions. Some come about while the old leader is away,
/// under the next one, and some with all servers there.
pub(crate) async fn disturb(
    cluster: &mut Cluster,
    rounds: u64,
    transactions: u64,
    mut settled: watch::Receiver<u64>,
) {
    let step = transactions / (rounds + 1);
    for (round, fault) in (0..rounds).zip(FAULTS.iter().cycle()) {
        reach(&mut settled, (round + 1) * step).await;
        let leader = cluster.leader(None).await;
        fault.strike(cluster, leader);
        cluster.leader(Some(leader)).await;
        let meanwhile = *settled.borrow() + step / 4;
        reach(&mut settled, meanwhile.min(transactions)).await;
        fault.heal(cluster, leader);
        cluster.joined(leader).await;
    }
}

/// Waits until so many transactions have been settled.
async fn reach(settled: &mut watch::Receiver<u64>, count: u64) {
    let reached = timeout(DEADLINE, settled.wait_for(|settled| *settled >= count)).await;
    assert!(reached.is_ok(), "{count} transactions: not reached");
}
