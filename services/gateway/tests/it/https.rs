//! The gateway with a certificate of its own: what a browser gets over https.

use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use foundry_gateway::Config;
use foundry_server::config::TlsFiles;
use foundry_testkit::Authority;
use http::Request;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::mesh::{Mesh, Reached, framed};
use crate::plain::{Answer, send_as_it_is, send_over};

const SIGN_IN: &str = "/foundry.auth.v1.AuthService/CompleteSignIn";

fn write(path: &std::path::Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A sign-in of a page at this address, sent over TLS.
async fn sign_in(mesh: &Mesh, authority: &Authority, origin: String) -> Answer {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let stream = TcpStream::connect(mesh.gateway.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    let request = Request::post(SIGN_IN)
        .header("host", mesh.gateway.address.to_string())
        .header("origin", origin)
        .header("content-type", "application/grpc-web+proto")
        .header("sec-fetch-site", "same-origin");
    send_over(stream, request, framed(&[])).await
}

#[tokio::test]
async fn a_session_over_https_is_bound_to_its_host_and_to_https() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.pair(&["127.0.0.1"], 4000);
    let tls = TlsFiles { certificate: dir.path().join("own.pem"), key: dir.path().join("own.key") };
    write(&tls.certificate, &certificate);
    write(&tls.key, &key);
    let mesh = Mesh::start_with(Reached::Locally, Config { tls, ..Config::default() }).await;

    let address = mesh.gateway.address;
    let answer = sign_in(&mesh, &authority, format!("https://{address}")).await;
    let cookie = "__Host-foundry_session=fdc_page; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict; Secure";
    assert_eq!(answer.header("set-cookie"), cookie);
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    // A page over http at the same address is another one.
    let answer = sign_in(&mesh, &authority, format!("http://{address}")).await;
    assert_eq!(answer.header("set-cookie"), "");

    let plain = send_as_it_is(&mesh, Request::get("/").header("host", address.to_string()), "").await;
    assert_eq!(plain.status, http::StatusCode::BAD_REQUEST);
}
