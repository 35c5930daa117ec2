//! Transactions that are done exactly once, whatever happens to connections, servers and leaders.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::condition::Clause;
use crate::error::TransactError;
use crate::session::Session;
use crate::transaction::{OpResult, Transaction};

/// What tells that a transaction was done: a row that matches, which there is not before.
///
/// The transaction itself must make it so, by inserting the row or by setting what the clauses look for; and
/// nobody may undo that before the caller knows the outcome. For a row of its own, take a UUID of this attempt
/// as the value of a column. For a mark in the `external_ids` of a shared row, take a key of this client and a
/// new value each time, never a key that others write as well:
///
/// ```
/// # use ovsdb_rs::{Clause, Datum, Function, Mutator, Transaction, Witness};
/// let mark = [("counted-by-7", "request-1042")];
/// let add = Transaction::new()
///     .mutate("NB_Global", [], [("nb_cfg", Mutator::Add, 1)])
///     .set_keys("NB_Global", [], "external_ids", mark);
/// let clause = Clause::new("external_ids", Function::Includes, Datum::map(mark));
/// let witness = Witness::new("NB_Global", [clause]);
/// # let _ = (add, witness);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    table: String,
    condition: Vec<Clause>,
}

/// How a transaction with a [`Witness`] ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum Once {
    /// It was done; what each operation did.
    Done(Vec<OpResult>),
    /// It was done before, by an attempt whose answer was lost, of this call or an earlier one.
    Before,
}

impl Witness {
    /// The transaction was done if the table has a row for which all of these clauses hold. Without a clause
    /// every row is one.
    pub fn new(table: impl Into<String>, condition: impl IntoIterator<Item = Clause>) -> Self {
        Self { table: table.into(), condition: condition.into_iter().collect() }
    }
}

impl Session {
    /// For a server that answers at once that it does not know.
    const BEFORE_AGAIN: Duration = Duration::from_millis(50);

    /// Carries out a transaction exactly once, unless it is refused: as long as the outcome is unknown it is
    /// sent again, on the next connection, within this time.
    ///
    /// Each time the server first looks for the witness, within the transaction. So it does no harm that an
    /// attempt given up for lost is carried out later, by a server that was stopped or cut off. The same
    /// transaction and witness may be given again after an error, and by another process.
    ///
    /// # Errors
    ///
    /// [`TransactError::Refused`]: not done, and never will be by this call. [`TransactError::Unknown`]: the
    /// time is over, or the last attempt was refused, while an earlier one may yet be carried out; call again.
    /// [`TransactError::NotConnected`]: it was never sent.
    pub async fn transact_once(
        &self,
        transaction: &Transaction,
        witness: &Witness,
        within: Duration,
    ) -> Result<Once, TransactError> {
        let guarded = transaction.unless(&witness.table, &witness.condition);
        let deadline = Instant::now() + within;
        let mut lost: Option<TransactError> = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.transact_within(guarded.clone(), left).await {
                Ok(mut results) => {
                    // That of the look at the witness.
                    results.remove(0);
                    return Ok(Once::Done(results));
                }
                Err(error) if error.failed_wait() == Some(0) => return Ok(Once::Before),
                Err(TransactError::Refused { op, error, details }) => {
                    TransactError::Refused { op: op.and_then(|op| op.checked_sub(1)), error, details }
                }
                Err(error @ TransactError::Unknown { .. }) => {
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                    lost = Some(error);
                    sleep(Self::BEFORE_AGAIN).await;
                    continue;
                }
                Err(error @ TransactError::NotConnected { .. }) => error,
            };
            return Err(match lost {
                None => error,
                Some(lost) => TransactError::Unknown { reason: format!("{lost}; then {error}") },
            });
        }
    }
}
