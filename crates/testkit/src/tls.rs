//! A certificate authority for one test.

#![allow(clippy::expect_used)] // a failure here is a failed test

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// A certificate authority that nobody trusts but who has [`Authority::pem`].
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[allow(clippy::new_without_default)] // it makes keys
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Authority of a test");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server with a certificate for these host names and addresses.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.issue(names, 4000)
    }

    /// The same with a certificate that has expired.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn expired_server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.issue(names, 2001)
    }

    /// A certificate and its key, in PEM, until the beginning of this year. A name with `://` is a URI.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn pair(&self, names: &[&str], until: i32) -> (String, String) {
        let (certificate, key) = self.signed(names, until);
        (certificate.pem(), key.serialize_pem())
    }

    fn signed(&self, names: &[&str], until: i32) -> (rcgen::Certificate, KeyPair) {
        let (uris, names): (Vec<&str>, Vec<&str>) =
            names.iter().copied().partition(|name| name.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        let uris = uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("a URI")));
        params.subject_alt_names.extend(uris);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    fn issue(&self, names: &[&str], until: i32) -> Arc<ServerConfig> {
        let (certificate, key) = self.signed(names, until);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        Arc::new(config)
    }
}
