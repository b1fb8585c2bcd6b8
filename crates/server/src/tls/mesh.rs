//! Services know each other by certificates of the mesh's own authority: the name is a URI, `spiffe://foundry/<service>`.
//! Names of hosts do not count.

use std::sync::Arc;

use foundry_core::Error;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};

use super::H2;
use super::files::{Held, provider, unusable};

/// What the names of services begin with.
const NAMES: &str = "spiffe://foundry/";

/// The service whose certificate the peer of a connection has shown; in the extensions of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerService(pub Arc<str>);

/// The service of a certificate: the only name in it that is a URI.
pub(crate) fn service_of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_uri_names();
    let name = names.next()?.strip_prefix(NAMES)?;
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    (is_plain && names.next().is_none()).then(|| name.into())
}

/// Admits services of the mesh to the listener of this service.
pub(super) fn verifier_of_clients(held: &Held, own: &str) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let named = service_of(held.end_entity()?);
    if named.as_deref() != Some(own) {
        let is = named.map_or_else(|| "of no service".to_owned(), |name| format!("of the service {name}"));
        let why = format!("it is {is}; the one of this service has the URI {NAMES}{own} and no other");
        return Err(unusable(&held.certificate, &why));
    }
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(&held.trusted), provider())
        .build()
        .map_err(Error::internal)?;
    Ok(Arc::new(Clients(chain)))
}

/// The configuration of a connection to another service.
pub(super) fn client(held: &Held, service: &str) -> Result<ClientConfig, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Server { service: service.into(), trusted: Arc::clone(&held.trusted), algorithms };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(held.resolver());
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Takes certificates of services only, beside what the chain must be.
#[derive(Debug)]
struct Clients(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        service_of(end_entity).ok_or(CertificateError::NotValidForName)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Takes the certificate of one service.
#[derive(Debug)]
struct Server {
    service: Arc<str>,
    trusted: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.trusted, intermediates, now, algorithms)?;
        match service_of(end_entity) {
            Some(service) if service == self.service => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
