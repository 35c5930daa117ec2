//! First contents of 100 MB: bounded in memory, and no stop for whoever shares the runtime.
//!
//! Memory is a process's, so the client runs in one of its own: this program again, with the one test that is
//! ignored otherwise.

use std::process::Stdio;
use std::time::{Duration, Instant};

use ovsdb_rs::{Session, TableMonitor};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::faults::Peer;
use crate::fixture::{DEADLINE, Random, quick};

const REMOTE: &str = "OVSDB_TEST_REMOTE";
const SIZE: usize = 100 << 20;

/// Somewhat like a row of Port_Binding.
fn row(index: usize) -> String {
    let row = json!({
        "logical_port": format!("default_pod-{index}-7d9f8b6c5-x{index}"),
        "tunnel_key": index % 32768,
        "up": index.is_multiple_of(2),
        "mac": format!("0a:58:0a:{:02x}:{:02x}:07 10.244.{}.7", index % 256, index / 256 % 256, index % 250),
        "options": ["map", [["requested-chassis", format!("node-{}", index % 1000)], ["mcast_flood", "false"]]],
        "external_ids": ["map", [["namespace", "default"], ["pod", "true"], ["name", format!("pod-{index}")]]],
        "chassis": ["uuid", format!("00000000-0000-4000-8000-{:012x}", index % 1000)],
    });
    format!("\"6a6ae8e8-0001-4000-8000-{index:012x}\":{{\"initial\":{row}}}")
}

fn schema() -> serde_json::Value {
    let map = json!({ "type": { "key": "string", "value": "string", "min": 0, "max": "unlimited" } });
    json!({ "name": "D", "version": "1.0.0", "tables": { "T": { "columns": {
        "logical_port": { "type": "string" },
        "tunnel_key": { "type": "integer" },
        "up": { "type": { "key": "boolean", "min": 0, "max": 1 } },
        "mac": { "type": { "key": "string", "min": 0, "max": "unlimited" } },
        "options": map,
        "external_ids": map,
        "chassis": { "type": { "key": "uuid", "min": 0, "max": 1 } },
    } } } })
}

#[tokio::test]
async fn a_hundred_megabytes_of_first_contents() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["large::the_client", "--exact", "--ignored", "--nocapture"])
        .env(REMOTE, format!("tcp:{}", listener.local_addr().unwrap()))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut peer = Peer::accept(&listener).await;
    peer.answer_server().await;
    peer.answer("get_schema", schema()).await;
    let request = peer.request("monitor_cond_since").await;
    let mut chunk = format!(r#"{{"result":[false,"{}",{{"T":{{"#, uuid::Uuid::nil());
    let (mut sent, mut rows, mut random) = (0, 0, Random(3));
    while sent < SIZE {
        // Split anywhere: a chunk ends in the middle of a row, of any length.
        let length = 1 + random.below(1 << 18);
        while chunk.len() < length {
            if rows > 0 {
                chunk.push(',');
            }
            chunk.push_str(&row(rows));
            rows += 1;
        }
        let rest = chunk.split_off(length);
        peer.stream.write_all(chunk.as_bytes()).await.unwrap();
        sent += chunk.len();
        chunk = rest;
    }
    chunk.push_str(&format!(r#"}}}}],"id":{},"error":null}}"#, request["id"]));
    peer.stream.write_all(chunk.as_bytes()).await.unwrap();
    let output = timeout(4 * DEADLINE, child.wait_with_output()).await.expect("the client ends").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let number = |name: &str| -> usize {
        let rest = text.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{text}")).1;
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    println!("{text}");
    assert_eq!(number("rows"), rows);
    let peak = number("peak_kb") << 10;
    assert!(peak < 6 * SIZE, "{} MB at the most", peak >> 20);
    // The reading of the whole takes most of the time; while it lasts, timers still run.
    assert!(number("longest_ms") < number("total_ms") / 2, "{text}");
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn the_client() {
    let Ok(remote) = std::env::var(REMOTE) else { return };
    let mut options = quick();
    options.probe_interval = Duration::ZERO;
    let start = Instant::now();
    let session = Session::open_with(remote.parse().unwrap(), "D", vec![TableMonitor::new("T")], options);
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    while session.replica().generation == 0 {
        assert!(start.elapsed() < 3 * DEADLINE);
        tokio::time::sleep(Duration::from_millis(1)).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").to_owned()
    };
    println!(
        "rows={} peak_kb={} now_kb={} total_ms={} longest_ms={}",
        session.replica().table("T").count(),
        kb("VmHWM:"),
        kb("VmRSS:"),
        start.elapsed().as_millis(),
        longest.as_millis(),
    );
}
