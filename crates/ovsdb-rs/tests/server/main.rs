//! The client against real `ovsdb-server`s, and against listeners that misbehave as no real one does.

mod conditions;
mod faults;
mod fixture;
mod follows;
mod outage;
mod transactions;
