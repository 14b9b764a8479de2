//! Authorities and servers' certificates for tests, made by openssl with the dates that a test asks for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What `openssl ca` wants to be told; a server's certificate is no authority's (rustls refuses one that is).
const CONFIGURATION: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[ca]
default_ca = own
[own]
new_certs_dir = $ENV::OWN
database = $ENV::OWN/index
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
x509_extensions = server
[any]
commonName = supplied
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectAltName = $ENV::NAMES
";

/// `openssl ca`'s dates: over, running, to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Ended long ago.
    Past,
    /// For as long as any test runs.
    Now,
    /// Begins much later.
    Future,
}

impl When {
    fn dates(self) -> [&'static str; 2] {
        match self {
            Self::Past => ["20010101000000Z", "20020101000000Z"],
            Self::Now => ["20010101000000Z", "20490101000000Z"],
            Self::Future => ["20480101000000Z", "20490101000000Z"],
        }
    }
}

/// An authority in a directory of its own, removed when dropped.
#[derive(Debug)]
pub struct Authority(PathBuf);

impl Authority {
    /// Makes `directory` and the authority in it. All are called alike, so that names alone never tell them apart.
    ///
    /// # Errors
    /// openssl is missing or refuses.
    pub fn new(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let it = Self(directory);
        fs::write(it.0.join("openssl.cnf"), CONFIGURATION)?;
        fs::write(it.0.join("index"), "")?;
        it.new_key(
            "ca",
            &["-x509", "-extensions", "authority", "-days", "7", "-subj", "/CN=authority"],
            "crt",
        )?;
        Ok(it)
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    /// Signs a server's certificate for `names` (openssl's subjectAltName, such as `DNS:a,IP:127.0.0.1`) into
    /// `NAME.crt` and `NAME.key`, both PEM, and gives their paths.
    ///
    /// # Errors
    /// openssl refuses.
    pub fn sign(&self, name: &str, names: &str, when: When) -> Result<(PathBuf, PathBuf)> {
        let file = |ending: &str| format!("{name}.{ending}");
        let [from, until] = when.dates();
        self.new_key(name, &["-subj", "/CN=server"], "csr")?;
        self.openssl_for(
            names,
            &[
                "ca",
                "-batch",
                "-notext",
                "-config",
                "openssl.cnf",
                "-cert",
                "ca.crt",
                "-keyfile",
                "ca.key",
                "-startdate",
                from,
                "-enddate",
                until,
                "-in",
                &file("csr"),
                "-out",
                &file("crt"),
            ],
        )?;
        Ok((self.0.join(file("crt")), self.0.join(file("key"))))
    }

    /// The directory, for files of a test's own.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// A key and what openssl makes of it at once, a request or a certificate, into `NAME.ENDING`.
    fn new_key(&self, name: &str, arguments: &[&str], ending: &str) -> Result<()> {
        let [key, out] = ["key", ending].map(|ending| format!("{name}.{ending}"));
        let files = ["-config", "openssl.cnf", "-keyout", &key, "-out", &out];
        self.openssl_for("DNS:none", &[&NEW_KEY[..], arguments, &files].concat())
    }

    fn openssl_for(&self, names: &str, arguments: &[&str]) -> Result<()> {
        openssl(&self.0, &[("OWN", "."), ("NAMES", names)], arguments)
    }
}

/// The arguments that make a request, or with `-x509` a certificate, for a new key.
pub(crate) const NEW_KEY: [&str; 6] =
    ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];

/// Runs openssl in `directory`.
///
/// # Errors
/// It is missing, or refuses: its own words.
pub(crate) fn openssl(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(arguments).current_dir(directory).envs(environment.iter().copied()).stdin(Stdio::null());
    let output = openssl.output().context("starting openssl")?;
    if !output.status.success() {
        bail!("openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
