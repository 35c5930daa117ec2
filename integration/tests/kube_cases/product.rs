//! Every case with a controller struck at every write, in every way: by ones that are struck at once, and by ones that
//! have been at work for some writes. What was found is in `target/chaos/cases.json` after each play; a run that was
//! interrupted goes on from there.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use limosa_lab::demo::Limosa;
use limosa_lab::kube::cluster::Cluster;
use limosa_lab::kube::fate::{Blow, Fate};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::cluster;
use crate::table::{Case, cases, play};

/// How many writes a controller makes before it is struck, if it is not struck at once. So many plays strike every write.
const WARM: u64 = 5;

/// What came of one case with one fate.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    case: String,
    /// The blow, and at which writes.
    fate: String,
    /// How often it fell.
    struck: usize,
    seconds: f64,
    /// In what the end differs from that of the same case left alone.
    differs: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    /// Whether every play has been played.
    complete: bool,
    plays: usize,
    differences: usize,
    /// The programs that it was found of.
    programs: String,
    rows: Vec<Row>,
}

impl Report {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/chaos/cases.json")
    }

    /// One that an interrupted run of the same programs has left, without what has differed; otherwise an empty one.
    fn begin() -> Result<Self> {
        let changed = |program: &Path| -> Result<u128> {
            let changed = program.metadata().and_then(|found| found.modified());
            Ok(changed
                .with_context(|| format!("look at {program:?}"))?
                .duration_since(UNIX_EPOCH)?
                .as_nanos())
        };
        let programs = format!("{} {}", changed(&Limosa::binary()?)?, changed(&std::env::current_exe()?)?);
        let text = std::fs::read_to_string(Self::path()).unwrap_or_default();
        let found = serde_json::from_str(&text).ok().filter(|found: &Self| found.programs == programs);
        let mut report = found.filter(|found| !found.complete || found.differences > 0).unwrap_or_default();
        report.rows.retain(|row| row.differs.is_none());
        Ok(Self { complete: false, programs, ..report })
    }

    fn find(&self, case: &Case, fate: Fate) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == case.name && row.fate == fate.to_string())
    }

    fn write(&mut self) -> Result<()> {
        self.plays = self.rows.len();
        self.differences = self.rows.iter().filter(|row| row.differs.is_some()).count();
        let path = Self::path();
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).context("make target/chaos")?;
        let half = path.with_extension("new");
        std::fs::write(&half, serde_json::to_string_pretty(self)? + "\n").context("write cases.json")?;
        std::fs::rename(&half, &path).context("write cases.json")
    }
}

/// Plays one case with the controllers that its fate brings; how often one of them was struck.
pub(crate) async fn once(cluster: &Cluster, case: &Case, fate: Fate, guest: &str) -> Result<usize> {
    let run = cluster.run(fate).await?;
    if let Err(error) = play(cluster, case, guest).await {
        return Err(error.context(cluster.log().await));
    }
    let struck = run.end().await?;
    let twice = cluster.cast.contradictions();
    ensure!(twice.is_empty(), "written twice: {twice:?}");
    let is_idle = fate == Fate::Live || !case.is_touched();
    ensure!(
        struck > 0 || is_idle || Blow::ALL.iter().all(|blow| blow.at_each() != fate),
        "nobody was struck"
    );
    Ok(struck)
}

/// Plays it on the cluster in `place`, or on a new one, which stays there if nothing has gone wrong.
async fn row(case: &Case, fate: Fate, place: &mut Option<Cluster>) -> Row {
    let there = match place.take() {
        Some(cluster) => cluster,
        None => cluster().await,
    };
    let (begun, guest) = (Instant::now(), format!("vm{}", fastrand::u32(..)));
    let result = once(&there, case, fate, &guest).await;
    *place = result.is_ok().then_some(there);
    Row {
        case: case.name.clone(),
        fate: fate.to_string(),
        struck: *result.as_ref().unwrap_or(&0),
        seconds: begun.elapsed().as_secs_f64(),
        differs: result.err().map(|error| format!("{error:#}")),
    }
}

/// Plays them all, on so many clusters; a line for each case and blow.
pub(crate) async fn everything(clusters: usize) -> Result<()> {
    let mut report = Report::begin()?;
    report.write()?;
    println!("{} plays are known; the report is {}", report.rows.len(), Report::path().display());
    let report = Mutex::new(report);
    let all = Blow::ALL.into_iter().flat_map(|blow| cases().into_iter().map(move |case| (case, blow)));
    let queue: Mutex<VecDeque<(Case, Blow)>> = Mutex::new(all.collect());
    let begun = Instant::now();
    let worker = async || -> Result<()> {
        let mut place = None;
        loop {
            let Some((case, blow)) = queue.lock().await.pop_front() else { return Ok(()) };
            let (mut struck, mut differences) = (0, 0);
            let warm = (1..=WARM).map(|first| Fate::Struck { blow, first, then: WARM });
            for fate in std::iter::once(blow.at_each()).chain(warm) {
                let known = report.lock().await.find(&case, fate).cloned();
                let row = match known {
                    Some(row) => row,
                    None => {
                        let row = row(&case, fate, &mut place).await;
                        let mut report = report.lock().await;
                        report.rows.push(row.clone());
                        report.write()?;
                        row
                    }
                };
                struck += row.struck;
                differences += usize::from(row.differs.is_some());
            }
            let end = if differences == 0 { "ok".to_owned() } else { format!("{differences} DIFFER") };
            println!("{:>6} s  {}, {blow} {struck} writes: {end}", begun.elapsed().as_secs(), case.name);
        }
    };
    futures::future::try_join_all((0..clusters).map(|_| worker())).await?;
    let mut report = report.into_inner();
    report.complete = true;
    report.write()?;
    println!("{} plays in {} s, {} differ", report.plays, begun.elapsed().as_secs(), report.differences);
    let differs = |row: &Row| Some(format!("{}, {}: {}", row.case, row.fate, row.differs.as_ref()?));
    let found: Vec<String> = report.rows.iter().filter_map(differs).collect();
    ensure!(found.is_empty(), "{}", found.join("\n\n"));
    Ok(())
}
