//! kube-apiserver and etcd, as processes of their own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::Client;
use kube::config::Kubeconfig;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};

use super::user;
use crate::holder::{Holder, OUTSIDE, Priority, within};
use crate::lab::programs_present;
use crate::process::LabProcess;
use crate::rundir::RunDir;

/// Set to 1 to test on the cluster that `KUBECONFIG` names instead of on a server of our own.
const TEST_CLUSTER: &str = "LIMOSA_TEST_CLUSTER";

/// Where what was built once is kept, if not in `target/tools`.
const CACHE: &str = "LIMOSA_CACHE";

/// Not of the range from which outgoing connections take theirs: during an outage a client that tries again and again
/// could otherwise get the server's own port, and be connected with itself.
const SERVER_PORT: u16 = 6443;
const ETCD_PORT: u16 = 2379;
const ETCD_PEER_PORT: u16 = 2380;

/// How long the server may take until it serves. Two seconds on an idle machine.
const READY_DEADLINE: Duration = Duration::from_secs(120);
const EXIT_DEADLINE: Duration = Duration::from_secs(15);

/// A Kubernetes API server with RBAC and an empty store, on an address of its own in 127.0.0.0/8. Any number runs side
/// by side; each takes two seconds to start, some 350 MB of memory, and 130 MB for its store, which is in memory, too.
///
/// It ends when this is dropped, and when the process that owns it ends, in whatever way. With `LIMOSA_TEST_CLUSTER=1`
/// it stands for the cluster of `KUBECONFIG`, which should be one for tests and without KubeVirt.
#[derive(Debug)]
pub struct ApiServer {
    /// Where kubeconfig files go.
    dir: PathBuf,
    own: Option<Own>,
    _foreign: Option<TempDir>,
}

/// What there is of a server that is not somebody else's.
#[derive(Debug)]
struct Own {
    server: Mutex<Option<LabProcess>>,
    etcd: LabProcess,
    address: Ipv4Addr,
    program: PathBuf,
    holder: Holder,
    dir: RunDir,
}

impl ApiServer {
    /// Starts one; it serves when this returns.
    ///
    /// # Errors
    ///
    /// When not root, when a program is missing (the text says what to do), or when it does not get ready in time.
    pub async fn launch() -> Result<Self> {
        if std::env::var(TEST_CLUSTER).is_ok_and(|value| value == "1") {
            return Self::foreign();
        }
        let own = Own::launch().await?;
        let dir = own.dir.path().to_owned();
        own.start().await?;
        Ok(Self { dir, own: Some(own), _foreign: None })
    }

    /// One server for all tests of a program, started by whoever is first: each test takes a namespace of its own.
    /// It must not be stopped or paused.
    ///
    /// # Errors
    ///
    /// As [`launch`](Self::launch).
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::launch).await
    }

    fn foreign() -> Result<Self> {
        let found = Kubeconfig::from_env().context("read KUBECONFIG")?;
        let mut file = found.with_context(|| format!("{TEST_CLUSTER} is set, and KUBECONFIG is not"))?;
        // Of all that it may name, what is current.
        let current = file.current_context.clone().context("KUBECONFIG has no current context")?;
        let named = file.contexts.iter().find(|context| context.name == current);
        let context =
            named.and_then(|named| named.context.clone()).context("KUBECONFIG lacks its context")?;
        file.clusters.retain(|cluster| cluster.name == context.cluster);
        file.auth_infos.retain(|user| Some(&user.name) == context.user.as_ref());
        let dir = TempDir::new().context("make a directory")?;
        let text = serde_json::to_string(&file).context("write a kubeconfig")?;
        std::fs::write(dir.path().join(ADMIN), text).context("write a kubeconfig")?;
        Ok(Self { dir: dir.path().to_owned(), own: None, _foreign: Some(dir) })
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().with_context(|| format!("this needs a server of our own: unset {TEST_CLUSTER}"))
    }

    /// Whether this is a server of our own, which can be stopped.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The kubeconfig of an administrator, for `kubectl --kubeconfig`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join(ADMIN)
    }

    /// A kubeconfig for `user`, who may do what RBAC has been told, and nothing else. A service account
    /// (`system:serviceaccount:NAMESPACE:NAME`) is made, and the file has a real token of it; any other user is
    /// impersonated by the administrator.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn kubeconfig_for(&self, user: &str) -> Result<PathBuf> {
        user::kubeconfig_for(&self.dir, &self.kubeconfig(), user).await
    }

    /// An administrator's client. It belongs to the runtime that makes it: a test makes its own.
    ///
    /// # Errors
    ///
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        user::client(&self.kubeconfig()).await
    }

    /// A client of `user`; see [`kubeconfig_for`](Self::kubeconfig_for).
    ///
    /// # Errors
    ///
    /// As [`kubeconfig_for`](Self::kubeconfig_for).
    pub async fn client_as(&self, user: &str) -> Result<Client> {
        user::client(&self.kubeconfig_for(user).await?).await
    }

    /// Takes the server away (SIGKILL, because in good order it waits for open watches, for up to a minute). What is
    /// stored stays. Returns when it is gone: connections are refused from then on.
    ///
    /// # Errors
    ///
    /// When it does not run, or is not ours.
    pub async fn stop(&self) -> Result<()> {
        let own = self.own()?;
        let server = own.server.lock().await.take().context(STOPPED)?;
        server.kill(Signal::KILL)?;
        server.wait_exit(EXIT_DEADLINE).await.map(drop)
    }

    /// Brings it back after [`stop`](Self::stop), at the same address and with the same certificate.
    ///
    /// # Errors
    ///
    /// When it runs already, does not get ready, or is not ours.
    pub async fn start(&self) -> Result<()> {
        self.own()?.start().await
    }

    /// Stops its clock (SIGSTOP): it accepts connections and answers nothing.
    ///
    /// # Errors
    ///
    /// When it does not run, or is not ours.
    pub async fn pause(&self) -> Result<()> {
        self.own()?.server.lock().await.as_ref().context(STOPPED)?.pause().await
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When it does not run, or is not ours.
    pub async fn resume(&self) -> Result<()> {
        self.own()?.server.lock().await.as_ref().context(STOPPED)?.kill(Signal::CONT)
    }
}

const STOPPED: &str = "the API server does not run";

/// The administrator's kubeconfig.
const ADMIN: &str = "admin.kubeconfig";

/// The administrator's password, known to who can read the run directory.
const ADMIN_TOKEN: &str = "lab-admin";

impl Own {
    /// Starts etcd, and arranges everything for the server.
    async fn launch() -> Result<Self> {
        let script = format!(
            "integration/kubernetes/build-apiserver.sh (some 4 minutes, once), or set {TEST_CLUSTER}=1 and KUBECONFIG to \
             use another cluster"
        );
        let program = tool("kube-apiserver", &script)?;
        programs_present(&[("etcd", "etcd-server"), ("nsenter", "util-linux")])?;
        let holder = Holder::start()?;
        let dir = RunDir::create(holder.pid())?;
        let address = free_address()?;
        let client_url = format!("http://{address}:{ETCD_PORT}");
        let peer_url = format!("http://{address}:{ETCD_PEER_PORT}");
        let mut etcd = Command::new("etcd");
        // The holder's own file system in memory: what is written is never waited for, and goes with the holder.
        etcd.args(["--data-dir", "/dev/shm/etcd", "--name", "lab"])
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("lab={peer_url}")]);
        let log = dir.path().join("etcd.log");
        let etcd = LabProcess::spawn(&holder, OUTSIDE, Priority::Ordinary, &etcd, log).await?;
        etcd.wait_log("ready to serve client requests", READY_DEADLINE).await?;
        std::fs::write(dir.path().join(TOKENS), format!("{ADMIN_TOKEN},admin,admin,system:masters\n"))
            .context("write the users")?;
        Ok(Self { server: Mutex::default(), etcd, address, program, holder, dir })
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    async fn start(&self) -> Result<()> {
        let mut running = self.server.lock().await;
        ensure!(running.is_none(), "the API server runs already");
        ensure!(self.etcd.alive(), "etcd has ended: {}", self.etcd.log_tail());
        // It makes a certificate with its first start, in this order; the key signs service accounts' tokens, too.
        let key = self.file("certs/apiserver.key");
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--etcd-servers=http://{}:{ETCD_PORT}", self.address))
            .arg(format!("--bind-address={0}", self.address))
            .arg(format!("--advertise-address={0}", self.address))
            .arg(format!("--secure-port={SERVER_PORT}"))
            .arg("--insecure-port=0")
            .arg(format!("--cert-dir={}", self.file("certs")))
            .arg("--authorization-mode=RBAC")
            .arg(format!("--token-auth-file={}", self.file(TOKENS)))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={key}"))
            .arg(format!("--service-account-signing-key-file={key}"))
            .arg("--service-cluster-ip-range=10.96.0.0/16")
            // Pods do not need a service account, whose token nobody would make for them.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg("--endpoint-reconciler-type=none")
            .arg("--profiling=false");
        let log = self.dir.path().join("kube-apiserver.log");
        let process = LabProcess::spawn(&self.holder, OUTSIDE, Priority::Ordinary, &command, log).await?;
        process.wait_log("Serving securely on", READY_DEADLINE).await?;
        self.write_admin()?;
        let client = user::client(&self.dir.path().join(ADMIN)).await?;
        let ready = async {
            // Nothing announces it. Its own roles are there when it is ready.
            while !is_ready(&client).await {
                ensure!(process.alive(), "it ended");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        within(READY_DEADLINE, "the API server to be ready", ready)
            .await
            .with_context(|| process.log_tail())?;
        *running = Some(process);
        Ok(())
    }

    /// Writes the administrator's kubeconfig, with the certificate that the server made for itself.
    fn write_admin(&self) -> Result<()> {
        let cluster = json!({
            "server": format!("https://{}:{SERVER_PORT}", self.address),
            "certificate-authority": self.file("certs/apiserver.crt"),
        });
        let text = user::kubeconfig(&cluster, &json!({ "token": ADMIN_TOKEN }));
        std::fs::write(self.dir.path().join(ADMIN), text).context("write the administrator's kubeconfig")
    }
}

/// The file of users that are known to the server from its start.
const TOKENS: &str = "tokens.csv";

async fn is_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new());
    match request {
        Ok(request) => client.request_text(request).await.is_ok_and(|answer| answer == "ok"),
        Err(_) => false,
    }
}

/// A program that a script of `integration/kubernetes` has put into the cache.
pub(super) fn tool(name: &str, script: &str) -> Result<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let cache = std::env::var_os(CACHE).map_or(tools, PathBuf::from);
    let program = cache.join("kube").join(name);
    ensure!(program.is_file(), "no {name} at {}: run {script}", program.display());
    program.canonicalize().with_context(|| format!("find {name}"))
}

/// An address in 127.0.0.0/8 on which nobody listens yet.
fn free_address() -> Result<Ipv4Addr> {
    // Taken at once: that somebody else draws the same one meanwhile is all but impossible, and then etcd says so.
    let any = |_| Ipv4Addr::new(127, fastrand::u8(64..128), fastrand::u8(1..255), fastrand::u8(1..255));
    let free = |address: &Ipv4Addr| {
        [SERVER_PORT, ETCD_PORT, ETCD_PEER_PORT]
            .iter()
            .all(|port| TcpListener::bind((*address, *port)).is_ok())
    };
    (0..20).map(any).find(free).context("no free address in 127.0.0.0/8")
}
