//! Somebody else's flows, groups and meters on the integration bridges: what
//! Limosa has to leave as it is, byte for byte.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::chassis::Chassis;
use crate::daemon::Daemon;
use crate::lab::Lab;

/// Flows that come close to Limosa's in every way but one: the upper half of
/// the cookie. They are for an EtherType that nobody uses (IEEE 802's local
/// experiments), or for a logical port that there is not.
const FLOWS: [&str; 6] = [
    // Limosa's magic number in the wrong half.
    "cookie=0x4c494d4f,table=0,priority=1300,dl_type=0x88b5,actions=group:4711",
    "cookie=0x4c494d4e00002a41,table=0,priority=1100,dl_type=0x88b5,actions=drop",
    "cookie=0xf00d,table=0,priority=1200,dl_type=0x88b5,dl_dst=02:00:00:00:01:01,actions=meter:17,resubmit(,253)",
    // The table that Limosa delivers in.
    "cookie=0xf00d,table=253,priority=2,reg15=0x7ff0,metadata=0x7ffff0,actions=drop",
    "cookie=0x0,table=253,priority=1,dl_type=0x88b5,actions=note:4c.49.4d.4f,learn(table=252,priority=1,cookie=0xf00d,dl_type=0x88b5)",
    "cookie=0xf00d,table=200,priority=50,reg15=0x7ff0,metadata=0x7ffff0,actions=clone(set_field:0x7->reg0)",
];
const GROUP: &str = "group_id=4711,type=select,bucket=bucket_id:1,weight=1,actions=resubmit(,253),bucket=bucket_id:2,weight=3,actions=drop";
const METER: &str = "meter=17,kbps,burst,stats,band=type=drop,rate=4711,burst_size=99";

/// What is foreign on one bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    /// Flows, groups and meters, as `ovs-ofctl` prints them.
    lines: Vec<String>,
    /// With another of these everything begins anew: the bridge itself, and
    /// those who delete all they find when they start, ovs-vswitchd and
    /// ovn-controller.
    origin: Vec<String>,
}

/// Foreign flows, groups and meters on every chassis of a lab.
#[derive(Debug)]
pub struct Foreign(BTreeMap<String, Stand>);

impl Foreign {
    /// Puts them on every br-int.
    ///
    /// # Errors
    ///
    /// What `ovs-ofctl` says.
    pub async fn put(lab: &Lab) -> Result<Self> {
        let mut stands = BTreeMap::new();
        for chassis in lab.all_chassis() {
            stands.insert(chassis.name().to_owned(), put(chassis).await?);
        }
        Ok(Self(stands))
    }

    /// What is not as it was put. Where br-int, ovs-vswitchd or ovn-controller
    /// is another one, everything is expected to be gone. What is gone is put
    /// again.
    ///
    /// # Errors
    ///
    /// What `ovs-ofctl` says.
    pub async fn check(&mut self, lab: &Lab) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (name, stand) in &mut self.0 {
            let chassis = lab.chassis(name);
            let now = read(chassis).await?;
            let same = origin(chassis).await? == stand.origin;
            if same {
                let old = stand.lines.iter().filter(|line| !now.contains(line));
                wrong.extend(old.map(|line| format!("somebody else's has gone from {name}: {line}")));
                let new = now.iter().filter(|line| !stand.lines.contains(line));
                wrong.extend(new.map(|line| format!("somebody else's is new on {name}: {line}")));
            } else {
                wrong.extend(now.iter().map(|line| format!("somebody has put this back on {name}: {line}")));
            }
            if now != stand.lines || !same {
                *stand = put(chassis).await?;
            }
        }
        Ok(wrong)
    }
}

async fn put(chassis: &Chassis) -> Result<Stand> {
    // What is left of an earlier time; there may be nothing.
    let _ = chassis.ofctl("del-groups", &["group_id=4711"]).await;
    let _ = chassis.ofctl("del-meters", &["meter=17"]).await;
    chassis.ofctl("add-meter", &[METER]).await?;
    chassis.ofctl("add-group", &[GROUP]).await?;
    for flow in FLOWS {
        chassis.ofctl("add-flow", &[flow]).await?;
    }
    Ok(Stand { lines: read(chassis).await?, origin: origin(chassis).await? })
}

async fn origin(chassis: &Chassis) -> Result<Vec<String>> {
    let bridge = chassis.vsctl(&["get", "bridge", "br-int", "_uuid"]).await?;
    let pids =
        [Daemon::Vswitchd, Daemon::OvnController].map(|daemon| format!("{:?}", chassis.daemon(daemon).pid()));
    Ok([vec![bridge], pids.to_vec()].concat())
}

/// OVN has no meters and groups in these labs, and no flows for this EtherType
/// or for logical port 0x7ff0. Its cookies may be any number.
async fn read(chassis: &Chassis) -> Result<Vec<String>> {
    let mut lines = chassis.dump_flows().await?;
    lines.retain(|flow| flow.contains("dl_type=0x88b5") || flow.contains("reg15=0x7ff0"));
    for what in ["dump-groups", "dump-meters"] {
        let dump = chassis.ofctl(what, &[]).await?;
        // The first line names the reply and its number.
        lines.extend(
            dump.lines().filter(|line| !line.starts_with("OFPST_")).map(|line| line.trim().to_owned()),
        );
    }
    lines.retain(|line| !line.is_empty());
    Ok(lines)
}
