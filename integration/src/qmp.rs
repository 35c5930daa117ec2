//! QEMU's machine protocol: JSON objects, one a line, over a Unix socket
//! (QEMU, docs/interop/qmp-spec).

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::clock::{ClockPair, SECOND};
use crate::holder::within;

/// How long QEMU may take to answer a command.
const ANSWER: Duration = Duration::from_secs(20);

/// When something happened, on both clocks.
pub type Stamp = ClockPair;

/// An event of QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `STOP`, `RESUME`, `MIGRATION`, …
    pub name: String,
    /// When QEMU emitted it (by its own clock reading, in microseconds).
    pub at: Stamp,
    /// Its data; null when it has none.
    pub data: Value,
}

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub struct Qmp {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    out: OwnedWriteHalf,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Connects and takes the protocol's first step.
    ///
    /// # Errors
    ///
    /// When nothing listens, or what does is not QEMU.
    pub async fn connect(path: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(path).await.with_context(|| format!("connect to {}", path.display()))?;
        let (read, out) = stream.into_split();
        let mut qmp = Self { lines: BufReader::new(read).lines(), out, events: VecDeque::new() };
        within(ANSWER, "QEMU's greeting", async { qmp.read().await?.context("QEMU closed its monitor") })
            .await?;
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// The next message, and none at the end of the connection.
    async fn read(&mut self) -> Result<Option<Value>> {
        // A connection that is reset has ended as well: QEMU was killed.
        let Ok(Some(line)) = self.lines.next_line().await else { return Ok(None) };
        serde_json::from_str(&line).with_context(|| format!("QEMU said {line:?}")).map(Some)
    }

    /// Reads one message; an event is put aside, anything else returned.
    async fn step(&mut self) -> Result<Option<Value>> {
        let message = self.read().await?.context("QEMU ended")?;
        let Some(name) = message["event"].as_str() else { return Ok(Some(message)) };
        let part = |part: &str| message["timestamp"][part].as_i64().context("an event without a time");
        let realtime_ns = part("seconds")? * SECOND + part("microseconds")? * 1_000;
        let at = Stamp { realtime_ns, monotonic_ns: ClockPair::now().monotonic_of(realtime_ns) };
        self.events.push_back(Event { name: name.to_owned(), at, data: message["data"].clone() });
        Ok(None)
    }

    /// Carries out a command and returns what it answers.
    ///
    /// # Errors
    ///
    /// What QEMU says, or that it ended.
    pub async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let answer = async {
            let text = json!({"execute": command, "arguments": arguments}).to_string();
            self.out.write_all(text.as_bytes()).await.context("write to QEMU")?;
            loop {
                let Some(mut answer) = self.step().await? else { continue };
                if let Some(error) = answer.get("error") {
                    bail!("{}", error["desc"].as_str().unwrap_or("an error without a text"));
                }
                return Ok(answer["return"].take());
            }
        };
        within(ANSWER, "QEMU's answer", answer).await.with_context(|| format!("qmp {command}"))
    }

    /// Waits for the next event that `wanted` accepts; it and those before it
    /// are forgotten.
    ///
    /// # Errors
    ///
    /// When it does not come, or QEMU ends first.
    pub async fn wait(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        within(deadline, what, async {
            loop {
                while let Some(event) = self.events.pop_front() {
                    if wanted(&event) {
                        return Ok(event);
                    }
                }
                if let Some(stray) = self.step().await? {
                    bail!("QEMU answered what nobody asked: {stray}");
                }
            }
        })
        .await
    }

    /// Waits for the next event of this name.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_event(&mut self, name: &str, deadline: Duration) -> Result<Event> {
        self.wait(name, deadline, |event| event.name == name).await
    }
}
