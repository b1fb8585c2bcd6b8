//! The outside world: servers in a namespace of their own.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use super::servers::{files, say};

/// Address of the outside world, reserved for documentation.
const OUTER: &str = "192.0.2.1";
/// Id of the user and group `git` in the namespace.
const GIT: u32 = 63_999;

/// Opens a listener in the outside world.
fn listen_there(world: u32, port: u16) -> TcpListener {
    // A socket belongs to the network namespace of the thread that creates it.
    let made = std::thread::spawn(move || {
        let namespace = std::fs::File::open(format!("/proc/{world}/ns/net")).unwrap();
        let namespace = std::os::fd::AsFd::as_fd(&namespace);
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).unwrap();
        TcpListener::bind((OUTER, port)).unwrap()
    });
    made.join().unwrap()
}

/// Starts the servers of the outside world: files over HTTP and HTTPS, and a fixed answer. Returns the path of the CA
/// certificate that programs must trust.
pub fn serve(world: u32, site: &Path, directory: &Path) -> PathBuf {
    say(listen_there(world, 81), "the world");
    let (http, https) = (listen_there(world, 80), listen_there(world, 443));
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "the operator");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = directory.join("operator.pem");
    std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["registry.example.org".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&own, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], own.serialize_der().try_into().unwrap())
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let site = site.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { tokio::join!(files(http, None, site.clone()), files(https, Some(tls), site)) });
    });
    ca
}

/// An ssh server in the outside world, with a user `git` whose home contains a repository.
pub struct Ssh {
    server: Child,
    home: PathBuf,
    /// The private key that it accepts.
    pub key: String,
}

impl Ssh {
    /// Starts the server in the namespace of the outside world.
    pub fn start(world: u32, place: &Path) -> Self {
        let home = place.join("git");
        let keys = place.join("keys");
        let ssh = home.join(".ssh");
        for directory in [&home, &keys, &ssh] {
            std::fs::create_dir(directory).unwrap();
        }
        let key = keys.join("id");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        std::fs::copy(key.with_extension("pub"), ssh.join("authorized_keys")).unwrap();
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(home.join("pushed.git")));
        on_the_host(&home, "git --git-dir pushed.git config safe.directory '*'; chmod -R go-w .");
        chown_all(&home);
        let host_key = keys.join("host");
        run(Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(&host_key));
        let mut server = Command::new("nsenter");
        server.arg(format!("--net=/proc/{world}/ns/net")).args(["dropbear", "-F", "-E", "-s", "-m", "-p"]);
        server.arg(format!("{OUTER}:22")).arg("-r").arg(host_key).arg("-P").arg(keys.join("pid"));
        let server = server.stdin(Stdio::null()).spawn().unwrap();
        Self { server, home, key: std::fs::read_to_string(key).unwrap() }
    }

    /// Runs git in the repository; returns its output.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "safe.directory=*", "--git-dir"]).arg(self.home.join("pushed.git")).args(arguments);
        String::from_utf8(git.output().unwrap().stdout).unwrap()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = (self.server.kill(), self.server.wait());
    }
}

fn chown_all(path: &Path) {
    chown(path, Some(GIT), Some(GIT)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            chown_all(&entry.unwrap().path());
        }
    }
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {out:?}");
}

/// Runs a script on the mesh's host.
pub fn on_the_host(directory: &Path, script: &str) {
    run(Command::new("sh").args(["-ec", script]).current_dir(directory));
}

/// Creates a package for each kind of registry, and a repository.
pub fn publish(site: &Path) {
    on_the_host(
        site,
        r#"
umask 022
echo 'hello from the world' > hello.txt
mkdir -p npm/tiny-net-files package
printf '{"name":"tiny-net","version":"1.0.0"}' > package/package.json
cp hello.txt package/
tar czf npm/tiny-net-files/tiny-net-1.0.0.tgz package
printf '{"name":"tiny-net","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"tiny-net","version":"1.0.0","dist":{"tarball":"https://registry.example.org/npm/tiny-net-files/tiny-net-1.0.0.tgz"}}}}' > npm/tiny-net
git init -q -b main work
cp hello.txt work/
git -C work add -A
git -C work -c user.name=a -c user.email=a@example.org commit -qm one
git clone -q --bare work repo.git
git -C repo.git update-server-info
mkdir -p simple/tiny-net wheel/tiny_net wheel/tiny_net-1.0.dist-info
cp hello.txt wheel/tiny_net/
printf 'Metadata-Version: 2.1\nName: tiny-net\nVersion: 1.0\n' > wheel/tiny_net-1.0.dist-info/METADATA
printf 'Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n' > wheel/tiny_net-1.0.dist-info/WHEEL
printf 'tiny_net/hello.txt,,\ntiny_net-1.0.dist-info/METADATA,,\ntiny_net-1.0.dist-info/WHEEL,,\ntiny_net-1.0.dist-info/RECORD,,\n' > wheel/tiny_net-1.0.dist-info/RECORD
(cd wheel && python3 -m zipfile -c ../simple/tiny-net/tiny_net-1.0-py3-none-any.whl tiny_net tiny_net-1.0.dist-info)
printf '<a href="/simple/tiny-net/tiny_net-1.0-py3-none-any.whl">tiny_net-1.0-py3-none-any.whl</a>' > simple/tiny-net/index.html
mkdir -p crate/tiny-net-1.0.0/src index/ti/ny crates
printf '[package]\nname = "tiny-net"\nversion = "1.0.0"\nedition = "2021"\n' > crate/tiny-net-1.0.0/Cargo.toml
: > crate/tiny-net-1.0.0/src/lib.rs
cp hello.txt crate/tiny-net-1.0.0/
tar czf crates/tiny-net-1.0.0.crate -C crate tiny-net-1.0.0
sum=$(sha256sum crates/tiny-net-1.0.0.crate | cut -d' ' -f1)
printf '{"dl":"https://registry.example.org/crates/{crate}-{version}.crate"}' > index/config.json
printf '{"name":"tiny-net","vers":"1.0.0","deps":[],"cksum":"%s","features":{},"yanked":false}\n' "$sum" > index/ti/ny/tiny-net
"#,
    );
}
