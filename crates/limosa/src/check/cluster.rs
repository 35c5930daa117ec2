//! OVN's databases, and what they say of every chassis.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ovsdb_rs::{Clause, Options, Remotes, Replica, Session, State, TableMonitor, Tls, Typed, Uuid};

use super::{Report, some};
use crate::controller::{LEADER, MARK};
use crate::store::Snapshot;

/// How long a database may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long ovn-northd and ovn-controller may take to follow.
const FOLLOW: Duration = Duration::from_secs(5);

ovsdb_rs::table! {
    struct SwitchPort in "Logical_Switch_Port" {
        name: String,
        options: BTreeMap<String, String>,
        external_ids: BTreeMap<String, String>,
    }

    struct NbGlobal in "NB_Global" {
        nb_cfg: i64,
        sb_cfg: i64,
        external_ids: BTreeMap<String, String>,
    }

    struct Chassis in "Chassis" {
        name: String,
        hostname: String,
        encaps: Vec<Uuid>,
    }

    struct Encap in "Encap" {
        r#type: String,
    }

    struct ChassisPrivate in "Chassis_Private" {
        name: String,
        nb_cfg: i64,
    }

    struct PortBinding in "Port_Binding" {
        /// OVN 22.06 and later.
        additional_chassis: Vec<Uuid>,
    }
}

pub(super) async fn check(
    report: &mut Report,
    nb: Remotes,
    sb: Remotes,
    tls: Option<Tls>,
    snapshot: Option<&Snapshot>,
) {
    let mut options = Options::default();
    options.tls = tls;
    let nb_tables = vec![TableMonitor::of::<SwitchPort>(), TableMonitor::of::<NbGlobal>()];
    let nb = Session::open_with(nb, "OVN_Northbound", nb_tables, options.clone());
    let sb_tables = vec![
        TableMonitor::of::<Chassis>(),
        TableMonitor::of::<Encap>(),
        TableMonitor::of::<ChassisPrivate>(),
        TableMonitor::of::<PortBinding>().condition(vec![Clause::never()]),
    ];
    let sb = Session::open_with(sb, "OVN_Southbound", sb_tables, options);
    let (nb_answers, sb_answers) = tokio::join!(session_answers(&nb), session_answers(&sb));
    let there =
        [(nb_answers, "northbound", "--nb, OVN_NB_DB"), (sb_answers, "southbound", "--sb, OVN_SB_DB")].map(
            |(answer, name, flags)| match answer {
                Ok(()) => {
                    report.ok(name, "the database answers");
                    true
                }
                Err((why, hint)) => {
                    report.fail(
                        name,
                        format!("the database does not answer: {why}"),
                        format!("{hint} ({flags})"),
                    );
                    false
                }
            },
        );
    if there[1] {
        chassis(report, &sb.replica());
    }
    if there[0] {
        ports(report, &nb.replica(), snapshot);
    }
    if there == [true, true] {
        follow(report, &nb, &sb).await;
    }
}

/// Whether the database answers; if not, why, and what to do.
async fn session_answers(session: &Session) -> Result<(), (String, &'static str)> {
    session.ready(ANSWER).await.map_err(|error| match session.state() {
        State::Connecting { last_error: Some(failure) } => (failure.to_string(), failure.cause.hint()),
        _ => (error.to_string(), "is ovsdb-server busy?"),
    })
}

fn chassis(report: &mut Report, sb: &Replica) {
    if sb.has_column(PortBinding::TABLE, "additional_chassis") {
        report.ok("ovn-version", "a port can be bound to two chassis");
    } else {
        let found = "this OVN cannot bind a port to two chassis (Port_Binding.additional_chassis)";
        report.fail("ovn-version", found, "upgrade OVN to 22.09 or later");
    }
    let all: Vec<Chassis> = sb.rows().collect();
    let mut hosts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for chassis in all.iter().filter(|chassis| !chassis.hostname.is_empty()) {
        hosts.entry(&chassis.hostname).or_default().insert(&chassis.name);
    }
    let twice = hosts.iter().filter(|(_, names)| names.len() > 1);
    let twice: Vec<String> = twice
        .map(|(host, names)| format!("{host} ({})", names.iter().copied().collect::<Vec<_>>().join(", ")))
        .collect();
    match twice.as_slice() {
        [] => report.ok("hostnames", format!("{} chassis, each with a hostname of its own", all.len())),
        twice => report.fail(
            "hostnames",
            format!("several chassis have one hostname: {}", some(twice)),
            "a node was installed anew under another system-id? `ovn-sbctl chassis-del` takes the old one away",
        ),
    }
    let kind = |encap: Encap| encap.r#type;
    let without: Vec<String> = all
        .iter()
        .filter(|chassis| !sb.referenced(&chassis.encaps).map(kind).any(|kind| kind == "geneve"))
        .map(|chassis| chassis.name.clone())
        .collect();
    match without.as_slice() {
        [] => report.ok("encapsulation", "every chassis has geneve"),
        without => report.fail(
            "encapsulation",
            format!("no geneve on {}", some(without)),
            "other tunnels carry no option to mark mirrored packets with: set external_ids:ovn-encap-type=geneve there",
        ),
    }
}

/// What the ports' options say of this and other ways to migrate.
fn ports(report: &mut Report, nb: &Replica, snapshot: Option<&Snapshot>) {
    let (mut left, mut others) = (Vec::new(), Vec::new());
    for SwitchPort { name, options, external_ids, .. } in nb.rows::<SwitchPort>() {
        if let Some(owner) = external_ids.get(MARK) {
            let live = |snapshot: &Snapshot| {
                snapshot.migrations.get(owner).is_some_and(|migration| !migration.phase().is_final())
            };
            if snapshot.is_some_and(|snapshot| snapshot.unreadable.is_empty() && !live(snapshot)) {
                left.push(format!("{name} (by {owner})"));
            }
            continue;
        }
        let two = options.get("requested-chassis").is_some_and(|value| value.contains(','));
        if two || options.contains_key("activation-strategy") {
            others.push(name);
        }
    }
    match left.as_slice() {
        [] => report.ok("pins", "every pin of ours belongs to a migration under way"),
        left => report.fail(
            "pins",
            format!("pinned by migrations that the store does not have, or that have ended: {}", some(left)),
            format!("`ovn-nbctl remove logical_switch_port PORT options requested-chassis -- remove logical_switch_port PORT external_ids {MARK}`"),
        ),
    }
    match others.as_slice() {
        [] => report.ok("conflicts", "no port is being migrated by other means"),
        others => report.warn(
            "conflicts",
            format!(
                "options:activation-strategy, or a requested-chassis of two, which are not ours: {}",
                some(others)
            ),
            "a CNI's own live migration (Kube-OVN's?) moves these ports, or has left this behind: switch it off, or take over by `limosa.io/take-over`",
        ),
    }
    let global: Option<NbGlobal> = nb.rows().next();
    match global {
        None => report.fail(
            "nb-global",
            "the northbound database has no row in NB_Global",
            "run `ovn-nbctl init`",
        ),
        Some(global) => {
            let leader = global.external_ids.get(LEADER);
            let found = leader.map_or_else(
                || "no controller has been elected here".to_owned(),
                |leader| format!("the controller that leads is {leader}"),
            );
            report.ok("nb-global", found);
        }
    }
}

/// Whether ovn-northd and every ovn-controller have done what they were asked last.
async fn follow(report: &mut Report, nb: &Session, sb: &Session) {
    let behind = || {
        let global: Option<NbGlobal> = nb.replica().rows().next();
        let (asked, northd) = global.map_or((0, 0), |global| (global.nb_cfg, global.sb_cfg));
        let late: Vec<String> = sb
            .replica()
            .rows::<ChassisPrivate>()
            .filter(|chassis| chassis.nb_cfg < asked)
            .map(|chassis| chassis.name)
            .collect();
        (northd < asked, late)
    };
    let (mut nb_changes, mut sb_changes) = (nb.subscribe(), sb.subscribe());
    let caught_up = async {
        while behind() != (false, Vec::new()) {
            tokio::select! {
                changed = nb_changes.changed() => if changed.is_err() { return },
                changed = sb_changes.changed() => if changed.is_err() { return },
            }
        }
    };
    let _ = tokio::time::timeout(FOLLOW, caught_up).await;
    let (northd, late) = behind();
    if northd {
        let found = "NB_Global:sb_cfg stays behind nb_cfg";
        report.fail("ovn-northd", found, "is ovn-northd running, and connected to both databases?");
    } else {
        report.ok("ovn-northd", "has followed the northbound database");
    }
    if late.is_empty() {
        report.ok("ovn-controllers", "every chassis has followed");
    } else {
        let found = format!("behind NB_Global:nb_cfg: {}", some(&late));
        let hint = "is ovn-controller running there? Each migration waits up to 30 s for a chassis that does not follow";
        report.fail("ovn-controllers", found, hint);
    }
}
