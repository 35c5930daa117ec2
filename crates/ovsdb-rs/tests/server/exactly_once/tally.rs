//! Transactions of which each must come to count exactly once, and what proves it.
//!
//! A transaction adds to a counter, and says so in the row of its worker. Its fate can be unknown, and it can
//! come about after it seemed lost: a server that was stopped carries out what it still finds in its socket.
//! A server also tries again by itself when it loses its leader, which can make it refuse what it has done
//! already (ovsdb/trigger.c). So each transaction carries what makes a second one impossible, in one of two ways.

use std::time::Duration;

use ovsdb_rs::{
    Clause, Datum, Function, Mutator, Once, OpResult, Row, Session, TransactError, Transaction, Until,
    Witness,
};
use serde_json::{Value, json};

pub(crate) const DATABASE: &str = "Tally";
pub(crate) const TABLES: [&str; 3] = ["Counter", "Worker", "Mark"];
pub(crate) const COUNTERS: u64 = 5;

/// Of the numbers of its transactions, a worker's row holds this many of the latest. They change as a set
/// does, by differences: one that is lost or applied twice shows.
pub(crate) const RECENT: i64 = 3;

/// How long a session tries before it tells how things stand; then it is asked again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Every tenth transaction asks for what cannot be.
const REFUSED: u64 = 10;

pub(crate) fn schema() -> Value {
    let set = json!({ "key": "integer", "min": 0, "max": "unlimited" });
    let table =
        |columns: Value, index: Value| json!({ "columns": columns, "indexes": [index], "isRoot": true });
    json!({ "name": DATABASE, "version": "1.0.0", "tables": {
        "Counter": table(json!({ "name": { "type": "string" }, "value": { "type": "integer" } }), json!(["name"])),
        // `done` transactions, which have added `added`.
        "Worker": table(json!({
            "name": { "type": "string" }, "done": { "type": "integer" }, "added": { "type": "integer" },
            "recent": { "type": set },
        }), json!(["name"])),
        // One transaction: it was done, or it never will be.
        "Mark": table(json!({
            "worker": { "type": "string" }, "number": { "type": "integer" }, "done": { "type": "boolean" },
        }), json!(["worker", "number"])),
    } })
}

/// How a transaction is kept from being done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The count of the worker's transactions so far is its witness: it is sent again until that has risen.
    Once,
    /// It inserts a row that can be there once. When its fate is unknown, a transaction that inserts the row
    /// too decides it: either that is done, and the first never will be, or the row is there already.
    Mark,
}

/// What became of the transactions of one worker.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    /// Found to be done, or never to be done, only when looked at again. The former are in `done` too.
    pub(crate) done_after_all: u64,
    pub(crate) void: u64,
    /// Answers that left it open.
    pub(crate) unknown: u64,
    pub(crate) added: u64,
}

impl Account {
    pub(crate) fn plus(self, other: &Self) -> Self {
        Self {
            done: self.done + other.done,
            refused: self.refused + other.refused,
            done_after_all: self.done_after_all + other.done_after_all,
            void: self.void + other.void,
            unknown: self.unknown + other.unknown,
            added: self.added + other.added,
        }
    }
}

pub(crate) struct Worker {
    pub(crate) session: Session,
    pub(crate) name: String,
    pub(crate) guard: Guard,
}

impl Worker {
    /// The row that it counts in, in a transaction that makes all of them.
    pub(crate) fn row(&self, transaction: Transaction) -> Transaction {
        transaction.insert("Worker", None, Row::new().with("name", self.name.as_str()))
    }

    /// Carries out its transactions one after the other; `settled` is called after each.
    pub(crate) async fn work(self, transactions: u64, settled: impl Fn()) -> Account {
        let mut account = Account::default();
        for number in 1..=transactions {
            if number.is_multiple_of(REFUSED) {
                self.refused(&mut account).await;
            } else {
                let amount = 1 + number % 7;
                let done = match self.guard {
                    Guard::Once => self.once(amount, &mut account).await,
                    Guard::Mark => self.marks(number, amount, &mut account).await,
                };
                if done {
                    account.done += 1;
                    account.added += amount;
                } else {
                    account.void += 1;
                }
            }
            settled();
        }
        account
    }

    /// Sends what no server can do until one has said so.
    async fn refused(&self, account: &mut Account) {
        let impossible = Row::new().with("name", "of no worker");
        loop {
            let transaction = Transaction::new().mutate("Worker", self.me(), [("added", Mutator::Add, 1i64)]);
            let transaction =
                transaction.wait("Worker", self.me(), ["name"], [impossible.clone()], Until::Equal);
            match self.transact(transaction, account).await {
                Answer::Refused { op: Some(1), .. } => break account.refused += 1,
                Answer::NotSent | Answer::Unknown => {}
                other => panic!("{}: {other:?}", self.name),
            }
        }
    }

    /// Leaves it to the session.
    async fn once(&self, amount: u64, account: &mut Account) -> bool {
        let done = account.done as i64 + 1;
        let transaction = self.count(Transaction::new(), done, amount);
        let counted = Clause::new("done", Function::Equal, done);
        let witness = Witness::new("Worker", self.me().into_iter().chain([counted]));
        loop {
            match self.session.transact_once(&transaction, &witness, PATIENCE).await {
                Ok(Once::Done(_)) => return true,
                Ok(Once::Before) => {
                    account.done_after_all += 1;
                    return true;
                }
                Err(TransactError::Refused { .. }) => panic!("{}: refused", self.name),
                Err(TransactError::Unknown { .. }) => account.unknown += 1,
                Err(TransactError::NotConnected { .. }) => {}
            }
        }
    }

    /// Sends the transaction once; when its fate is unknown, decides it.
    async fn marks(&self, number: u64, amount: u64, account: &mut Account) -> bool {
        let mark = |done: bool| {
            let row = Row::new()
                .with("worker", self.name.as_str())
                .with("number", number as i64)
                .with("done", done);
            Transaction::new().insert("Mark", None, row)
        };
        let mut transaction = self.count(mark(true), account.done as i64 + 1, amount);
        let mut decides = false;
        loop {
            match self.transact(transaction.clone(), account).await {
                Answer::Done(_) => return !decides,
                Answer::NotSent => continue,
                Answer::Unknown => {}
                Answer::Refused { error, .. } if error == "constraint violation" => {
                    let me = Clause::new("worker", Function::Equal, self.name.as_str());
                    let this = [me, Clause::new("number", Function::Equal, number as i64)];
                    // None from a server that is behind the one that refused.
                    if let Some(row) = self.select("Mark", this, "done", account).await {
                        let done = row.bool("done").unwrap();
                        account.done_after_all += u64::from(done);
                        return done;
                    }
                }
                other => panic!("{}: {other:?}", self.name),
            }
            transaction = mark(false);
            decides = true;
        }
    }

    /// What a transaction does for the `done`th time.
    fn count(&self, transaction: Transaction, done: i64, amount: u64) -> Transaction {
        let counter = Clause::new("name", Function::Equal, format!("c{}", amount % COUNTERS));
        let amount = Datum::from(amount as i64);
        transaction.mutate("Counter", [counter], [("value", Mutator::Add, amount.clone())]).mutate(
            "Worker",
            self.me(),
            [
                ("done", Mutator::Add, Datum::from(1i64)),
                ("added", Mutator::Add, amount),
                ("recent", Mutator::Insert, Datum::from(done)),
                ("recent", Mutator::Delete, Datum::from(done - RECENT)),
            ],
        )
    }

    fn me(&self) -> [Clause; 1] {
        [Clause::new("name", Function::Equal, self.name.as_str())]
    }

    /// Reads one row from the server, not from the replica.
    async fn select<const N: usize>(
        &self,
        table: &str,
        condition: [Clause; N],
        column: &str,
        account: &mut Account,
    ) -> Option<Row> {
        loop {
            let transaction = Transaction::new().select(table, condition.clone(), [column]);
            if let Answer::Done(mut results) = self.transact(transaction, account).await {
                return results.pop()?.rows.pop();
            }
        }
    }

    async fn transact(&self, transaction: Transaction, account: &mut Account) -> Answer {
        match self.session.transact(transaction).await {
            Ok(results) => Answer::Done(results),
            Err(TransactError::Refused { op, error, .. }) => Answer::Refused { op, error },
            Err(TransactError::NotConnected { .. }) => Answer::NotSent,
            Err(TransactError::Unknown { .. }) => {
                account.unknown += 1;
                Answer::Unknown
            }
        }
    }
}

#[derive(Debug)]
enum Answer {
    Done(Vec<OpResult>),
    Refused { op: Option<usize>, error: String },
    NotSent,
    Unknown,
}
