//! A server's certificate and key, read from files that may be renewed under it, and the meeting with each client.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{VERSIONS, provider, read};
use crate::http::{Parts, Request, Response, StatusCode, text};
use crate::server::Handler;
use crate::stall::StallLimit;

/// Shortest time between two looks at the files: reading two small files so often costs nothing that counts, and a
/// renewed certificate is due weeks before the old one ends.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for a client's part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How every TLS record of a handshake begins; no HTTP method does.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What a server shows its clients. New connections get what the files hold then; old ones go on undisturbed.
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
    failed: AtomicU64,
}

struct Current {
    looked: Instant,
    files: Files,
    acceptor: TlsAcceptor,
    /// Why the files as they are now are not used.
    complaint: Option<String>,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// How a client introduced itself.
pub(crate) enum Met {
    Tls(Box<TlsStream<StallLimit<TcpStream>>>),
    /// It speaks plain HTTP, or something else.
    Plain(StallLimit<TcpStream>),
    /// The handshake came to nothing.
    Nobody,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads PEM files: a chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    /// One sentence that names the file: it can't be read, holds nothing of its kind, or the two don't belong together.
    pub fn open(certificate: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let files = Files { certificate: read(&certificate)?, key: read(&key)? };
        let acceptor =
            acceptor(&files).with_context(|| format!("{} and {}", certificate.display(), key.display()))?;
        let current = Mutex::new(Current { looked: Instant::now(), files, acceptor, complaint: None });
        Ok(Self { certificate, key, current, failed: AtomicU64::new(0) })
    }

    pub(crate) async fn meet(&self, stream: StallLimit<TcpStream>) -> Met {
        match tokio::time::timeout(HANDSHAKE, self.shake_hands(stream)).await {
            Ok(Ok(met)) => met,
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed("no handshake in time"),
        }
    }

    async fn shake_hands(&self, stream: StallLimit<TcpStream>) -> std::io::Result<Met> {
        let mut first = [0];
        match stream.get_ref().peek(&mut first).await? {
            // A look whether anyone listens, as a tcpSocket probe takes it.
            0 => Ok(Met::Nobody),
            _ if first[0] != HANDSHAKE_RECORD => Ok(Met::Plain(stream)),
            _ => Ok(Met::Tls(Box::new(self.acceptor().accept(stream).await?))),
        }
    }

    fn failed(&self, why: &str) -> Met {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        // The agents' logs say what is wrong for each; one that does not trust us tries for ever.
        if failed.is_power_of_two() {
            tracing::warn!(failed, "a client ended the TLS handshake: {why}");
        }
        Met::Nobody
    }

    /// For the next connection.
    fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            self.look(&mut current);
        }
        current.acceptor.clone()
    }

    /// Takes what the files hold now, if it is whole: one of the two may have been written and the other not yet.
    fn look(&self, current: &mut Current) {
        let renewed = || {
            let files = Files { certificate: read(&self.certificate)?, key: read(&self.key)? };
            let acceptor = if files == current.files { None } else { Some(acceptor(&files)?) };
            anyhow::Ok(acceptor.map(|it| (files, it)))
        };
        match renewed() {
            Ok(None) => current.complaint = None,
            Ok(Some((files, acceptor))) => {
                tracing::info!(certificate = %self.certificate.display(), "new connections get the renewed certificate");
                current.files = files;
                current.acceptor = acceptor;
                current.complaint = None;
            }
            Err(error) => {
                let complaint = format!("{error:#}");
                // Once: it would be once a second.
                if current.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(
                        certificate = %self.certificate.display(),
                        "the renewed certificate can't be used, keeping the old one: {complaint}"
                    );
                    current.complaint = Some(complaint);
                }
            }
        }
    }
}

fn acceptor(files: &Files) -> anyhow::Result<TlsAcceptor> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<_, _>>()
        .context("the certificate is no PEM")?;
    if chain.is_empty() {
        bail!("the certificate's file holds no certificate");
    }
    let key = PrivateKeyDer::from_pem_slice(&files.key).context("the key's file holds no private key")?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key can't be used together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Connections are kept for hours; a memory of sessions would let clients in on a certificate that is gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers everything that comes in plain on a port with TLS.
pub(crate) struct TlsOnly;

impl TlsOnly {
    fn refusal() -> Response {
        text(StatusCode::BAD_REQUEST, "this port speaks TLS: use https://")
    }
}

impl Handler for TlsOnly {
    fn admit(&self, _: &Parts) -> Result<(), Response> {
        Err(Self::refusal())
    }

    async fn handle(&self, _: Request) -> Response {
        Self::refusal()
    }
}
