//! The verbs that people look with, on a real OVN.

mod check;
mod dumps;
mod findings;
mod plugin;
mod traces;

use std::process::Output;
use std::time::Duration;

use limosa_lab::demo::{Limosa, flows_of_ours};
use limosa_lab::{CENTRAL, Daemon, Endpoint, Lab, LabOptions, LabProcess, LogicalPort};
use rustix::process::Signal;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);
const GUEST: &str = "192.168.7.10";
const GUEST_MAC: &str = "02:00:00:00:01:01";

/// A lab with a peer on every chassis, `vm1` as a port plugged on ch1, and Limosa.
struct Stage {
    lab: Lab,
    limosa: Limosa,
    source: Endpoint,
}

impl Stage {
    async fn new(chassis: usize) -> Self {
        let lab = Lab::start(LabOptions { chassis, ..LabOptions::default() }).await.unwrap();
        lab.peers().await.unwrap();
        lab.port("ls0", LogicalPort::new("vm1", GUEST_MAC, GUEST)).await.unwrap();
        let limosa = Limosa::start(&lab).await.unwrap();
        let source = lab.endpoint("ch1", "vm1").await.unwrap();
        Self { lab, limosa, source }
    }

    /// Runs `limosa` in a namespace, on the lab's store.
    async fn run(&self, ns: &str, args: &[&str]) -> Output {
        let binary = Limosa::binary().unwrap();
        let store = self.limosa.store().to_string_lossy().into_owned();
        let argv = [&[binary.to_str().unwrap()], args, &["--store", &store]].concat();
        self.lab.run_in(ns, &argv).await.unwrap()
    }

    /// Runs a verb that prints JSON; with whether it succeeded.
    async fn json(&self, ns: &str, args: &[&str]) -> (bool, Value) {
        let output = self.run(ns, &[args, &["-o", "json"]].concat()).await;
        let value = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        (output.status.success(), value.unwrap_or_else(|error| panic!("{args:?}: {error}: {said}")))
    }

    async fn text(&self, ns: &str, args: &[&str]) -> String {
        let output = self.run(ns, args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `limosa flows` on a chassis.
    async fn flows(&self, chassis: &str) -> (bool, Value) {
        let rundir = self.lab.chassis(chassis).ovs_rundir().to_string_lossy().into_owned();
        self.json(chassis, &["flows", "--chassis", chassis, "--ovs-rundir", &rundir]).await
    }

    /// The migration's flows as the verb shows them: purpose and verdict.
    async fn verdicts(&self, chassis: &str) -> Vec<(String, String)> {
        let (_, shown) = self.flows(chassis).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut verdicts: Vec<_> =
            lines(&shown).map(|line| (text(&line["purpose"]), text(&line["verdict"]))).collect();
        verdicts.sort();
        verdicts
    }

    /// Waits until the bridge holds so many flows of the migration.
    async fn holds(&self, chassis: &str, count: usize) {
        eventually(async || {
            let verdicts = self.verdicts(chassis).await;
            if verdicts.len() == count { Ok(()) } else { Err(verdicts) }
        })
        .await;
    }

    /// Asserts that `limosa flows` shows just what the bridge has, and finds it right.
    async fn assert_right(&self, chassis: &str, purposes: &[&str]) {
        let (fine, shown) = self.flows(chassis).await;
        assert!(fine, "{shown:#}");
        let flows = self.lab.dump_flows(chassis).await.unwrap();
        let mut dumped = flows_of_ours(&flows);
        let mut verb: Vec<&str> = lines(&shown).map(|line| line["flow"].as_str().unwrap()).collect();
        dumped.sort_unstable();
        verb.sort_unstable();
        assert_eq!(verb, dumped);
        let mut seen: Vec<&str> = lines(&shown).map(|line| line["purpose"].as_str().unwrap()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, purposes, "{chassis}");
    }

    async fn wait(&self, phase: &str) {
        self.limosa.wait(&self.lab, "m", phase).await.unwrap();
    }
}

fn lines(shown: &Value) -> impl Iterator<Item = &Value> {
    let shares = shown["migrations"].as_array().into_iter().flatten();
    shares.flat_map(|share| share["flows"].as_array().into_iter().flatten())
}

/// Looks again and again until it holds, or says what it saw last.
async fn eventually<T: std::fmt::Debug>(mut look: impl AsyncFnMut() -> Result<(), T>) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(()) => return,
            Err(seen) => {
                assert!(tokio::time::Instant::now() < deadline, "still {seen:#?} after {DEADLINE:?}")
            }
        }
    }
}

/// Starts `limosa watch m`, on a terminal or not; what it prints is its log.
async fn start_watch(stage: &Stage, on_terminal: bool) -> LabProcess {
    let (binary, store) = (Limosa::binary().unwrap(), stage.limosa.store().display());
    let watch = format!("{} watch m --store {store}", binary.display());
    let (program, args) = match on_terminal {
        true => ("script", ["-qefc", watch.as_str(), "/dev/null"]),
        false => ("sh", ["-c", watch.as_str(), "sh"]),
    };
    let watch = stage.lab.spawn_in(CENTRAL, std::process::Command::new(program).args(args)).await.unwrap();
    watch.wait_log("Arming", DEADLINE).await.unwrap();
    watch
}

/// One migration, held at each step for as long as people look at it.
#[tokio::test]
async fn a_migration_is_looked_at_from_every_side() {
    let stage = Stage::new(3).await;
    let (lab, limosa) = (&stage.lab, &stage.limosa);
    let migrate = ["vm1", "--from", "ch1", "--to", "ch2", "--name", "m", "--wait=arming", "--timeout", "30"];
    let object = limosa.object(lab, "migrate", &migrate).await.unwrap();
    let (watch, screen) = (start_watch(&stage, false).await, start_watch(&stage, true).await);
    let target = lab.endpoint_unbound("ch2", "vm1").await.unwrap();
    stage.wait("armed").await;
    let mut dumps = dumps::Dumps::new(&object);

    stage.assert_right("ch1", &["mirror", "reverse"]).await;
    let gate = ["announce", "gate_direct", "gate_mirrored", "gate_out", "guard", "take"];
    stage.assert_right("ch2", &gate).await;
    stage.assert_right("ch3", &["guard"]).await;
    let (_, shown) = stage.flows("ch1").await;
    let mirror = lines(&shown).find(|line| line["purpose"] == "mirror").unwrap();
    assert!(
        mirror["beside"][0]["flow"].as_str().unwrap().contains("table=65, priority=100,reg15="),
        "{mirror:#}"
    );
    dumps.take(&stage, "source, armed", "ch1").await;
    dumps.take(&stage, "target, armed", "ch2").await;
    dumps.take(&stage, "bystander, until the switch", "ch3").await;
    tampered_flows_are_pointed_at(&stage, object.number()).await;
    explained(&stage, object.number()).await;

    // The target's own flows do not come while its ovn-controller stands still, and what
    // every chassis has to know is not known while the bystander's does.
    let controllers = ["ch2", "ch3"].map(|chassis| lab.daemon(chassis, Daemon::OvnController));
    controllers.iter().for_each(|daemon| daemon.pause().unwrap());
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    stage.wait("activated").await;
    let check = ["check", "--nb", &lab.nb(), "--sb", &lab.sb()];
    check::finds(&stage, CENTRAL, &check, &[findings::CHASSIS_BEHIND]).await;
    stage.holds("ch2", 5).await;
    stage.assert_right("ch2", &["divert_in", "divert_out", "gate_direct", "guard", "take"]).await;
    dumps.take(&stage, "target, activated", "ch2").await;

    controllers[0].resume().unwrap();
    eventually(async || {
        let verdicts = stage.verdicts("ch2").await;
        if verdicts.iter().any(|(purpose, _)| purpose == "commit") { Ok(()) } else { Err(verdicts) }
    })
    .await;
    stage.assert_right("ch2", &["commit", "divert_in", "divert_out", "gate_direct", "guard", "take"]).await;
    dumps.take(&stage, "target, bound", "ch2").await;

    // Once the target has followed the binding it may stop again: the bystander is all
    // that is missing for the switch, and the target for the release.
    eventually(async || {
        let (_, object) = stage.json(CENTRAL, &["status", "m"]).await;
        let barrier = object["status"]["barrier"].clone();
        let find = ["--bare", "--columns=nb_cfg", "find", "chassis_private", "name=ch2"];
        let done: i64 = lab.sbctl(&find).await.unwrap().trim().parse().unwrap();
        let asked = barrier["nbCfg"].as_i64().filter(|_| barrier["round"] == 2);
        if asked.is_some_and(|asked| asked <= done) { Ok(()) } else { Err((barrier, done)) }
    })
    .await;
    controllers[0].pause().unwrap();
    // The target waits for the source to send one way; the others do.
    let source_agent = stage.limosa.agent("ch1").unwrap();
    limosa.pause(source_agent).await.unwrap();
    controllers[1].resume().unwrap();
    stage.holds("ch3", 2).await;
    stage.assert_right("ch3", &["guard", "steer"]).await;
    dumps.take(&stage, "bystander, at the switch", "ch3").await;
    source_agent.kill(Signal::CONT).unwrap();
    stage.wait("switched").await;
    for (chassis, count) in [("ch1", 3), ("ch2", 2), ("ch3", 1)] {
        stage.holds(chassis, count).await;
    }
    stage.assert_right("ch2", &["gate_mirrored", "take"]).await;
    stage.assert_right("ch1", &["guard", "mirror", "reverse"]).await;
    stage.assert_right("ch3", &["guard"]).await;
    dumps.take(&stage, "target, switched", "ch2").await;
    dumps.take(&stage, "source, after the switch", "ch1").await;
    dumps.take(&stage, "bystander, after the switch", "ch3").await;

    controllers[0].resume().unwrap();
    stage.wait("released").await;
    lab.unplug("ch1", &stage.source.iface).await.unwrap();
    stage.wait("completed").await;
    for chassis in ["ch1", "ch2", "ch3"] {
        stage.assert_right(chassis, &[]).await;
    }
    for watch in [&watch, &screen] {
        assert!(watch.wait_exit(DEADLINE).await.unwrap().success(), "{}", watch.log());
    }
    let last = screen.log().rsplit("\x1b[H\x1b[J").next().unwrap().to_owned();
    assert!(last.contains("Completed after") && last.contains("┌ controller"), "{last}");
    for phase in ["Arming", "Armed", "Activated", "Completed"] {
        assert!(watch.log().contains(&format!("m  vm1  ch1 -> ch2  {phase}")), "{phase}: {}", watch.log());
    }
    timeline(&stage).await;
    dumps.compare();
}

/// Nobody mends anything while the agent stands still.
async fn tampered_flows_are_pointed_at(stage: &Stage, number: u64) {
    let (lab, agent) = (&stage.lab, stage.limosa.agent("ch2").unwrap());
    let cookie = |low: u64| format!("{:#x}", 0x4c49_4d4f_0000_0000_u64 | number << 8 | low);
    stage.limosa.pause(agent).await.unwrap();
    let ofctl = async |command: &str, flow: String| lab.ofctl("ch2", command, &[&flow]).await.unwrap();
    // The gate from the interface is target's (2 << 6) and of purpose 3, that for mirrored packets of 4.
    ofctl("del-flows", format!("cookie={}/-1", cookie(0x83))).await;
    let dump = lab.dump_flows("ch2").await.unwrap();
    let gate = dump.iter().find(|flow| flow.contains(&cookie(0x84))).unwrap();
    ofctl("add-flow", gate.replace("actions=drop", "actions=in_port")).await;
    ofctl("add-flow", "cookie=0x4c494d4fffffff41,table=250,priority=5,in_port=1,actions=drop".to_owned())
        .await;
    ofctl("add-flow", format!("cookie={},table=250,priority=5,in_port=2,actions=drop", cookie(0x81))).await;

    let (fine, shown) = stage.flows("ch2").await;
    assert!(!fine && shown["findings"] == 4, "{shown:#}");
    let expected = [
        ("announce", "right"),
        ("gate_direct", "right"),
        ("gate_mirrored", "changed"),
        ("gate_out", "missing"),
        ("guard", "right"),
        ("mirror", "stray"),
        ("mirror", "unwanted"),
        ("take", "right"),
    ];
    let expected: Vec<_> = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(stage.verdicts("ch2").await, expected);
    let changed = lines(&shown).find(|line| line["verdict"] == "changed").unwrap();
    assert_eq!(changed["wanted"].as_str(), Some(gate.as_str()));
    assert!(changed["flow"].as_str().unwrap().ends_with("actions=IN_PORT"), "{changed}");
    assert!(changed["packets"].is_u64() && changed["why"].is_string(), "{changed}");
    let rundir = lab.chassis("ch2").ovs_rundir().to_string_lossy().into_owned();
    let node = ["check", "--node", "--chassis", "ch2", "--ovs-rundir", &rundir];
    check::finds(stage, "ch2", &node, &[findings::WRONG_FLOWS]).await;

    agent.kill(Signal::CONT).unwrap();
    eventually(async || {
        let verdicts = stage.verdicts("ch2").await;
        let wrong: Vec<_> = verdicts.into_iter().filter(|(_, verdict)| verdict != "right").collect();
        // Strays are left alone for a minute.
        if wrong == [("mirror".to_owned(), "stray".to_owned())] { Ok(()) } else { Err(wrong) }
    })
    .await;
    ofctl("del-flows", "cookie=0x4c494d4fffffff41/-1".to_owned()).await;
    stage
        .assert_right("ch2", &["announce", "gate_direct", "gate_mirrored", "gate_out", "guard", "take"])
        .await;
}

async fn explained(stage: &Stage, number: u64) {
    let cookie = format!("{:#x}", 0x4c49_4d4f_0000_0000_u64 | number << 8 | 0x86);
    let said = stage.text(CENTRAL, &["explain", &cookie]).await;
    assert!(said.contains("announce, on the target") && said.contains("m: vm1 from ch1 to ch2"), "{said}");
    let (fine, said) = stage.json(CENTRAL, &["explain", &cookie]).await;
    assert!(fine && said["migration"]["phase"] == "Armed" && said["number"] == number, "{said}");
    assert!(!stage.run(CENTRAL, &["explain", "0x1021ee0c"]).await.status.success(), "OVN's");
}

async fn timeline(stage: &Stage) {
    let text = stage.text(CENTRAL, &["timeline", "m"]).await;
    for step in ["Armed", "Activated", "Bound", "Held", "Opened", "Switched", "Redirected", "Completed"] {
        assert!(text.contains(&format!(" {step} ")), "{step}: {text}");
    }
    let (_, course) = stage.json(CENTRAL, &["timeline", "m"]).await;
    let events = course["events"].as_array().unwrap();
    assert_eq!(course["lanes"].as_array().unwrap().len(), 4, "{course:#}");
    assert!(events[1..].iter().all(|event| event["waited"]["for"].is_string()), "{events:#?}");
    // One machine, one clock: nothing comes before what it waited for.
    assert!(events[1..].iter().all(|event| event["waited"]["micros"].as_i64().unwrap() >= 0), "{events:#?}");
    let svg = stage.text(CENTRAL, &["timeline", "m", "--svg"]).await;
    assert_eq!(svg.matches("<circle").count(), events.len());
    let yaml = stage.text(CENTRAL, &["timeline", "m", "-o", "yaml"]).await;
    let course_again: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(course_again, course);
    let (_, object) = stage.json(CENTRAL, &["status", "m"]).await;
    let yaml = stage.text(CENTRAL, &["status", "m", "-o", "yaml"]).await;
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), object);
}
