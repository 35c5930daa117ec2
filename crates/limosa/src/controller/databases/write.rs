//! What the controller writes: the pin of a port with the mark of who pinned it, and who leads.

use std::fmt;

use limosa_protocol::object::Restore;
use ovsdb_rs::{Clause, Datum, Function, Mutator, OpResult, Row, TransactError, Transaction, Typed, Until};

use super::tables::{NbGlobal, SwitchPort};
use super::{ACTIVATION_STRATEGY, Databases, REQUESTED_CHASSIS, standing};

pub(super) const LSP: &str = SwitchPort::TABLE;
const NB_GLOBAL: &str = NbGlobal::TABLE;
/// The key in a port's `external_ids` that names the migration which has pinned it.
pub(crate) const MARK: &str = "limosa-migration";
/// The key in `NB_Global.external_ids` that names the controller which leads.
pub(crate) const LEADER: &str = "limosa-leader";

/// No leader has this term or a later one: a Lease cannot count so far.
const NO_TERM: u64 = i32::MAX as u64;

/// Which of several controllers may write, as it stands in the northbound database: `HOLDER/TERM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    /// Which process it is.
    pub(crate) holder: String,
    /// How often the leader has changed; more counts.
    pub(crate) term: u64,
}

impl Fence {
    /// Whether what stands in the database is of a later leader, or of another one of the same term.
    fn yields_to(&self, found: &str) -> bool {
        let term = term(found);
        term.is_some_and(|term| term > self.term || (term == self.term && found != self.to_string()))
    }

    /// Refuses the whole transaction unless the database names this leader.
    fn guard(&self, transaction: Transaction) -> Transaction {
        require(transaction, NB_GLOBAL, &[], LEADER, &self.to_string())
    }
}

/// The term in what stands in the database. What is not ours to read was written by nobody who leads.
fn term(found: &str) -> Option<u64> {
    let (_, term) = found.rsplit_once('/')?;
    term.parse().ok().filter(|term| *term < NO_TERM)
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.holder, self.term)
    }
}

/// What becomes of the mark on a port, by the name of the migration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark<'a> {
    /// The option is that migration's.
    Set(&'a str),
    /// It is the operator's again. Another migration's mark stays.
    Clear(&'a str),
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The only one that does not pass: who gets it has to stop writing.
    #[error(
        "another controller leads (NB_Global external_ids:{LEADER} is {}, ours was {ours}): this one writes no more",
        .found.as_deref().unwrap_or("gone")
    )]
    Deposed { found: Option<String>, ours: Fence },
    #[error("logical switch port {0} has gone")]
    NoPort(String),
    #[error("the northbound database has no row in NB_Global: run `ovn-nbctl init`")]
    NoGlobal,
    #[error("somebody else has changed {0} at the same moment; look again before writing")]
    Changed(String),
    #[error("another controller may lead by now: nothing is written")]
    NotLeading,
    #[error(transparent)]
    Transact(#[from] TransactError),
}

impl WriteError {
    /// Whether a write of other ports may succeed all the same.
    pub(crate) const fn is_of_one_port(&self) -> bool {
        matches!(self, Self::NoPort(_) | Self::Changed(_))
    }

    /// A stable name for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Deposed { .. } => "deposed",
            Self::NoPort(_) => "no_port",
            Self::NotLeading => "not_leading",
            Self::NoGlobal => "no_global",
            Self::Changed(_) => "changed",
            Self::Transact(error) => error.label(),
        }
    }
}

impl Databases {
    /// Writes who leads, unless somebody later does; from then on every write of ours is refused by the
    /// database itself once it names another.
    pub(crate) async fn lead(&mut self, fence: Fence) -> Result<(), WriteError> {
        let found = self.leader().await?;
        match found.as_deref().filter(|found| fence.yields_to(found)) {
            Some(later) => {
                self.later = term(later);
                Err(WriteError::Deposed { found, ours: fence })
            }
            None => self.name(fence, found.as_deref()).await,
        }
    }

    /// The same where nobody is elected: who comes last leads, whoever did before.
    pub(crate) async fn take_over(&mut self, holder: String) -> Result<(), WriteError> {
        let found = self.leader().await?;
        let term = found.as_deref().and_then(term).map_or(0, |term| term + 1);
        self.name(Fence { holder, term }, found.as_deref()).await
    }

    /// The term of the later leader that [`Self::lead`] has yielded to last.
    pub(crate) const fn later_term(&self) -> Option<u64> {
        self.later
    }

    /// Asks the database whether it still names this controller.
    pub(crate) async fn still_leads(&self) -> Result<(), WriteError> {
        let Some(fence) = &self.fence else { return Ok(()) };
        let found = self.leader().await?;
        if found.as_deref() == Some(fence.to_string().as_str()) {
            Ok(())
        } else {
            Err(WriteError::Deposed { found, ours: fence.clone() })
        }
    }

    /// Writes who leads, if the database still names whom it was found to name.
    async fn name(&mut self, fence: Fence, found: Option<&str>) -> Result<(), WriteError> {
        let transaction = Transaction::new().comment(format!("limosa: {fence} leads"));
        let transaction = claim(transaction, NB_GLOBAL, &[], LEADER, found, &fence.to_string());
        match self.nb.transact(transaction).await {
            Ok(_) => {
                // What another has pinned until now, and nothing after that.
                self.standing = self.find_standing().await?;
                self.fence = Some(fence);
                Ok(())
            }
            Err(error) if error.failed_wait().is_some() => {
                Err(WriteError::Changed(format!("NB_Global external_ids:{LEADER}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The marks on all ports, by port: which migration each says it is pinned by.
    pub(crate) async fn marks(&self) -> Result<Vec<(String, String)>, TransactError> {
        let any = [Clause::new("external_ids", Function::NotEqual, Datum::map::<&str, &str>([]))];
        let select = Transaction::new().select(LSP, any, ["name", "external_ids"]);
        let rows = self.nb.transact(select).await?.pop().map(|select| select.rows).unwrap_or_default();
        let mark = |row: &Row| {
            let migration = row.map_get("external_ids", MARK)?.to_owned();
            Some((row.str("name")?.to_owned(), migration))
        };
        Ok(rows.iter().filter_map(mark).collect())
    }

    /// Whom the database names, asked of the server: a replica may not show it yet.
    async fn leader(&self) -> Result<Option<String>, WriteError> {
        let select = Transaction::new().select(NB_GLOBAL, [], ["external_ids"]);
        let mut results = self.nb.transact(select).await?;
        let global = results.pop().and_then(|mut select| select.rows.pop()).ok_or(WriteError::NoGlobal)?;
        Ok(global.map_get("external_ids", LEADER).map(str::to_owned))
    }

    /// Sets both options of each port and the mark of whose they are, or takes them away, in one transaction that
    /// is refused if anyone has changed options or mark of any of them meanwhile. Returns the new `nb_cfg`, one for
    /// all: once `hv_cfg` is there, every chassis knows.
    pub(crate) async fn set_options(&self, pins: &[PortOptions<'_>]) -> Result<i64, WriteError> {
        let seen = |pin: &PortOptions<'_>| {
            self.switch_port(pin.port).ok_or_else(|| WriteError::NoPort(pin.port.to_owned()))
        };
        let seen = pins.iter().map(seen).collect::<Result<Vec<_>, _>>()?;
        self.write(&seen, pins).await
    }

    /// What [`Self::set_options`] does, if the ports still are as they were seen.
    pub(super) async fn write(
        &self,
        seen: &[SwitchPort],
        pins: &[PortOptions<'_>],
    ) -> Result<i64, WriteError> {
        let pinned = seen
            .iter()
            .zip(pins)
            .fold(self.if_leading(), |transaction, (seen, pin)| pin.write(seen, transaction));
        let transaction =
            pinned.mutate(NB_GLOBAL, [], [("nb_cfg", Mutator::Add, 1)]).select(NB_GLOBAL, [], ["nb_cfg"]);
        let ports: Vec<&str> = pins.iter().map(|pin| pin.port).collect();
        let results = self.transact_on(&ports.join(" or "), transaction).await?;
        let nb_cfg = results.last().and_then(|select| select.rows.first()).and_then(|row| row.int("nb_cfg"));
        nb_cfg.ok_or(WriteError::NoGlobal)
    }

    /// A transaction that is refused unless we lead.
    fn if_leading(&self) -> Transaction {
        match &self.fence {
            Some(fence) => fence.guard(Transaction::new()),
            None => Transaction::new(),
        }
    }

    /// A transaction that is refused unless we lead and the port's options are as they were seen.
    pub(super) fn if_as_seen(&self, seen: &SwitchPort) -> Transaction {
        as_seen(self.if_leading(), seen)
    }

    /// Carries out what [`Self::if_as_seen`] has begun; a refusal says which of the two it is.
    pub(super) async fn transact_on(
        &self,
        port: &str,
        transaction: Transaction,
    ) -> Result<Vec<OpResult>, WriteError> {
        match self.nb.transact(transaction).await {
            Ok(results) => Ok(results),
            Err(error) => Err(match (error.failed_wait(), &self.fence) {
                (Some(0), Some(fence)) => {
                    WriteError::Deposed { found: self.leader().await?, ours: fence.clone() }
                }
                (Some(_), _) => WriteError::Changed(format!("logical switch port {port}")),
                (None, _) => error.into(),
            }),
        }
    }
}

/// Refuses the whole transaction unless the port's options are as they were seen.
fn as_seen(transaction: Transaction, seen: &SwitchPort) -> Transaction {
    let as_seen = Row::new().with("options", Datum::map(&seen.options));
    let named = [Clause::new("name", Function::Equal, &seen.name)];
    transaction.wait(LSP, named, ["options"], [as_seen], Until::Equal)
}

/// What a port's options are to be, and whose they are.
#[derive(Debug, Clone)]
pub(crate) struct PortOptions<'a> {
    pub(crate) port: &'a str,
    pub(crate) options: Restore,
    pub(crate) mark: Mark<'a>,
}

impl PortOptions<'_> {
    /// Adds what is to be done about a port that is as it was seen.
    fn write(&self, seen: &SwitchPort, transaction: Transaction) -> Transaction {
        let Self { port, options, mark } = self;
        let named = || [Clause::new("name", Function::Equal, *port)];
        let transaction = as_seen(transaction, seen);
        let said = match &options.requested_chassis {
            Some(chassis) => format!("bind {port} to {chassis}"),
            None => format!("no pin on {port} any more"),
        };
        let mut transaction = transaction.comment(format!("limosa: {said}"));
        let values = [
            (REQUESTED_CHASSIS, &options.requested_chassis),
            (ACTIVATION_STRATEGY, &options.activation_strategy),
        ];
        for (key, value) in values {
            transaction = match value {
                Some(value) => transaction.set_keys(LSP, named(), "options", [(key, value.as_str())]),
                None => transaction.delete_keys(LSP, named(), "options", [key]),
            };
        }
        match *mark {
            Mark::Set(migration) => {
                let found = seen.external_ids.get(MARK).map(String::as_str);
                if let Some(other) = found.filter(|other| *other != migration) {
                    tracing::warn!(migration, port, other, "the port has the mark of another migration");
                }
                claim(transaction, LSP, &named(), MARK, found, migration)
            }
            Mark::Clear(migration) => {
                let transaction = transaction.delete_pairs(LSP, named(), "external_ids", [(MARK, migration)]);
                standing::carry_along(transaction, seen, options)
            }
        }
    }
}

/// Gives a key of the row's `external_ids` this value, if it still is as it was seen; refuses the whole
/// transaction otherwise. The row's other keys may be anything.
fn claim(
    transaction: Transaction,
    table: &str,
    row: &[Clause],
    key: &str,
    seen: Option<&str>,
    value: &str,
) -> Transaction {
    // What is not as it was seen is neither deleted nor replaced by an insertion.
    let row_of = || row.iter().cloned();
    let transaction = transaction
        .delete_pairs(table, row_of(), "external_ids", seen.map(|seen| (key, seen)))
        .mutate(table, row_of(), [("external_ids", Mutator::Insert, Datum::map([(key, value)]))]);
    require(transaction, table, row, key, value)
}

/// Refuses the whole transaction unless a key of the row's `external_ids` has this value.
fn require(transaction: Transaction, table: &str, row: &[Clause], key: &str, value: &str) -> Transaction {
    let has = Clause::new("external_ids", Function::Includes, Datum::map([(key, value)]));
    transaction.wait(table, row.iter().cloned().chain([has]), ["_uuid"], [], Until::NotEqual)
}
