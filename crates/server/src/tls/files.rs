//! The files, and what was last made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use foundry_core::{Clock, Error};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::server;
use crate::telemetry::Metrics;

/// Time between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Where certificate, key and trusted authorities are, in PEM.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: Option<PathBuf>,
}

/// What the files hold.
#[derive(Clone)]
pub(super) struct Held {
    own: Arc<CertifiedKey>,
    /// The authorities that certificates of others come from.
    pub(super) trusted: Arc<RootCertStore>,
    /// The file of the own certificate, for errors.
    pub(super) certificate: PathBuf,
}

impl Held {
    /// Shows the own certificate.
    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.own)))
    }

    /// The own certificate.
    pub(super) fn end_entity(&self) -> Result<&CertificateDer<'_>, Error> {
        self.own.end_entity_cert().map_err(|e| unusable(&self.certificate, &e.to_string()))
    }
}

/// What is in use.
#[derive(Clone)]
pub(super) struct InUse {
    pub(super) server: Arc<ServerConfig>,
    pub(super) held: Held,
}

/// The bytes of the files, as read at one time.
struct Read {
    certificate: Vec<u8>,
    key: String,
    ca: Option<Vec<u8>>,
}

impl Read {
    async fn of(files: &Files) -> Result<Self, Error> {
        let files = files.clone();
        let read = move || -> Result<Self, Error> {
            let bytes = |path: &Path| std::fs::read(path).map_err(|e| unusable(path, &e.to_string()));
            let key = foundry_secrets::read_secret_file(&files.key)
                .map_err(|e| e.next_action("make it readable for its owner alone: mode 600"))?
                .ok_or_else(|| unusable(&files.key, "it does not exist"))?;
            let ca = files.ca.as_deref().map(bytes).transpose()?;
            Ok(Self { certificate: bytes(&files.certificate)?, key, ca })
        };
        tokio::task::spawn_blocking(read).await.map_err(Error::internal)?
    }

    fn mark(&self) -> [u8; 32] {
        let parts = [&self.certificate[..], self.key.as_bytes(), self.ca.as_deref().unwrap_or_default()];
        let hash = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(Sha256::digest(part)));
        hash.finalize().into()
    }

    fn parse(&self, files: &Files) -> Result<Held, Error> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|_| unusable(&files.key, "it has no private key in PEM"))?;
        let own = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                unusable(&files.certificate, "it is not the certificate of the configured key")
            }
            e @ rustls::Error::InvalidCertificate(_) => unusable(&files.certificate, &e.to_string()),
            other => unusable(&files.key, &other.to_string()),
        })?;
        let mut trusted = RootCertStore::empty();
        if let (Some(path), Some(bytes)) = (&files.ca, &self.ca) {
            for certificate in certificates(path, bytes)? {
                trusted.add(certificate).map_err(|e| unusable(path, &e.to_string()))?;
            }
        }
        let (own, trusted, certificate) = (Arc::new(own), Arc::new(trusted), files.certificate.clone());
        Ok(Held { own, trusted, certificate })
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(path, "it has no certificate in PEM, or a broken one")),
    }
}

/// The error for a file that cannot be used.
pub(super) fn unusable(path: &Path, why: &str) -> Error {
    let name = path.display().to_string();
    Error::precondition("TLS_FILES_UNUSABLE", &name, format!("{name} cannot be used: {why}"))
        .next_action("put a certificate and its key there, in PEM")
}

/// The files, and what is in use of them.
pub(super) struct Watched {
    files: Files,
    service: Option<&'static str>,
    current: ArcSwap<InUse>,
    /// What the last look found, by a hash: of the content, or of the failure.
    seen: Mutex<[u8; 32]>,
}

impl Watched {
    pub(super) async fn load(files: Files, service: Option<&'static str>) -> Result<Self, Error> {
        let read = Read::of(&files).await?;
        let current = ArcSwap::from_pointee(in_use(&read, &files, service)?);
        Ok(Self { seen: Mutex::new(read.mark()), files, service, current })
    }

    pub(super) fn current(&self) -> InUse {
        InUse::clone(&self.current.load())
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) async fn reload(&self) -> Result<bool, Error> {
        match self.look().await {
            Look::Same => Ok(false),
            Look::New => Ok(true),
            Look::Unusable { error, .. } => Err(error),
        }
    }

    async fn look(&self) -> Look {
        let mut seen = self.seen.lock().await;
        let found = Read::of(&self.files).await;
        let mark = match &found {
            Ok(read) => read.mark(),
            Err(error) => Sha256::digest(error.to_string()).into(),
        };
        let is_new = std::mem::replace(&mut *seen, mark) != mark;
        let made = found.and_then(|read| {
            if is_new { in_use(&read, &self.files, self.service).map(Some) } else { Ok(None) }
        });
        match made {
            Ok(Some(made)) => {
                self.current.store(Arc::new(made));
                Look::New
            }
            Ok(None) => Look::Same,
            Err(error) => Look::Unusable { error, is_new },
        }
    }

    pub(super) async fn keep(&self, name: &'static str, clock: &dyn Clock, metrics: &Metrics) {
        let mut is_unusable = false;
        loop {
            clock.sleep(INTERVAL).await;
            let unusable_now = match self.look().await {
                // What was unusable and has not changed still is.
                Look::Same => is_unusable,
                Look::New => {
                    tracing::info!(service = name, files = ?self.files, "new certificates are in use");
                    metrics.tls_reloaded(name);
                    false
                }
                Look::Unusable { error, is_new } => {
                    if is_new {
                        tracing::error!(service = name, %error, "new certificates cannot be used; the old ones stay");
                    }
                    true
                }
            };
            if unusable_now != is_unusable {
                metrics.tls_unusable_changed(name, if unusable_now { 1 } else { -1 });
                is_unusable = unusable_now;
            }
        }
    }
}

/// What a look at the files found.
enum Look {
    Same,
    New,
    Unusable { error: Error, is_new: bool },
}

fn in_use(read: &Read, files: &Files, service: Option<&'static str>) -> Result<InUse, Error> {
    let held = read.parse(files)?;
    Ok(InUse { server: Arc::new(server(&held, service)?), held })
}
