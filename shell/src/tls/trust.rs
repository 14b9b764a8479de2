//! Whom a client believes: the one authority in a file, and whether plain HTTP may leave the machine.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{VERSIONS, provider, read};
use crate::stall::StallLimit;

/// Flags of a client of the aggregator.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TrustArgs {
    /// The authority (PEM) that signs the aggregator's certificate; the only one that is trusted. https:// needs it. Read
    /// anew for each connection
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// Send reports and the token unencrypted to http:// addresses that are not loopback: only where the network itself
    /// is trusted or encrypts
    #[arg(long)]
    pub allow_plain_http: bool,
}

/// Whom a client believes.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    authority: Option<Arc<Authority>>,
    plain_http: bool,
}

impl TrustArgs {
    /// Reads the authority, so that a wrong file stops the start. `servers` are the addresses that the flags go with.
    ///
    /// # Errors
    /// One sentence that names the flag.
    pub fn open(&self, servers: &[String]) -> anyhow::Result<Trust> {
        if self.tls_ca.is_some() && !servers.iter().any(|it| it.starts_with("https://")) {
            bail!("--tls-ca is for https:// addresses, and there is none");
        }
        let authority = self.tls_ca.clone().map(Authority::open).transpose().context("--tls-ca")?;
        Ok(Trust { authority: authority.map(Arc::new), plain_http: self.allow_plain_http })
    }
}

impl Trust {
    /// The authority for a server at `host`, `None` for plain HTTP.
    ///
    /// # Errors
    /// One sentence on which flag is missing.
    pub(crate) fn judge(&self, https: bool, host: &str) -> anyhow::Result<Option<Arc<Authority>>> {
        match (&self.authority, https) {
            (Some(authority), true) => Ok(Some(Arc::clone(authority))),
            (None, true) => bail!("https needs --tls-ca, the authority that signs the server's certificate"),
            (_, false) if self.plain_http || is_loopback(host) => Ok(None),
            (_, false) => {
                bail!(
                    "plain http would send the token unencrypted: use https, or allow it by --allow-plain-http"
                )
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// Why a server is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Distrust {
    /// Signed by nobody that we trust.
    #[error("the server's certificate is not signed by the authority in --tls-ca")]
    UnknownAuthority,
    /// Its certificate's time is over, or our clock is wrong.
    #[error("the server's certificate has expired")]
    Expired,
    /// Its certificate's time has not come, or our clock is wrong.
    #[error("the server's certificate is not valid yet")]
    NotYetValid,
    /// Its certificate is for others.
    #[error("the server's certificate is for another name than the address's host")]
    OtherName,
    /// It answers in something else.
    #[error("the server speaks no TLS on this port")]
    NoTls,
    /// Our own file can't be read.
    #[error("the file of --tls-ca can't be used")]
    Authority,
    /// Anything else; the debug log says what.
    #[error("the TLS handshake failed")]
    Handshake,
}

/// The authority in a file.
pub struct Authority {
    path: PathBuf,
    known: Mutex<(Vec<u8>, TlsConnector)>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authority").field(&self.path).finish()
    }
}

impl Authority {
    /// Reads a PEM file with one certificate or, while an authority is replaced, several.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub fn open(path: PathBuf) -> anyhow::Result<Self> {
        let bytes = read(&path)?;
        let connector = connector(&bytes).with_context(|| path.display().to_string())?;
        Ok(Self { path, known: Mutex::new((bytes, connector)) })
    }

    /// Shakes hands with the server at `host`.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: StallLimit<TcpStream>,
    ) -> Result<TlsStream<StallLimit<TcpStream>>, Distrust> {
        let connector = self.connector().map_err(|error| {
            tracing::debug!("{error:#}");
            Distrust::Authority
        })?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| Distrust::OtherName)?;
        connector.connect(name, stream).await.map_err(|error| {
            tracing::debug!(host, %error, "no TLS");
            distrust(&error)
        })
    }

    /// As the file is now: authorities are replaced too.
    fn connector(&self) -> anyhow::Result<TlsConnector> {
        let bytes = read(&self.path)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != bytes {
            *known = (bytes.clone(), connector(&bytes).with_context(|| self.path.display().to_string())?);
        }
        Ok(known.1.clone())
    }
}

fn connector(pem: &[u8]) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots
            .add(certificate.context("it is no PEM")?)
            .context("it holds something else than certificates")?;
    }
    if roots.is_empty() {
        bail!("it holds no certificate");
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each connection looks at the certificate anew.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn distrust(error: &std::io::Error) -> Distrust {
    use CertificateError as Bad;
    let Some(error) = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) else {
        return Distrust::Handshake;
    };
    match error {
        // An authority that was made anew under its old name shows as a bad signature.
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            Distrust::UnknownAuthority
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Distrust::Expired,
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            Distrust::NotYetValid
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Distrust::OtherName
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Distrust::NoTls,
        _ => Distrust::Handshake,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_leaves_the_machine_only_when_it_is_allowed() {
        let trust = |plain_http| Trust { authority: None, plain_http };
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(trust(false).judge(false, host).unwrap().is_none(), "{host}");
        }
        // A name that only looks like it.
        for host in ["localhost.example.org", "127.0.0.1.example.org", "10.0.0.1", "aggregator"] {
            let refused = trust(false).judge(false, host).unwrap_err().to_string();
            assert!(refused.contains("--allow-plain-http"), "{host}: {refused}");
            assert!(trust(true).judge(false, host).unwrap().is_none(), "{host}");
        }
        assert!(trust(true).judge(true, "localhost").unwrap_err().to_string().contains("--tls-ca"));
    }

    #[test]
    fn an_authority_without_an_https_address_stops_the_start() {
        let args = TrustArgs { tls_ca: Some("/nowhere/ca.crt".into()), allow_plain_http: false };
        let error = |server: &str| format!("{:#}", args.open(&[server.to_owned()]).unwrap_err());
        assert!(error("http://127.0.0.1:1").contains("there is none"));
        assert!(error("https://a:1").contains("--tls-ca: can't read /nowhere/ca.crt"));
        let none = connector(b"").err().map(|it| it.to_string());
        assert_eq!(none.as_deref(), Some("it holds no certificate"));
    }
}
