//! Logical switches and ports, and endpoints: namespaces that stand behind a
//! port, as a container does.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::daemon::Daemon;
use crate::holder::Holder;
use crate::lab::Lab;
use crate::worker;

/// A logical switch port.
#[derive(Debug, Clone)]
pub struct LogicalPort {
    /// Its name, which is the interface's `external_ids:iface-id`.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address, without a prefix length; the lab's networks are
    /// /24.
    pub ip: String,
    /// Its IPv6 address, if it has one; these networks are /64. Nobody
    /// advertises a router, and nobody waits for duplicates to be detected.
    pub ip6: Option<String>,
    /// `options:requested-chassis`.
    pub requested_chassis: Option<String>,
    /// Whether OVN lets it send from its own addresses only.
    pub port_security: bool,
}

impl LogicalPort {
    /// A port that any chassis may claim, with port security.
    pub fn new(name: &str, mac: &str, ip: &str) -> Self {
        Self {
            name: name.into(),
            mac: mac.into(),
            ip: ip.into(),
            ip6: None,
            requested_chassis: None,
            port_security: true,
        }
    }

    /// The same, with an IPv6 address as well.
    #[must_use]
    pub fn with_ip6(self, ip6: &str) -> Self {
        Self { ip6: Some(ip6.into()), ..self }
    }
}

/// A namespace joined to a chassis' br-int by a veth, in the place of a
/// container or of a VM.
#[derive(Debug)]
pub struct Endpoint {
    holder: Arc<Holder>,
    /// Its namespace: `PORT-CHASSIS`. Its interface there is `eth0`.
    pub ns: String,
    /// The chassis it stands on.
    pub chassis: String,
    /// The interface on br-int: `v-PORT`.
    pub iface: String,
    /// The logical port.
    pub port: LogicalPort,
}

impl Lab {
    /// Makes a logical switch.
    ///
    /// # Errors
    ///
    /// What `ovn-nbctl` says.
    pub async fn switch(&self, name: &str) -> Result<()> {
        self.nbctl(&["ls-add", name]).await.map(drop)
    }

    /// Makes a logical port on a switch.
    ///
    /// # Errors
    ///
    /// What `ovn-nbctl` says.
    pub async fn port(&self, switch: &str, port: LogicalPort) -> Result<()> {
        let LogicalPort { name, mac, ip, ip6, .. } = &port;
        let addresses = [mac, ip].into_iter().chain(ip6).map(String::as_str).collect::<Vec<_>>().join(" ");
        let mut args = vec!["lsp-add", switch, name, "--", "lsp-set-addresses", name, &addresses];
        if port.port_security {
            args.extend(["--", "lsp-set-port-security", name, &addresses]);
        }
        let pin = port.requested_chassis.as_ref().map(|ch| format!("requested-chassis={ch}"));
        if let Some(pin) = &pin {
            args.extend(["--", "lsp-set-options", name, pin]);
        }
        self.nbctl(&args).await?;
        if let Ok(mut ports) = self.ports.lock() {
            ports.insert(port.name.clone(), port);
        }
        Ok(())
    }

    /// Logical switch `ls0` with a peer on every chassis: endpoint `pN` on
    /// `chN`, at 192.168.7.(20+N).
    ///
    /// # Errors
    ///
    /// When a peer does not come up.
    pub async fn peers(&self) -> Result<()> {
        self.switch("ls0").await?;
        for (chassis, n) in self.all_chassis().iter().zip(1..) {
            let (name, mac) = (format!("p{n}"), format!("02:00:00:00:02:{n:02x}"));
            self.port("ls0", LogicalPort::new(&name, &mac, &format!("192.168.7.{}", 20 + n))).await?;
            self.endpoint(chassis.name(), &name).await?;
        }
        Ok(())
    }

    /// What [`port`](Self::port) made.
    pub(crate) fn known_port(&self, name: &str) -> Result<LogicalPort> {
        let ports = self.ports.lock().map_err(|_| anyhow::anyhow!("a poisoned lock"))?;
        ports.get(name).cloned().with_context(|| format!("no port {name}: make it with Lab::port first"))
    }

    /// An endpoint behind a port, once OVN has bound it and every chassis
    /// knows.
    ///
    /// # Errors
    ///
    /// When the port is unknown, or does not come up within a minute.
    pub async fn endpoint(&self, chassis: &str, port: &str) -> Result<Endpoint> {
        let endpoint = self.endpoint_unbound(chassis, port).await?;
        self.nbctl(&["wait-until", "Logical_Switch_Port", port, "up=true"]).await?;
        self.sync().await?;
        Ok(endpoint)
    }

    /// An endpoint that is plugged, whether or not OVN binds the port here:
    /// the second copy of one that moves.
    ///
    /// # Errors
    ///
    /// When the port is unknown or cannot be plugged.
    pub async fn endpoint_unbound(&self, chassis: &str, port: &str) -> Result<Endpoint> {
        let port = self.known_port(port)?;
        let LogicalPort { name, mac, ip, ip6, .. } = &port;
        let ip6 = ip6.as_ref().map_or_else(String::new, |ip6| {
            format!(
                "for setting in disable_ipv6 accept_dad accept_ra router_solicitations; do
                     ip netns exec $ns sysctl -qw net.ipv6.conf.eth0.$setting=0
                 done
                 ip -n $ns addr add {ip6}/64 dev eth0"
            )
        });
        let (ns, iface) = (format!("{name}-{chassis}"), format!("v-{name}"));
        self.holder
            .script(&format!(
                "ns={ns}
                 ip netns add {ns}
                 ip netns exec {ns} sysctl -qw net.ipv6.conf.default.disable_ipv6=1
                 ip link add {iface} netns {chassis} type veth peer name eth0 netns {ns} address {mac}
                 ip netns exec {ns} ethtool -K eth0 tx off >/dev/null
                 ip -n {ns} link set lo up
                 ip -n {ns} addr add {ip}/24 dev eth0
                 {ip6}
                 ip -n {ns} link set eth0 up
                 ip -n {chassis} link set {iface} up"
            ))
            .await?;
        self.plug(chassis, &iface, name).await?;
        Ok(Endpoint { holder: Arc::clone(&self.holder), ns, chassis: chassis.to_owned(), iface, port })
    }

    /// Adds an interface to br-int, as the interface of a logical port.
    ///
    /// # Errors
    ///
    /// What `ovs-vsctl` says.
    pub async fn plug(&self, chassis: &str, iface: &str, port: &str) -> Result<()> {
        let id = format!("external_ids:iface-id={port}");
        self.vsctl(chassis, &["add-port", "br-int", iface, "--", "set", "interface", iface, &id]).await?;
        self.daemon(chassis, Daemon::Vswitchd).widen_packet_sockets()
    }

    /// Takes an interface from br-int.
    ///
    /// # Errors
    ///
    /// What `ovs-vsctl` says.
    pub async fn unplug(&self, chassis: &str, iface: &str) -> Result<()> {
        self.vsctl(chassis, &["--if-exists", "del-port", "br-int", iface]).await.map(drop)
    }

    /// Sends the RARP that QEMU sends for a guest it resumes, from `eth0` of
    /// a namespace.
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub async fn send_rarp(&self, ns: &str, mac: &str) -> Result<()> {
        let program = worker::binary()?;
        let argv = [
            program.as_os_str().to_str().context("a strange path")?,
            "rarp",
            "--iface",
            "eth0",
            "--mac",
            mac,
        ];
        self.exec_in(ns, &argv).await.map(drop)
    }

    /// The options of a logical port in the northbound database and its
    /// external_ids, as `ovn-nbctl` prints them.
    ///
    /// # Errors
    ///
    /// What `ovn-nbctl` says.
    pub async fn port_options(&self, port: &str) -> Result<String> {
        Ok(self
            .nbctl(&["get", "Logical_Switch_Port", port, "options", "external_ids"])
            .await?
            .trim()
            .to_owned())
    }

    /// The chassis that a port is bound to in the southbound database.
    ///
    /// # Errors
    ///
    /// What `ovn-sbctl` says.
    pub async fn bound_to(&self, port: &str) -> Result<Option<String>> {
        let find = ["--bare", "--columns=chassis", "find", "Port_Binding"];
        let uuid = self.sbctl(&[&find[..], &[&format!("logical_port={port}")]].concat()).await?;
        if uuid.trim().is_empty() {
            return Ok(None);
        }
        let name = self.sbctl(&["--bare", "--columns=name", "list", "Chassis", uuid.trim()]).await?;
        Ok(Some(name.trim().to_owned()))
    }
}

impl Endpoint {
    /// Takes it away: the port on br-int, the veth and the namespace.
    ///
    /// # Errors
    ///
    /// What `ovs-vsctl` or `ip` say.
    pub async fn remove(self, lab: &Lab) -> Result<()> {
        lab.unplug(&self.chassis, &self.iface).await?;
        let (chassis, iface, ns) = (&self.chassis, &self.iface, &self.ns);
        self.holder.script(&format!("ip -n {chassis} link del {iface}; ip netns del {ns}")).await.map(drop)
    }
}
