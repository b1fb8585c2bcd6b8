//! A mesh in several processes whose services prove who they are, behind a gateway that serves https.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use foundry_tests::mesh::binary;
use foundry_tests::{Mesh, Shape};

/// Longest wait for what a process notices within seconds.
const PATIENCE: Duration = Duration::from_secs(30);

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn make_certificates(directory: &Path) {
    let made = Command::new(binary()).arg("certificates").arg(directory).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
}

/// The settings of a mesh with the certificates in a directory.
fn settings(directory: &Path) -> Vec<String> {
    let at = |name: &str| directory.join(name).display().to_string();
    vec![
        format!("mesh.tls.ca={}", at("ca.pem")),
        format!("mesh.tls.certificate={}", at("{service}.pem")),
        format!("mesh.tls.key={}", at("{service}.key")),
        format!("gateway.tls.certificate={}", at("https.pem")),
        format!("gateway.tls.key={}", at("https.key")),
    ]
}

/// A mesh over TLS, and the directory of its certificates.
struct Secured {
    mesh: Mesh,
    directory: PathBuf,
    _dir: tempfile::TempDir,
}

impl Secured {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("certificates");
        make_certificates(&directory);
        let settings = settings(&directory);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let mesh = Mesh::start(Shape::Separate, &settings);
        Self { mesh, directory, _dir: dir }
    }

    fn port(&self, service: &str) -> u16 {
        self.mesh.url(service).rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// A command that trusts these authorities.
    fn cli(&self, authorities: &Path, args: &[&str]) -> Output {
        let mut command = self.mesh.command(args);
        command.env("FOUNDRY_ADDRESS", format!("https://localhost:{}", self.port("gateway")));
        command.env("SSL_CERT_FILE", authorities).output().unwrap()
    }

    /// Waits until the log says so of a service; `mesh` is the gateway as a caller of others.
    #[allow(clippy::disallowed_methods)] // a process has no event to wait for
    fn takes_new_certificates(&self, service: &str) {
        let begun = Instant::now();
        let named = format!("service=\"{service}\"");
        let is_taken = |line: &str| line.contains("new certificates are in use") && line.contains(&named);
        while !self.mesh.log().lines().any(is_taken) {
            assert!(begun.elapsed() < PATIENCE, "{service}\n{}", self.mesh.log_tail());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Repeats a command until it succeeds.
    #[allow(clippy::disallowed_methods)] // a process has no event to wait for
    fn cli_soon(&self, authorities: &Path, args: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let output = self.cli(authorities, args);
            if output.status.success() {
                return text(&output);
            }
            let late = begun.elapsed() >= PATIENCE;
            assert!(!late, "foundry {args:?}: {}\n{}", text(&output), self.mesh.log_tail());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn services_prove_who_they_are_and_programs_trust_the_gateway_by_its_authority() {
    let it = Secured::start();
    let ca = it.directory.join("ca.pem");
    it.cli_soon(&ca, &["login", "--login", "ada"]);
    assert!(it.cli_soon(&ca, &["whoami"]).contains("ada"));
    // Through the gateway to a service, and from it to another.
    it.cli_soon(&ca, &["sandbox", "list"]);
    it.cli_soon(&ca, &["task", "list"]);

    // The authorities of this machine do not know the one of the gateway.
    let stranger = it.directory.parent().unwrap().join("other");
    make_certificates(&stranger);
    let refused = it.cli(&stranger.join("ca.pem"), &["whoami"]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused));
    assert!(text(&refused).contains("the mesh cannot be trusted"), "{}", text(&refused));
    assert!(text(&refused).contains("SSL_CERT_FILE"), "{}", text(&refused));

    // Without TLS, the gateway and a service say so.
    for process in ["gateway", "task"] {
        let mut stream = TcpStream::connect(("127.0.0.1", it.port(process))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 400") && said.contains("https://"), "{process}: {said}");
    }
}

#[test]
fn all_processes_take_new_certificates_of_a_new_authority_without_a_restart() {
    let it = Secured::start();
    let ca = it.directory.join("ca.pem");
    it.cli_soon(&ca, &["login", "--login", "ada"]);
    let pids = it.mesh.pids();

    let next = it.directory.parent().unwrap().join("next");
    make_certificates(&next);
    for entry in std::fs::read_dir(&next).unwrap() {
        let path = entry.unwrap().path();
        std::fs::rename(&path, it.directory.join(path.file_name().unwrap())).unwrap();
    }
    // A new connection of this program, with the new authority alone.
    it.cli_soon(&ca, &["whoami"]);
    it.cli_soon(&ca, &["task", "list"]);
    assert_eq!(it.mesh.pids(), pids);
    for service in ["auth", "repo", "provisioner", "task", "gateway", "mesh"] {
        it.takes_new_certificates(service);
    }
}

#[test]
fn a_process_with_the_certificate_of_another_service_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(&dir.path().join("certificates"));
    let mut command = Command::new(binary());
    command.args(["serve", "task"]).env("FOUNDRY_DATA_DIR", dir.path().join("data"));
    for setting in settings(&dir.path().join("certificates")) {
        command.args(["--set", &setting.replace("{service}", "repo")]);
    }
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("of the service repo"), "{}", text(&output));

    // In one process there is nobody to prove anything to.
    let mut command = Command::new(binary());
    command.arg("up").env("FOUNDRY_DATA_DIR", dir.path().join("data"));
    for setting in settings(&dir.path().join("certificates")) {
        command.args(["--set", &setting]);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("`mesh.tls` is set"), "{}", text(&output));
}
