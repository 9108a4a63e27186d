//! TLS towards clients: our own certificate, and the trusted certificates of clients.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::tls::{TlsError, read_key, read_pem};
use crate::rotating::Rotating;

/// The TLS parts of a server.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// TLS 1.2 and 1.3, HTTP/1.1 only, no resumption of sessions.
    pub config: Arc<ServerConfig>,
    /// Our own certificate.
    pub certificate: CertificateDer<'static>,
    /// Whether every client must have a certificate.
    pub client_certificates: bool,
}

/// The result of [`server_tls`] for these files, read again when one of them changes.
///
/// # Errors
/// As of [`server_tls`].
pub fn rotating_server_tls(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<Rotating<ServerTls>, TlsError> {
    let files = [Some(cert), Some(key), client_ca].into_iter().flatten().map(Path::to_owned);
    let (cert, key) = (cert.to_owned(), key.to_owned());
    let client_ca = client_ca.map(Path::to_owned);
    let what = "certificate of the http service";
    Rotating::new(what, files.collect(), move || server_tls(&cert, &key, client_ca.as_deref()))
}

/// Reads a certificate, with those that lead from it to a root, its key, and the roots of clients'
/// certificates, if clients need one. All are PEM files.
///
/// # Errors
/// A file is not usable, or certificate and key do not match.
pub fn server_tls(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<ServerTls, TlsError> {
    let chain = read_pem(cert)?;
    let certificate =
        chain.first().cloned().ok_or_else(|| TlsError::NoCertificate { path: cert.to_owned() })?;
    let private = read_key(key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::config(&error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in read_pem(path)? {
                roots.add(root).map_err(|error| TlsError::certificate(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| {
                TlsError::Certificate { path: path.to_owned(), reason: error.to_string() }
            })?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|error| TlsError::certificate(cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let client_certificates = client_ca.is_some();
    Ok(ServerTls { config: Arc::new(config), certificate, client_certificates })
}
