//! The Helm chart: what it makes of its values, that a release does its work and goes without a trace, and that nobody may
//! do more than he needs.

mod golden;
mod release;
mod rights;
