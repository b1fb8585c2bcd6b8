//! TLS: certificates from files that are read again while the process runs, for listeners and for calls of other
//! services.

mod connect;
mod files;
mod mesh;

use std::sync::Arc;

use foundry_core::{Clock, Error};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};

pub(crate) use connect::Connector;
pub use connect::https_channel;
use files::{Files, Held, Watched};
pub use mesh::PeerService;
pub(crate) use mesh::service_of;

use crate::config::{MeshTlsFiles, TlsFiles};
use crate::telemetry::Metrics;

const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Certificate and key of a listener or of a service, kept as they are in their files; cloning shares them.
#[derive(Clone)]
pub struct Certificates(Arc<Watched>);

impl Certificates {
    /// Those of a listener for clients outside; none where no files are configured. `section` names the setting in errors.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when only one of the files is configured, `TLS_FILES_UNUSABLE` or `SECRET_FILE_UNUSABLE`.
    pub async fn of_edge(files: &TlsFiles, section: &'static str) -> Result<Option<Self>, Error> {
        let parts = [("certificate", &files.certificate), ("key", &files.key)];
        if !all_or_none(section, &parts)? {
            return Ok(None);
        }
        let files = Files { certificate: files.certificate.clone(), key: files.key.clone(), ca: None };
        Ok(Some(Self(Arc::new(Watched::load(files, None).await?))))
    }

    /// Those of a service, for its listener and for its calls of others; none where no files are configured.
    ///
    /// # Errors
    /// As [`Certificates::of_edge`], and when the certificate is not that of this service.
    pub async fn of_service(
        files: &MeshTlsFiles,
        section: &'static str,
        name: &'static str,
    ) -> Result<Option<Self>, Error> {
        let parts = [("ca", &files.ca), ("certificate", &files.certificate), ("key", &files.key)];
        if !all_or_none(section, &parts)? {
            return Ok(None);
        }
        let ca = Some(files.ca.clone());
        let files = Files { certificate: files.certificate.clone(), key: files.key.clone(), ca };
        Ok(Some(Self(Arc::new(Watched::load(files, Some(name)).await?))))
    }

    /// Looks at the files once, and takes what they hold if it is new and usable. Returns whether it took something.
    ///
    /// # Errors
    /// `TLS_FILES_UNUSABLE` or `SECRET_FILE_UNUSABLE`; what was loaded before stays.
    pub async fn reload(&self) -> Result<bool, Error> {
        self.0.reload().await
    }

    /// Looks at the files until the process stops. What cannot be used is logged once and shown in the metrics.
    pub async fn keep(self, name: &'static str, clock: Arc<dyn Clock>, metrics: Metrics) {
        self.0.keep(name, &*clock, &metrics).await;
    }

    /// For a new connection to the listener.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.0.current().server
    }

    /// For a new connection to the service of this name.
    fn client(&self, service: &str) -> Result<ClientConfig, Error> {
        mesh::client(&self.0.current().held, service)
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificates").field(self.0.files()).finish()
    }
}

/// Whether all files are configured.
fn all_or_none(section: &'static str, parts: &[(&str, &std::path::PathBuf)]) -> Result<bool, Error> {
    let missing = parts.iter().find(|(_, path)| path.as_os_str().is_empty());
    match missing {
        None => Ok(true),
        Some(_) if parts.iter().all(|(_, path)| path.as_os_str().is_empty()) => Ok(false),
        Some((name, _)) => {
            let text = format!("`{section}.{name}` is missing beside the other files of `{section}`");
            Err(Error::invalid_field(section, text))
        }
    }
}

/// The configuration of a listener with what the files hold.
fn server(held: &Held, service: Option<&str>) -> Result<ServerConfig, Error> {
    if let Some(name) = service {
        let verifier = mesh::verifier_of_clients(held, name)?;
        let builder = ServerConfig::builder_with_provider(files::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::internal)?
            .with_client_cert_verifier(verifier);
        let mut config = builder.with_cert_resolver(held.resolver());
        config.alpn_protocols = vec![H2.to_vec()];
        // Each connection shows a certificate that is valid now.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        return Ok(config);
    }
    let builder = ServerConfig::builder_with_provider(files::provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_no_client_auth();
    let mut config = builder.with_cert_resolver(held.resolver());
    config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
    Ok(config)
}
