//! Keys and certificates of one cluster, made by openssl: one authority, one certificate for each program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layout::{FIRST_SERVICE, Layout};
use crate::certificates::{NEW_KEY, openssl};

/// A cluster of tests lives for minutes.
const DAYS: &str = "7";
/// Go and rustls both refuse an authority's certificate where a program's is due, so each says what it is.
const SECTIONS: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, digitalSignature
subjectKeyIdentifier = hash
[program]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
authorityKeyIdentifier = keyid
";

/// The key and certificate files of one name.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM.
    pub key: PathBuf,
    /// PEM.
    pub certificate: PathBuf,
}

/// The directory of all of them.
#[derive(Clone, Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// Those of `layout`'s cluster.
    pub fn of(layout: &Layout) -> Self {
        Self(layout.file("pki"))
    }

    /// The files of `name`: `authority`, `apiserver`, `admin`, `service-accounts`, a node's name, …
    pub fn pair(&self, name: &str) -> Pair {
        let [key, certificate] = files(name).map(|file| self.0.join(file));
        Pair { key, certificate }
    }

    /// Makes them all.
    ///
    /// # Errors
    /// openssl is missing or refuses.
    pub fn make(&self, layout: &Layout) -> Result<()> {
        fs::create_dir(&self.0).with_context(|| format!("making {}", self.0.display()))?;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))?;
        fs::write(self.0.join("openssl.cnf"), SECTIONS)?;
        self.sign("authority", "/CN=prescale-tests", None, &[])?;
        // Its public half checks the tokens of ServiceAccounts.
        self.sign("service-accounts", "/CN=service-accounts", None, &[])?;
        let control = layout.node(1).address();
        let names = format!(
            "subjectAltName=IP:127.0.0.1,IP:{control},IP:{FIRST_SERVICE},DNS:localhost,DNS:kubernetes,\
             DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
        );
        let authority = Some("authority");
        self.sign("apiserver", "/CN=kube-apiserver", authority, &["-addext", &names])?;
        for (name, subject) in [
            ("admin", "/O=system:masters/CN=admin"),
            ("apiserver-kubelet", "/O=system:masters/CN=apiserver"),
            ("front-proxy", "/CN=front-proxy"),
            ("controller-manager", "/CN=system:kube-controller-manager"),
            ("scheduler", "/CN=system:kube-scheduler"),
            ("proxy", "/CN=system:kube-proxy"),
        ] {
            self.sign(name, subject, authority, &[])?;
        }
        for node in layout.nodes() {
            let name = node.name();
            // The same for the kubelet as a client and as a server.
            let names = format!("subjectAltName=IP:{},DNS:{name}", node.address());
            let subject = format!("/O=system:nodes/CN=system:node:{name}");
            self.sign(&name, &subject, authority, &["-addext", &names])?;
        }
        Ok(())
    }

    fn sign(&self, name: &str, subject: &str, authority: Option<&str>, more: &[&str]) -> Result<()> {
        let [key, certificate] = files(name);
        let section = if authority.is_some() { "program" } else { "authority" };
        let mut arguments = NEW_KEY.to_vec();
        arguments.extend([
            "-x509",
            "-config",
            "openssl.cnf",
            "-days",
            DAYS,
            "-subj",
            subject,
            "-extensions",
            section,
        ]);
        let signer = authority.map(files);
        if let Some([key, certificate]) = &signer {
            arguments.extend(["-CA", certificate, "-CAkey", key]);
        }
        arguments.extend(["-keyout", &key, "-out", &certificate]);
        arguments.extend(more);
        openssl(&self.0, &[], &arguments)
    }
}

fn files(name: &str) -> [String; 2] {
    ["key", "crt"].map(|ending| format!("{name}.{ending}"))
}

/// A kubeconfig for `pair`.
pub fn kubeconfig(server: &str, authority: &Path, pair: &Pair) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: tests\n\
         clusters: [{{name: tests, cluster: {{server: '{server}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: tests, user: {{client-certificate: '{}', client-key: '{}'}}}}]\n\
         contexts: [{{name: tests, context: {{cluster: tests, user: tests}}}}]\n",
        authority.display(),
        pair.certificate.display(),
        pair.key.display()
    )
}
