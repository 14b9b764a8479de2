//! TLS 1.3 by rustls with ring: the server's certificate, which may be renewed, and the one authority that a client trusts.

mod identity;
mod trust;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::crypto::CryptoProvider;

pub use identity::Identity;
pub(crate) use identity::{Met, TlsOnly};
pub use trust::{Authority, Distrust, Trust, TrustArgs};

/// A chain is a few KiB, a bundle of authorities some tens; 256 KiB bounds what a wrong path can make us read.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Both sides are ours and new, and so are kubelets and Prometheus: nothing older is spoken.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The ciphers that kube uses too: named, since a build with two providers would have no default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("can't read {shown}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("can't read {shown}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{shown} is larger than {MAX_FILE_BYTES} bytes");
    }
    Ok(bytes)
}
