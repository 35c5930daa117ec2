//! Connections to each kind of remote.

use std::fmt::Display;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::error::ConnectionError;
use crate::remote::{Endpoint, Remote};
use crate::session::Options;
use crate::tls::{TlsError, TlsFiles};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects within [`Options::connect_timeout`], TLS handshake included.
pub(crate) async fn connect(
    remote: &Remote,
    options: &Options,
    tls: &mut Option<TlsFiles>,
) -> Result<Box<dyn Stream>, ConnectionError> {
    let limit = options.connect_timeout;
    let deadline = Instant::now() + limit;
    let attempt = async {
        Ok::<Box<dyn Stream>, ConnectionError>(match remote {
            Remote::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(cannot_connect)?),
            Remote::Tcp(endpoint) => Box::new(tcp(endpoint, deadline).await?),
            Remote::Ssl(endpoint) => {
                let files = tls.as_mut().ok_or(TlsError::NotConfigured)?;
                let config = files.config().await?;
                let stream = tcp(endpoint, deadline).await?;
                Box::new(handshake(config, endpoint, stream).await?)
            }
        })
    };
    timeout(limit, attempt).await.unwrap_or(Err(ConnectionError::ConnectTimeout(limit)))
}

/// Tries each address of the host, in the resolver's order. An address that does not answer takes no more
/// than its share of the time that is left.
async fn tcp(endpoint: &Endpoint, deadline: Instant) -> Result<TcpStream, ConnectionError> {
    let Endpoint { host, port } = endpoint;
    let unresolved = |error: &dyn Display| ConnectionError::Resolve(format!("{host}: {error}"));
    let addresses: Vec<_> =
        lookup_host((host.as_str(), *port)).await.map_err(|error| unresolved(&error))?.collect();
    let mut failure = unresolved(&"no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        failure = match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small and waited for.
                stream.set_nodelay(true).map_err(cannot_connect)?;
                return Ok(stream);
            }
            Ok(Err(error)) => cannot_connect(error),
            Err(_) => ConnectionError::ConnectTimeout(share),
        };
    }
    Err(failure)
}

async fn handshake(
    config: Arc<ClientConfig>,
    endpoint: &Endpoint,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectionError> {
    let host = endpoint.host.split('%').next().unwrap_or_default().to_owned();
    let name = ServerName::try_from(host)
        .map_err(|_| ConnectionError::Tls(format!("{:?} cannot be a server's name", endpoint.host)))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(lost)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_connect(error: io::Error) -> ConnectionError {
    ConnectionError::Connect(error.to_string())
}

/// What an error of an established connection means; that of a TLS handshake may come as late as the first
/// read, when it is the server that refuses our certificate.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn lost(error: io::Error) -> ConnectionError {
    // How TLS says that a stream ends where nobody has said goodbye.
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return ConnectionError::ClosedByServer;
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else { return ConnectionError::Io(error.to_string()) };
    ConnectionError::Tls(match tls {
        rustls::Error::InvalidCertificate(reason) => refusal(reason),
        rustls::Error::AlertReceived(alert) => format!("refused by the server: {alert:?}"),
        other => other.to_string(),
    })
}

/// Why the server's certificate is refused.
fn refusal(reason: &CertificateError) -> String {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    let why = match reason {
        UnknownIssuer => "is not signed by our CA",
        Expired | ExpiredContext { .. } => "has expired",
        NotValidYet | NotValidYetContext { .. } => "is not valid yet",
        NotValidForName | NotValidForNameContext { .. } => "does not name this host",
        other => return format!("the server's certificate is refused: {other}"),
    };
    format!("the server's certificate {why}")
}
