//! A chassis: a network namespace with an `ovs-vswitchd` (userspace
//! datapath), its database and an `ovn-controller`.
//!
//! ```text
//!   namespace chN                                      namespace fabric
//!   br-int ── v-p1, t-vm1, …                                br0
//!     │ Geneve                                               │
//!   br-phy (10.99.0.N) ── eth0 ═══════ veth ═══════════════ eN
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::daemon::{Daemon, DaemonHandle};
use crate::holder::Holder;
use crate::lab::LabOptions;

/// Seconds that one `ovs-vsctl` and the like may wait for their daemon.
pub(crate) const CTL_TIMEOUT: &str = "--timeout=60";

fn encap_ip(number: usize) -> String {
    format!("10.99.0.{number}")
}

fn encap_mac(number: usize) -> String {
    format!("02:99:00:00:00:{number:02x}")
}

/// A chassis of a lab.
#[derive(Debug)]
pub struct Chassis {
    holder: Arc<Holder>,
    number: usize,
    name: String,
    dir: PathBuf,
}

impl Chassis {
    pub(crate) fn new(holder: &Arc<Holder>, lab: &Path, number: usize) -> Self {
        let name = format!("ch{number}");
        Self { holder: Arc::clone(holder), number, dir: lab.join(&name), name }
    }

    /// Its name, which is that of its namespace, its `system-id` and its
    /// host name: `ch1`, `ch2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of its sockets: `db.sock`, `br-int.mgmt`,
    /// `ovs-vswitchd.ctl`, `ovn-controller.ctl`.
    pub fn ovs_rundir(&self) -> &Path {
        &self.dir
    }

    /// The address of its tunnels' end: `10.99.0.N`.
    pub fn encap_ip(&self) -> String {
        encap_ip(self.number)
    }

    /// The hardware address of its tunnels' end.
    pub fn encap_mac(&self) -> String {
        encap_mac(self.number)
    }

    /// What has to be done each time the switch has started: br-phy is made
    /// anew, and the way to the other tunnels' ends is given by hand. The
    /// userspace datapath could find out by itself, but not without losing
    /// packets that no kernel loses: the first one to each neighbour (OVS,
    /// lib/tnl-neigh-cache.c), and what passes in the 5 ms after a change of
    /// any link, when it reads the system's routes again (lib/route-table.c).
    /// Nor does it check the sequence numbers of TCP connections: the kernel
    /// does not either once it has met one in its middle (lib/conntrack-tcp.c).
    fn underlay(&self, count: usize) -> String {
        let Self { number, name, .. } = self;
        let ctl = self.daemon(Daemon::Vswitchd).ctl();
        let appctl = format!("ovs-appctl {CTL_TIMEOUT} -t {}", ctl.display());
        let others = (1..=count).filter(|other| other != number);
        let neighbours: String = others
            .map(|n| format!("{appctl} tnl/neigh/set br-phy {} {} >/dev/null\n", encap_ip(n), encap_mac(n)))
            .collect();
        format!(
            "ip -n {name} addr replace {}/24 dev br-phy
             ip -n {name} link set br-phy up
             {appctl} dpctl/ct-disable-tcp-seq-chk >/dev/null
             {appctl} ovs/route/add 10.99.0.0/24 br-phy >/dev/null\n{neighbours}",
            self.encap_ip()
        )
    }

    /// One of its daemons.
    pub fn daemon(&self, daemon: Daemon) -> DaemonHandle {
        DaemonHandle::new(&self.holder, &self.name, &self.dir, daemon)
    }

    /// `ovs-vsctl` on its database.
    ///
    /// # Errors
    ///
    /// What `ovs-vsctl` says.
    pub async fn vsctl(&self, args: &[&str]) -> Result<String> {
        let db = format!("--db=unix:{}/db.sock", self.dir.display());
        self.holder.exec(&self.name, &[&["ovs-vsctl", CTL_TIMEOUT, &db], args].concat()).await
    }

    /// `ovs-ofctl -O OpenFlow15 COMMAND br-int ARGS…`, over the bridge's
    /// management socket.
    ///
    /// # Errors
    ///
    /// What `ovs-ofctl` says.
    pub async fn ofctl(&self, command: &str, args: &[&str]) -> Result<String> {
        self.ofctl_on("br-int", &[command], args).await
    }

    async fn ofctl_on(&self, bridge: &str, command: &[&str], args: &[&str]) -> Result<String> {
        let target = format!("unix:{}/{bridge}.mgmt", self.dir.display());
        let argv = [&["ovs-ofctl", CTL_TIMEOUT, "-O", "OpenFlow15"], command, &[&target], args].concat();
        self.holder.exec(&self.name, &argv).await
    }

    /// `ovs-appctl` on one of its daemons.
    ///
    /// # Errors
    ///
    /// What `ovs-appctl` says.
    pub async fn appctl(&self, daemon: Daemon, args: &[&str]) -> Result<String> {
        let ctl = self.daemon(daemon).ctl();
        let argv: Vec<&OsStr> = ["ovs-appctl", CTL_TIMEOUT, "-t"].map(OsStr::new).to_vec();
        let args = args.iter().map(OsStr::new);
        self.holder
            .exec(&self.name, &argv.into_iter().chain([ctl.as_os_str()]).chain(args).collect::<Vec<_>>())
            .await
    }

    /// The flows of br-int, one a line, numbers for names and without
    /// counters, so that two dumps can be compared.
    ///
    /// # Errors
    ///
    /// What `ovs-ofctl` says.
    pub async fn dump_flows(&self) -> Result<Vec<String>> {
        self.dump_flows_of("br-int").await
    }

    /// As [`dump_flows`](Self::dump_flows), of another bridge.
    ///
    /// # Errors
    ///
    /// What `ovs-ofctl` says.
    pub async fn dump_flows_of(&self, bridge: &str) -> Result<Vec<String>> {
        let dump = self.ofctl_on(bridge, &["--no-names", "--no-stats", "dump-flows"], &[]).await?;
        Ok(dump.lines().map(str::trim).filter(|l| l.contains("actions=")).map(str::to_owned).collect())
    }

    /// Makes the namespace and starts the daemons. `sb` is the southbound
    /// remote.
    pub(crate) async fn start(&self, sb: &str, options: &LabOptions) -> Result<()> {
        let Self { number, name, .. } = self;
        let &LabOptions { chassis: count, underlay_mtu: mtu, monitor_all, .. } = options;
        let dir = self.dir.display();
        // Not eth0's own address, or the kernel would take the tunnels' packets
        // for its own as well, and answer that nobody listens. Nor may eth0
        // answer who asks for the address, or some day a peer, whose neighbour
        // has aged, sends the tunnels' packets there (arp_ignore).
        let mac = encap_mac(*number);
        self.holder
            .script(&format!(
                "mkdir -p {dir}
                 ip netns add {name}
                 ip netns exec {name} sysctl -qw net.ipv6.conf.default.disable_ipv6=1 \
                    net.ipv4.conf.all.arp_ignore=1
                 ip link add e{number} netns fabric mtu {mtu} type veth \
                    peer name eth0 netns {name} mtu {mtu}
                 ip -n fabric link set e{number} master br0 up
                 ip -n {name} link set lo up
                 ip -n {name} link set eth0 up
                 ip netns exec {name} ethtool -K eth0 tx off >/dev/null
                 ip netns exec fabric ethtool -K e{number} tx off >/dev/null
                 ovsdb-tool create {dir}/conf.db /usr/share/openvswitch/vswitch.ovsschema"
            ))
            .await?;
        self.daemon(Daemon::OvsDb).start().await?;
        let ip = self.encap_ip();
        let ids = [
            format!("external_ids:system-id={name}"),
            format!("external_ids:hostname={name}"),
            format!("external_ids:ovn-remote=\"{sb}\""),
            "external_ids:ovn-encap-type=geneve".to_owned(),
            format!("external_ids:ovn-encap-ip={ip}"),
            "external_ids:ovn-bridge-datapath-type=netdev".to_owned(),
            // What stands still in a debugger is not to be disconnected.
            "external_ids:ovn-openflow-probe-interval=0".to_owned(),
            format!("external_ids:ovn-monitor-all={monitor_all}"),
            "external_ids:ovn-bridge-mappings=phys:br-phy".to_owned(),
        ];
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.vsctl(&[&["--no-wait", "init", "--", "set", "open", "."], &ids[..]].concat()).await?;
        self.daemon(Daemon::Vswitchd).start().await?;
        let (hwaddr, mtu) = (format!("other_config:hwaddr=\"{mac}\""), format!("mtu_request={mtu}"));
        self.vsctl(
            &[
                &["add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev"],
                &["fail_mode=standalone", &hwaddr, "--", "set", "interface", "br-phy", &mtu][..],
                &["--", "add-port", "br-phy", "eth0"],
            ]
            .concat(),
        )
        .await?;
        let underlay = self.underlay(count);
        self.holder.script(&underlay).await?;
        let switch = self.daemon(Daemon::Vswitchd);
        std::fs::write(switch.after_start(), underlay).context("write a script")?;
        switch.widen_packet_sockets()?;
        self.daemon(Daemon::OvnController).start().await
    }
}
