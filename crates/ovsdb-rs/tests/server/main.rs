//! The client against real `ovsdb-server`s, and against listeners that misbehave as no real one does.

mod certificates;
mod cluster;
mod conditions;
mod exactly_once;
mod fallback;
mod faults;
mod fixture;
mod follows;
mod large;
mod leaders;
mod link;
mod locks;
mod once;
mod outage;
mod proxy;
mod releases;
mod tls;
mod transactions;
