//! Listeners over TLS, and services that prove to each other who they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Tasks;
use foundry_server::config::{Limits, MeshTlsFiles, TlsFiles};
use foundry_server::testing::TestServer;
use foundry_server::{Certificates, Metrics, Upstream, https_channel};
use foundry_testkit::{Authority, TestEnv, test_env};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::support::{Probe, bounded, client, get, limits, prompt_drain, refused, watch};

const LATER: i32 = 4000;
const PAST: i32 = 2001;

/// A directory with the files of one party.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a pair as an operator would: each file at once.
    fn put(&self, (certificate, key): &(String, String)) {
        replace(&self.at("own.pem"), certificate, 0o644);
        replace(&self.at("own.key"), key, 0o600);
    }

    fn edge(&self) -> TlsFiles {
        TlsFiles { certificate: self.at("own.pem"), key: self.at("own.key") }
    }

    fn mesh(&self, authority: &Authority) -> MeshTlsFiles {
        replace(&self.at("ca.pem"), authority.pem(), 0o644);
        MeshTlsFiles { ca: self.at("ca.pem"), certificate: self.at("own.pem"), key: self.at("own.key") }
    }
}

fn replace(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A server at `localhost` with a certificate of this authority, and what it reads it from.
async fn edge(authority: &Authority, change: impl FnOnce(&mut Limits)) -> (TestServer, Certificates, Dir) {
    let dir = Dir::new();
    dir.put(&authority.pair(&["localhost"], LATER));
    let certificates = Certificates::of_edge(&dir.edge(), "gateway.tls").await.unwrap().unwrap();
    let service = Probe::default().service().over_tls(Some(certificates.clone()));
    let server = TestServer::start_with(service, limits(change), prompt_drain()).await.unwrap();
    (server, certificates, dir)
}

fn trusting(authority: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

fn over_https(server: &TestServer, authority: &Authority) -> Upstream {
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", server.address.port())).unwrap();
    Upstream::from_service(https_channel(&endpoint, trusting(authority)))
}

async fn dial(
    server: &TestServer,
    authority: &Authority,
    protocols: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = trusting(authority);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    bounded(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// What the server sends until it closes the connection.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = bounded(stream.read_to_end(&mut said)).await;
    said
}

#[tokio::test]
async fn calls_and_streams_go_over_tls_and_browsers_get_http_1() {
    let authority = Authority::new();
    let (server, _, _dir) = edge(&authority, |_| {}).await;
    let mut calls = client(over_https(&server, &authority));
    bounded(calls.get_task(get("task_1"))).await.unwrap();
    let mut frames = bounded(calls.watch_task(watch("endless"))).await.unwrap().into_inner();
    for _ in 0..64 {
        bounded(frames.message()).await.unwrap().unwrap();
    }

    type Protocol = &'static [u8];
    let cases: [(&[Protocol], Option<Protocol>); 3] =
        [(&[b"h2", b"http/1.1"], Some(b"h2")), (&[b"http/1.1"], Some(b"http/1.1")), (&[], None)];
    for (offered, chosen) in cases {
        let mut stream = dial(&server, &authority, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
        if chosen != Some(b"h2") {
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut said = String::new();
            bounded(stream.read_to_string(&mut said)).await.unwrap();
            assert!(said.starts_with("HTTP/1.1 415"), "{said}");
        }
    }
    // A protocol that it does not have.
    assert!(dial(&server, &authority, &[b"spdy/1"]).await.is_err());
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_is_told_so_and_not_kept() {
    let authority = Authority::new();
    let (server, _, _dir) = edge(&authority, |_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let said = String::from_utf8(rest(stream).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("https://"), "{said}");

    let mut calls = client(server.remote().unwrap());
    assert!(bounded(calls.get_task(get("task_1"))).await.is_err());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let said = rest(stream).await;
    assert_eq!(said.last(), Some(&12), "GOAWAY with INADEQUATE_SECURITY: {said:?}");

    for garbage in [&[0u8; 64][..], b"\x16", b"\x16\x03\x01\xff\xff", &[0x16; 70_000]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        rest(stream).await;
    }
    bounded(client(over_https(&server, &authority)).get_task(get("task_1"))).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended() {
    let authority = Authority::new();
    let (server, _, _dir) = edge(&authority, |l| l.header_timeout = Duration::from_millis(50)).await;
    // Silent, and silent in the middle of its first record.
    for begin in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        assert!(rest(stream).await.is_empty());
    }
}

#[tokio::test]
async fn handshakes_that_never_end_keep_nobody_out() {
    let authority = Authority::new();
    let (server, _, _dir) = edge(&authority, |l| {
        l.handshakes = 4;
        l.header_timeout = Duration::from_secs(600);
    })
    .await;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        stuck.push(stream);
    }
    let crowded_out = async |count| {
        while refused(&server, "handshakes") < count {
            tokio::task::yield_now().await;
        }
    };
    bounded(crowded_out(4)).await;
    bounded(client(over_https(&server, &authority)).get_task(get("task_1"))).await.unwrap();
    bounded(crowded_out(5)).await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_old_ones_go_on() {
    let authority = Authority::new();
    let (server, certificates, dir) = edge(&authority, |_| {}).await;
    let mut before = client(over_https(&server, &authority));
    let mut frames = bounded(before.watch_task(watch("endless"))).await.unwrap().into_inner();
    assert!(!certificates.reload().await.unwrap());

    let next = Authority::new();
    dir.put(&next.pair(&["localhost"], LATER));
    assert!(certificates.reload().await.unwrap());
    bounded(client(over_https(&server, &next)).get_task(get("task_1"))).await.unwrap();
    assert!(dial(&server, &authority, &[]).await.is_err(), "the old one is no longer shown");
    for _ in 0..8 {
        bounded(frames.message()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let authority = Authority::new();
    let (server, certificates, dir) = edge(&authority, |_| {}).await;
    let other = authority.pair(&["localhost"], LATER);
    let good = (
        std::fs::read_to_string(dir.at("own.pem")).unwrap(),
        std::fs::read_to_string(dir.at("own.key")).unwrap(),
    );
    let works =
        async || bounded(client(over_https(&server, &authority)).get_task(get("task_1"))).await.unwrap();
    let refused = async |why: &str, expected: &str| {
        let error = certificates.reload().await.unwrap_err();
        assert_eq!(error.reason(), expected, "{why}: {error}");
        assert!(error.to_string().contains("own."), "{why}: {error}");
        works().await;
    };
    // An operator replaces one file after the other.
    replace(&dir.at("own.pem"), &other.0, 0o644);
    refused("another key", "TLS_FILES_UNUSABLE").await;
    assert!(!certificates.reload().await.unwrap(), "what was refused is looked at again once it changes");
    replace(&dir.at("own.key"), &other.1, 0o600);
    assert!(certificates.reload().await.unwrap());
    works().await;

    for (why, certificate, key) in [
        ("no certificate", "", good.1.as_str()),
        ("half a certificate", &good.0[..good.0.len() / 2], &good.1),
        ("a key in place of a certificate", &good.1, &good.1),
        ("no key", &good.0, ""),
        ("half a key", &good.0, &good.1[..80]),
    ] {
        dir.put(&(certificate.to_owned(), key.to_owned()));
        refused(why, "TLS_FILES_UNUSABLE").await;
    }
    dir.put(&good);
    replace(&dir.at("own.key"), &good.1, 0o640);
    refused("others can read the key", "SECRET_FILE_UNUSABLE").await;
    std::fs::remove_file(dir.at("own.key")).unwrap();
    refused("the key is gone", "TLS_FILES_UNUSABLE").await;
    dir.put(&good);
    assert!(certificates.reload().await.unwrap());
}

#[tokio::test]
async fn the_files_are_looked_at_while_the_process_runs_and_the_metrics_show_what_came_of_it() {
    let (authority, dir) = (Authority::new(), Dir::new());
    let good = authority.pair(&["localhost"], LATER);
    dir.put(&good);
    let certificates = Certificates::of_edge(&dir.edge(), "gateway.tls").await.unwrap().unwrap();
    let (TestEnv { env, clock }, metrics) = (test_env(), Metrics::new().unwrap());
    let (tasks, _) = Tasks::new();
    tasks.spawn("certificates", certificates.keep("gateway", env.clock.clone(), metrics.clone()));
    let shows = async |line: &str| {
        bounded(async {
            while !metrics.prometheus_text().lines().any(|found| found == line) {
                clock.advance(Duration::from_secs(2));
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    replace(&dir.at("own.key"), "rubbish", 0o600);
    shows("foundry_certificate_files_unusable{service=\"gateway\"} 1").await;
    dir.put(&authority.pair(&["localhost"], LATER));
    shows("foundry_certificate_files_unusable{service=\"gateway\"} 0").await;

    shows("foundry_certificate_reloads_total{service=\"gateway\"} 1").await;
    dir.put(&good);
    shows("foundry_certificate_reloads_total{service=\"gateway\"} 2").await;
}

#[tokio::test]
async fn a_listener_does_not_start_without_a_usable_pair() {
    let dir = Dir::new();
    let load = async |files: &TlsFiles| Certificates::of_edge(files, "gateway.tls").await;
    assert!(load(&TlsFiles::default()).await.unwrap().is_none());
    assert_eq!(load(&dir.edge()).await.unwrap_err().reason(), "TLS_FILES_UNUSABLE");
    let half = TlsFiles { key: PathBuf::new(), ..dir.edge() };
    assert!(load(&half).await.unwrap_err().to_string().contains("`gateway.tls.key` is missing"));
    let authority = Authority::new();
    dir.put(&authority.pair(&["spiffe://foundry/task"], LATER));
    let files = dir.mesh(&authority);
    let of = async |name| Certificates::of_service(&files, "mesh.tls", name).await;
    assert!(of("task").await.unwrap().is_some());
    let error = of("repo").await.unwrap_err();
    assert_eq!(error.reason(), "TLS_FILES_UNUSABLE");
    assert!(error.to_string().contains("of the service task"), "{error}");
    for names in
        [&["localhost"][..], &["spiffe://other/task"], &["spiffe://foundry/task", "spiffe://foundry/repo"]]
    {
        dir.put(&authority.pair(names, LATER));
        assert_eq!(of("task").await.unwrap_err().reason(), "TLS_FILES_UNUSABLE", "{names:?}");
    }
}

/// One party of the mesh, with files of its own.
struct Party {
    certificates: Certificates,
    dir: Dir,
}

impl Party {
    async fn new(authority: &Authority, name: &'static str) -> Self {
        Self::with(authority, name, &authority.pair(&[&format!("spiffe://foundry/{name}")], LATER)).await
    }

    async fn with(authority: &Authority, name: &'static str, pair: &(String, String)) -> Self {
        let dir = Dir::new();
        dir.put(pair);
        let files = dir.mesh(authority);
        let certificates = Certificates::of_service(&files, "mesh.tls", name).await.unwrap().unwrap();
        Self { certificates, dir }
    }

    async fn calls(&self, server: &TestServer, service: &'static str) -> Result<String, tonic::Status> {
        let url = format!("https://{}", server.address);
        let mut calls = client(Upstream::proven(&url, service, &self.certificates).unwrap());
        let task = bounded(calls.get_task(get("peer"))).await?.into_inner().task.unwrap();
        Ok(task.title)
    }
}

/// The service `task`, which answers with the name of the peer of its connection.
async fn task(party: &Party) -> TestServer {
    let service = Probe::default().service().over_tls(Some(party.certificates.clone()));
    TestServer::start_with(service, limits(|_| {}), prompt_drain()).await.unwrap()
}

#[tokio::test]
async fn services_know_each_other_by_their_certificates() {
    let authority = Authority::new();
    let (task_party, repo) = (Party::new(&authority, "task").await, Party::new(&authority, "repo").await);
    let server = task(&task_party).await;
    assert_eq!(repo.calls(&server, "task").await.unwrap(), "repo");
    // The same server is not another service.
    let status = repo.calls(&server, "provisioner").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn a_service_serves_nobody_without_a_valid_certificate_of_a_service() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = task(&Party::new(&authority, "task").await).await;
    // No certificate.
    let mut anonymous = trusting(&authority);
    anonymous.alpn_protocols = vec![b"h2".to_vec()];
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", server.address.port())).unwrap();
    let mut calls = client(Upstream::from_service(https_channel(&endpoint, anonymous)));
    bounded(calls.get_task(get("peer"))).await.unwrap_err();
    // No TLS.
    assert!(bounded(client(server.remote().unwrap()).get_task(get("peer"))).await.is_err());

    let name = &["spiffe://foundry/repo"][..];
    for (why, pair) in
        [("expired", authority.pair(name, PAST)), ("another authority", stranger.pair(name, LATER))]
    {
        // It trusts the right authority.
        let party = Party::with(&authority, "repo", &pair).await;
        assert!(party.calls(&server, "task").await.is_err(), "{why}");
    }
    // A certificate of the authority that is for no service: what the party loads is checked, so it is shown by hand. The first
    // one is for a service, so that the others are not refused for how they are shown.
    for (names, serves) in [
        (&["spiffe://foundry/repo"][..], true),
        (&["localhost"], false),
        (&["spiffe://other/repo"], false),
        (&["spiffe://foundry/repo", "spiffe://foundry/task"], false),
    ] {
        let (certificate, key) = authority.pair(names, LATER);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_auth_cert(chain, key)
            .unwrap();
        let mut calls = client(Upstream::from_service(https_channel(&endpoint, config)));
        let answer = bounded(calls.get_task(get("peer"))).await;
        assert_eq!(answer.is_ok(), serves, "{names:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_service_calls_nobody_who_is_not_what_it_calls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let repo = Party::new(&authority, "repo").await;
    let name = &["spiffe://foundry/task"][..];
    for (why, pair) in
        [("expired", authority.pair(name, PAST)), ("another authority", stranger.pair(name, LATER))]
    {
        let server = task(&Party::with(&authority, "task", &pair).await).await;
        let status = repo.calls(&server, "task").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{why}: {status:?}");
    }
    // The right host, and no service.
    let (https, _, _dir) = edge(&authority, |_| {}).await;
    assert_eq!(repo.calls(&https, "task").await.unwrap_err().code(), Code::Unavailable);
    assert!(Upstream::proven("http://127.0.0.1:1", "task", &repo.certificates).is_err());
    assert!(Upstream::remote("https://127.0.0.1:1").is_err());
}

#[tokio::test]
async fn both_sides_take_new_certificates_while_connections_run() {
    let authority = Authority::new();
    let (task_party, repo) = (Party::new(&authority, "task").await, Party::new(&authority, "repo").await);
    let server = task(&task_party).await;
    let url = format!("https://{}", server.address);
    let upstream = Upstream::proven(&url, "task", &repo.certificates).unwrap();
    let mut frames =
        bounded(client(upstream.clone()).watch_task(watch("endless"))).await.unwrap().into_inner();

    // Another authority for all: first one side has it, then both.
    let next = Authority::new();
    let turn = async |party: &Party, name: &str| {
        party.dir.put(&next.pair(&[&format!("spiffe://foundry/{name}")], LATER));
        party.dir.mesh(&next);
        assert!(party.certificates.reload().await.unwrap());
    };
    turn(&task_party, "task").await;
    assert_eq!(repo.calls(&server, "task").await.unwrap_err().code(), Code::Unavailable);
    turn(&repo, "repo").await;
    assert_eq!(repo.calls(&server, "task").await.unwrap(), "repo");
    for _ in 0..8 {
        bounded(frames.message()).await.unwrap().unwrap();
    }
    // The certificate of another service is not taken.
    repo.dir.put(&next.pair(&["spiffe://foundry/auth"], LATER));
    assert_eq!(repo.certificates.reload().await.unwrap_err().reason(), "TLS_FILES_UNUSABLE");
    assert_eq!(repo.calls(&server, "task").await.unwrap(), "repo");
}

/// Takes any server, to show it a certificate.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
