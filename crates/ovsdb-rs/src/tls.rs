//! The certificates of `ssl:` remotes: read from files, and read again when those change.

mod verifier;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tracing::{info, warn};

use self::verifier::ChainVerifier;

/// The PEM files of an `ssl:` remote, which OVS's programs take as `--ca-cert`, `--certificate` and
/// `--private-key`.
///
/// They are read at each connection, so that rotated files count from the next one on. Files that are broken
/// or do not belong together are reported, and the last good ones stay in use.
///
/// The server's certificate must be signed by a certificate of the CA file, directly or by way of others that
/// the server sends. As in OVS the name in it does not matter, and neither does its age: what `ovs-pki` of any
/// release makes is accepted, X.509 version 1 too. TLS is 1.2 or 1.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    verify_host: bool,
}

/// What is wrong with the files of a [`Tls`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// An `ssl:` remote in a session without certificates.
    #[error("no certificates for an ssl: remote; set the CA, certificate and key files in the options")]
    NotConfigured,
    /// A file that cannot be read.
    #[error("{}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, in the system's words.
        error: String,
    },
    /// A file without usable PEM of the kind that it should hold.
    #[error("{}: no {expected} in PEM: {error}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        error: String,
    },
    /// Certificate and key are not a pair, such as when only one of them was replaced yet.
    #[error("{} is not the key of {}", .key.display(), .certificate.display())]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
}

impl TlsError {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Unreadable { .. } => "unreadable",
            Self::Malformed { .. } => "malformed",
            Self::Mismatch { .. } => "mismatch",
        }
    }
}

impl Tls {
    /// Paths of PEM files: the CA's certificates, our own certificate (others to send along may follow it),
    /// and its private key, not encrypted.
    pub fn new(ca: impl Into<PathBuf>, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { ca: ca.into(), certificate: certificate.into(), key: key.into(), verify_host: false }
    }

    /// Whether the server's certificate must name, as subject alternative name, the host of the remote.
    /// OVS does not ask for that, and few certificates of its deployments would pass.
    #[must_use]
    pub fn verify_host(mut self, verify: bool) -> Self {
        self.verify_host = verify;
        self
    }

    /// The file of the CA's certificates.
    pub fn ca(&self) -> &Path {
        &self.ca
    }
}

/// What was read, to see whether it has changed.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The files of a session and what became of them.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    tls: Tls,
    good: Option<(Contents, Arc<ClientConfig>)>,
    /// Said once, not at every attempt to connect.
    said: Option<TlsError>,
}

impl TlsFiles {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { tls, good: None, said: None }
    }

    /// What a connection made now has to use.
    pub(crate) async fn config(&mut self) -> Result<Arc<ClientConfig>, TlsError> {
        match self.read().await {
            Ok(config) => {
                self.said = None;
                Ok(config)
            }
            Err(error) => {
                let (_, last_good) = self.good.as_ref().ok_or_else(|| error.clone())?;
                if self.said.as_ref() != Some(&error) {
                    warn!(error = error.label(), "{error}; the last good certificates stay in use");
                    self.said = Some(error);
                }
                Ok(Arc::clone(last_good))
            }
        }
    }

    async fn read(&mut self) -> Result<Arc<ClientConfig>, TlsError> {
        let contents = Contents {
            ca: read(&self.tls.ca).await?,
            certificate: read(&self.tls.certificate).await?,
            key: read(&self.tls.key).await?,
        };
        match &self.good {
            Some((known, config)) if *known == contents => return Ok(Arc::clone(config)),
            Some(_) => info!(ca = %self.tls.ca.display(), "the certificates have changed"),
            None => {}
        }
        let config = Arc::new(self.tls.config(&contents)?);
        self.good = Some((contents, Arc::clone(&config)));
        Ok(config)
    }
}

impl Tls {
    fn config(&self, contents: &Contents) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let ca = certificates(&self.ca, &contents.ca)?;
        let verifier = ChainVerifier::new(ca, self.verify_host, provider.signature_verification_algorithms)
            .map_err(|error| malformed(&self.ca, "certificate", &error))?;
        let identity = self.identity(contents, &provider)?;
        // Versions and suites of the provider's own choice: this cannot fail.
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| malformed(&self.ca, "certificate", &error))?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        // Connections are long and few, and each is to be checked against the files of the day.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn identity(&self, contents: &Contents, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let key_malformed = |error: String| malformed(&self.key, "unencrypted private key", &error);
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| key_malformed(describe_pem(&error)))?;
        let key =
            provider.key_provider.load_private_key(key).map_err(|error| key_malformed(error.to_string()))?;
        let of_certificate = chain
            .first()
            .and_then(verifier::public_key)
            .ok_or_else(|| malformed(&self.certificate, "certificate", &"not X.509"))?;
        let of_key = key.public_key();
        if of_key.is_some_and(|public: SubjectPublicKeyInfoDer<'_>| public.as_ref() != of_certificate) {
            return Err(TlsError::Mismatch { key: self.key.clone(), certificate: self.certificate.clone() });
        }
        Ok(CertifiedKey::new(chain, key))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable =
        |error: std::io::Error| TlsError::Unreadable { path: path.to_owned(), error: error.to_string() };
    tokio::fs::read(path).await.map_err(unreadable)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(path, "certificate", &describe_pem(&error)))?;
    if certificates.is_empty() {
        return Err(malformed(path, "certificate", &"nothing found"));
    }
    Ok(certificates)
}

/// The library's own words show the text that they are about, which may be a key.
fn describe_pem(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::NoItemsFound => "nothing found".to_owned(),
        Error::MissingSectionEnd { .. } => "the end is missing".to_owned(),
        _ => "not PEM".to_owned(),
    }
}

fn malformed(path: &Path, expected: &'static str, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Malformed { path: path.to_owned(), expected, error: error.to_string() }
}
