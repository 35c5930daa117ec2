//! The dumps in docs/flows.md are those of this migration: `LIMOSA_RENEW=1`
//! writes them anew, otherwise they are compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use limosa_lab::demo::Object;
use serde_json::Value;

use super::{Stage, lines};

const BEGIN: &str =
    "<!-- dumps: begin (renewed by LIMOSA_RENEW=1 cargo test -p limosa-lab --test verbs) -->\n";
const END: &str = "<!-- dumps: end -->\n";
/// The numbers that the documentation has for those of this run.
const NUMBER: u64 = 0x2a;
const PORT_KEY: u64 = 4;
const DATAPATH_KEY: u64 = 1;

pub(super) struct Dumps {
    /// What differs from run to run, and what stands for it.
    names: Vec<(String, String)>,
    text: String,
}

impl Dumps {
    pub(super) fn new(object: &Object) -> Self {
        let number = object.number();
        let keys = object.flow_match();
        let key = |field: &str| {
            let value = keys.split([',', ' ']).find_map(|pair| pair.strip_prefix(field)?.strip_prefix("=0x"));
            u64::from_str_radix(value.expect("a key of the port"), 16).unwrap()
        };
        let (port, datapath) = (key("reg15"), key("metadata"));
        let mark = 1_u64 << 31;
        let bytes = |n: u64| format!("{:02x}.{:02x}.{:02x}", n >> 16 & 0xff, n >> 8 & 0xff, n & 0xff);
        let cookie = |n: u64| format!("0x4c494d4f{n:06x}");
        let hex = |text: &str, now: u64, then: u64| {
            (text.replace('#', &format!("{now:#x}")), text.replace('#', &format!("{then:#x}")))
        };
        let names = vec![
            (cookie(number), cookie(NUMBER)),
            (format!("4c.49.4d.4f.{}", bytes(number)), format!("4c.49.4d.4f.{}", bytes(NUMBER))),
            hex("tun_metadata0=#", mark | port, mark | PORT_KEY),
            hex("tun_metadata0=#", mark | port << 16, mark | PORT_KEY << 16),
            hex("#->tun_metadata0", mark | port, mark | PORT_KEY),
            hex("#->tun_metadata0", mark | port << 16, mark | PORT_KEY << 16),
            hex("load:#->NXM_NX_TUN_METADATA0", mark | port << 16, mark | PORT_KEY << 16),
            hex("set_field:#->tun_metadata0", port, PORT_KEY),
            hex("set_field:#->reg15", port, PORT_KEY),
            hex("reg15=#,", port, PORT_KEY),
            hex("metadata=#", datapath, DATAPATH_KEY),
            hex("tun_id=#,", datapath, DATAPATH_KEY),
            hex("set_field:#->tun_id", datapath, DATAPATH_KEY),
            hex("set_field:#->metadata", datapath, DATAPATH_KEY),
            hex("load:#->NXM_NX_TUN_ID", datapath, DATAPATH_KEY),
        ];
        Self { names, text: String::new() }
    }

    /// Adds what a chassis has now, each flow with what it does and why.
    pub(super) async fn take(&mut self, stage: &Stage, title: &str, chassis: &str) {
        let (_, shown) = stage.flows(chassis).await;
        let said: BTreeMap<&str, &Value> =
            lines(&shown).map(|line| (line["cookie"].as_str().unwrap(), line)).collect();
        let ours = "cookie=0x4c494d4f00000000/0xffffffff00000000";
        let dump = stage.lab.ofctl(chassis, "dump-flows", &["--names", "--no-stats", ours]).await.unwrap();
        let mut flows: Vec<&str> =
            dump.lines().map(str::trim).filter(|line| line.contains("actions=")).collect();
        flows.sort_by_key(|flow| (table(flow), cookie(flow)));
        let numbers = port_numbers(stage, chassis).await;
        let _ = writeln!(self.text, "### On the {title}\n");
        for flows in flows.chunk_by(|a, b| cookie(a) == cookie(b)) {
            let line = said[cookie(flows[0])];
            let word = |key: &str| line[key].as_str().unwrap();
            let (purpose, what, why) = (word("purpose"), word("what"), word("why"));
            let _ = writeln!(self.text, "**{purpose}** {what}.\n*Why:* {why}.\n\n```text");
            for flow in flows {
                let _ = writeln!(self.text, "{}", self.rename(flow, &numbers));
            }
            self.text.push_str("```\n\n");
        }
    }

    /// Port numbers are written as names, also where `ovs-ofctl` does not.
    fn rename(&self, flow: &str, numbers: &[(String, String)]) -> String {
        let mut flow = flow.to_owned();
        for (port, number) in numbers {
            for (now, then) in [
                (format!("set_field:{number}->in_port"), format!("set_field:\"{port}\"->in_port")),
                (
                    format!("set_field:{:#x}->reg0", number.parse::<u32>().unwrap()),
                    format!("set_field:\"{port}\"->reg0"),
                ),
                (format!("in_port={number},load"), format!("in_port=\"{port}\",load")),
            ] {
                flow = flow.replace(&now, &then);
            }
        }
        for (now, then) in &self.names {
            flow = flow.replace(now, then);
        }
        match flow.split_once("zone=") {
            Some((head, rest)) => {
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                format!("{head}zone=9{}", &rest[digits..])
            }
            None => flow,
        }
    }

    /// Compares what was taken with the document, or puts it there.
    pub(super) fn compare(self) {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flows.md");
        let document = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = document.split_once(BEGIN).expect("docs/flows.md has no place for its dumps");
        let (old, tail) = rest.split_once(END).expect("docs/flows.md has no end of its dumps");
        let new = self.text;
        if std::env::var_os("LIMOSA_RENEW").is_some() {
            return std::fs::write(&path, format!("{head}{BEGIN}{new}{END}{tail}")).unwrap();
        }
        let renew = "renew it: LIMOSA_RENEW=1 cargo test -p limosa-lab --test verbs";
        for (old, new) in old.lines().zip(new.lines()) {
            assert_eq!(old, new, "docs/flows.md is not what the switch has; {renew}");
        }
        assert_eq!(
            old.lines().count(),
            new.lines().count(),
            "docs/flows.md lacks flows or has too many; {renew}"
        );
    }
}

/// The tunnels and the endpoints' interfaces on br-int, by their OpenFlow numbers.
async fn port_numbers(stage: &Stage, chassis: &str) -> Vec<(String, String)> {
    let list = ["--format=csv", "--no-headings", "--columns=name,ofport", "list", "interface"];
    let rows = stage.lab.vsctl(chassis, &list).await.unwrap();
    let row = |line: &str| {
        line.split_once(',').map(|(name, number)| (name.trim_matches('"').to_owned(), number.to_owned()))
    };
    rows.lines()
        .filter_map(row)
        .filter(|(name, number)| {
            let is_meant = name.starts_with("ovn-") || name.starts_with("v-");
            is_meant && number.parse::<u32>().is_ok()
        })
        .collect()
}

fn cookie(flow: &str) -> &str {
    flow.strip_prefix("cookie=").and_then(|rest| rest.split(',').next()).unwrap()
}

fn table(flow: &str) -> u8 {
    // It stands right after the cookie, if it is not 0.
    let second = flow.split(", ").nth(1).and_then(|word| word.strip_prefix("table="));
    second.map_or(0, |table| table.parse().unwrap())
}
