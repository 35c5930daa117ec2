//! A policy that denies by default, as most clouds give their guests one.

mod strays;

use anyhow::Result;

use crate::lab::Lab;
pub use strays::{Arrived, StrayArgs, Strays, run as stray};

/// What a label of an ACL makes the tracker remember of the connection that the
/// guest opens (`ct_label`; ovn-nb(5), ACL).
pub const LABEL: u32 = 0x1234_5678;

/// The guest's ACLs: direction, priority, match, action.
type Acl = (&'static str, &'static str, &'static str, &'static str);

/// What the guest may begin, and what its peers may; the rest is dropped, unless
/// it belongs to what was begun. Orders (`guest/orders.rs`) pass untracked.
const ALLOWED: [Acl; 7] = [
    ("from-lport", "1003", "udp.src == 7778", "allow-stateless"),
    ("to-lport", "1003", "udp.dst == 7778", "allow-stateless"),
    ("from-lport", "1001", "9000 <= udp.dst <= 9999", "allow-related"),
    ("from-lport", "1001", "icmp4.type == 8 || icmp6.type == 128", "allow-related"),
    ("to-lport", "1001", "tcp.dst == 7777", "allow-related"),
    ("to-lport", "1001", "udp.dst == 7777", "allow-related"),
    ("to-lport", "1001", "icmp4.type == 8 || icmp6.type == 128", "allow-related"),
];
const DENIED: [Acl; 2] = [("from-lport", "900", "ip", "drop"), ("to-lport", "900", "ip", "drop")];
/// Connections of this one are labelled.
const LABELLED: Acl = ("from-lport", "1001", "9000 <= tcp.dst <= 9999", "allow-related");

/// Denies everything to and from a port of `ls0`, but what is listed above; returns once every
/// chassis knows.
///
/// # Errors
///
/// What `ovn-nbctl` says.
pub async fn deny_by_default(lab: &Lab, port: &str) -> Result<()> {
    let label = format!("--label={LABEL}");
    add(lab, port, LABELLED, &[&label]).await?;
    for acl in ALLOWED.into_iter().chain(DENIED) {
        add(lab, port, acl, &[]).await?;
    }
    lab.sync().await
}

async fn add(lab: &Lab, port: &str, acl: Acl, options: &[&str]) -> Result<()> {
    let (direction, priority, what, action) = acl;
    let side = if direction == "from-lport" { "inport" } else { "outport" };
    let matched = format!("{side} == \"{port}\" && ({what})");
    let args = ["acl-add", "ls0", direction, priority, &matched, action];
    lab.nbctl(&[options, &args[..]].concat()).await.map(drop)
}
