//! Certificates made by openssl in a directory of their own.

use std::fs;
use std::path::{Path, PathBuf};

use ovsdb_rs::Tls;
use tempfile::TempDir;

use crate::fixture::run;

/// A CA and what it signs. Files are named after what they are for: `NAME.pem` and `NAME.key`.
pub(crate) struct Certificates {
    dir: TempDir,
}

/// Extensions of a certificate of X.509 version 3 as ovs-pki makes them, without a name of any host.
pub(crate) const PLAIN: &str = "basicConstraints=CA:FALSE";

impl Certificates {
    /// With the CA `ca` and, signed by it, `server` and `client`.
    pub(crate) fn new() -> Self {
        let certificates = Self { dir: tempfile::tempdir().unwrap() };
        certificates.authority("ca");
        certificates.sign("server", "ca", Some(PLAIN), 365);
        certificates.sign("client", "ca", Some(PLAIN), 365);
        certificates
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A self-signed certificate that may sign others.
    pub(crate) fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
             -subj /O=limosa/CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }

    /// A certificate with these extensions; of X.509 version 1 without any.
    pub(crate) fn sign(&self, name: &str, authority: &str, extensions: Option<&str>, days: i32) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /O=limosa/CN={name} \
             -keyout {name}.key -out {name}.csr"
        ));
        let extfile = extensions.map_or_else(String::new, |extensions| {
            fs::write(self.path("extensions"), extensions).unwrap();
            "-extfile extensions".to_owned()
        });
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -set_serial {} -days {days} \
             {extfile} -out {name}.pem",
            1 + name.len()
        ));
        let version = if extensions.is_some() { "Version: 3" } else { "Version: 1" };
        let text = self.openssl(&format!("x509 -in {name}.pem -noout -text"));
        assert!(text.contains(version), "{text}");
    }

    fn openssl(&self, arguments: &str) -> String {
        let script = format!("cd '{}' && openssl {arguments} 2>&1", self.dir.path().display());
        run("sh", ["-c", &script])
    }

    /// The files of a client: `ca` to trust and `name` to be.
    pub(crate) fn client(&self, ca: &str, name: &str) -> Tls {
        let file = |name: &str, end: &str| self.path(&format!("{name}.{end}"));
        Tls::new(file(ca, "pem"), file(name, "pem"), file(name, "key"))
    }

    /// The options of an ovsdb-server.
    pub(crate) fn server(&self, ca: &str, name: &str) -> Vec<String> {
        vec![
            format!("--ca-cert={}", self.path(&format!("{ca}.pem")).display()),
            format!("--certificate={}", self.path(&format!("{name}.pem")).display()),
            format!("--private-key={}", self.path(&format!("{name}.key")).display()),
        ]
    }

    /// Replaces a file in one step, as `kubelet` and careful scripts do.
    pub(crate) fn replace(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path("new"), contents).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        let read = |path: &Path| fs::read(path).unwrap();
        self.replace(to, read(&self.path(from)));
    }
}
