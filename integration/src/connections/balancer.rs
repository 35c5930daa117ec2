//! A load balancer of OVN's on the guest's switch.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::lab::Lab;

const ROUTER_MAC: &str = "02:00:00:00:03:01";

/// A router on `ls0` whose MAC address stands for these addresses: a load balancer
/// answers no ARP on a switch.
///
/// # Errors
///
/// What `ovn-nbctl` says.
pub async fn route(lab: &Lab, addresses: &[IpAddr]) -> Result<()> {
    let networks = addresses.iter().map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 24 } else { 64 }));
    let networks: Vec<String> = networks.collect();
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    let router = [&["lrp-add", "lr0", "lr0-ls0", ROUTER_MAC][..], &networks].concat();
    let port = ["lsp-add", "ls0", "ls0-lr0", "--", "lsp-set-type", "ls0-lr0", "router"];
    let joined =
        ["lsp-set-addresses", "ls0-lr0", "router", "--", "lsp-set-options", "ls0-lr0", "router-port=lr0-ls0"];
    let all = [&["lr-add", "lr0"][..], &router, &port, &joined].join(&"--");
    lab.nbctl(&all).await.map(drop)
}

/// Has `ls0` send TCP connections to an address on to one of its backends.
///
/// # Errors
///
/// What `ovn-nbctl` says.
pub async fn balance(lab: &Lab, vip: SocketAddr, backends: &[SocketAddr]) -> Result<()> {
    let (name, vip) = (format!("to-{vip}"), vip.to_string());
    let backends = backends.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let args = ["lb-add", &name, &vip, &backends, "tcp", "--", "ls-lb-add", "ls0", &name];
    lab.nbctl(&args).await.map(drop)
}
