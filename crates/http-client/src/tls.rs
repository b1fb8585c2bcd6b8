//! TLS: one provider, and the trusted roots.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::ClientError;

/// Trusts the system's roots and those of `ca_file`. A system without any is accepted: then only HTTPS fails.
pub(crate) fn configuration(ca_file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a file of the system's certificates cannot be read");
    }
    let (taken, _unusable) = roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        add(&mut roots, path)?;
    } else if taken == 0 {
        tracing::warn!("the system has no CA certificates: no HTTPS server will be trusted");
    }
    Ok(trusting(roots))
}

/// The certificates that [`configuration`] trusts, in PEM.
pub(crate) fn trusted_pem(ca_file: &Path) -> Result<String, ClientError> {
    add(&mut RootCertStore::empty(), ca_file)?;
    let unreadable = |e: rustls::pki_types::pem::Error| ClientError::CaFile {
        path: ca_file.display().to_string(),
        cause: e.to_string(),
    };
    let own = CertificateDer::pem_file_iter(ca_file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let system = rustls_native_certs::load_native_certs().certs;
    Ok(system.into_iter().chain(own.map_err(unreadable)?).map(|certificate| pem(&certificate)).collect())
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.extend([line, "\n"]);
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

pub(crate) fn trusting_nobody() -> ClientConfig {
    trusting(RootCertStore::empty())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), ClientError> {
    let refuse = |cause: String| ClientError::CaFile { path: path.display().to_string(), cause };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| refuse(e.to_string()))?;
    let mut found = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|e| refuse(e.to_string()))?;
        roots.add(certificate).map_err(|e| refuse(e.to_string()))?;
        found += 1;
    }
    if found == 0 { Err(refuse("it contains no PEM certificate".to_owned())) } else { Ok(()) }
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    #[allow(clippy::expect_used)] // the provider supports the default versions of its own library
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("ring");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_ca_file_is_unusable_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("corp.pem");
        let missing = configuration(Some(&path)).unwrap_err().to_string();
        assert!(missing.contains("corp.pem"), "{missing}");
        std::fs::write(&path, "no certificate at all\n").unwrap();
        let empty = configuration(Some(&path)).unwrap_err().to_string();
        assert!(empty.contains("contains no PEM certificate"), "{empty}");
    }

    #[test]
    fn makes_a_client_for_this_machine_without_reading_certificates() {
        assert!(crate::local_client().build().is_ok());
    }
}
