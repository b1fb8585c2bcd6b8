//! A sandbox in a network namespace of the test's own, in which listeners stand on exactly the addresses that must not
//! be reached, so that a missing guard shows as a success; and beside it another namespace, the world outside, with
//! servers at addresses for documentation that programs inside do reach.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foundry_core::Env;
use foundry_runtime_client::{ExecOutput, RuntimeClient};
use foundry_sandbox::Provider as _;
use foundry_sandbox_local::{IsolationMode, LocalProvider};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use crate::common::{Host, name, ready, sh};
use crate::network::{Known, REACHED, has_networks, proxy};

/// Addresses of the mesh's machine that a sandbox must not reach, and ports of the mesh on them.
const INNER: [&str; 11] = [
    "127.0.0.1",
    "127.8.9.10",
    "169.254.169.254",
    "10.1.2.3",
    "172.16.5.5",
    "192.168.7.7",
    "100.64.0.9",
    "203.0.113.50",
    "::1",
    "fd00::7",
    "2001:db8:5::5",
];
const PORTS: [u16; 3] = [7100, 7109, 80];
/// The world outside.
const OUTER: &str = "192.0.2.1";
const BINARY: &str = "/opt/foundry/bin/foundry";

/// The mesh's namespace: its addresses, a wire to the world, and names by a resolver of the test.
const SET_UP: &str = r#"
set -e
ip link set lo up
for a in 169.254.169.254 10.1.2.3 172.16.5.5 192.168.7.7 100.64.0.9 203.0.113.50; do ip addr add $a/32 dev lo; done
for a in fd00::7 2001:db8:5::5; do ip -6 addr add $a/128 dev lo nodad; done
ip link add wire type veth peer name far netns "$WORLD"
ip addr add 192.0.2.254/24 dev wire
ip link set wire up
nsenter --net=/proc/"$WORLD"/ns/net sh -c 'ip link set lo up; ip addr add 192.0.2.1/24 dev far; ip link set far up'
printf 'nameserver 127.0.0.1\noptions timeout:2\n' > "$RESOLV"
mount --make-rprivate /
mount --bind "$RESOLV" /etc/resolv.conf
exec "$0" --exact namespace::within --ignored --nocapture --test-threads 1
"#;

#[test]
fn reaches_public_hosts_by_its_programs_and_nothing_else_in_a_namespace_of_its_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making network namespaces in which sandboxes have users of their own needs root");
        return;
    }
    for program in ["ip", "unshare", "nsenter"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("skipped: {program} is missing (packages iproute2 and util-linux)");
            return;
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut world = Command::new("unshare")
        .args(["--net", "sh", "-c", "echo up; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    if std::io::Read::read_exact(world.stdout.as_mut().unwrap(), &mut up).is_err() {
        let _ = (world.kill(), world.wait());
        eprintln!("skipped: this system does not let root make network namespaces");
        return;
    }
    let done = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", SET_UP])
        .arg(std::env::current_exe().unwrap())
        .env("WORLD", world.id().to_string())
        .env("RESOLV", directory.path().join("resolv.conf"))
        .output();
    world.kill().unwrap();
    world.wait().unwrap();
    let done = done.unwrap();
    let words = [String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)].concat();
    assert!(done.status.success() && words.contains("1 passed"), "{words}");
    eprintln!("{words}");
}

/// Runs in the namespace only; see above.
#[tokio::test]
#[ignore = "runs in the namespace that the test above makes"]
async fn within() {
    let world: u32 = std::env::var("WORLD").expect("only within the namespace").parse().unwrap();
    let host = Host::new(IsolationMode::Auto);
    for address in INNER {
        for port in PORTS {
            say_reached(TcpListener::bind((address, port)).unwrap());
        }
    }
    let turned = names();
    let site = host.dir.path().join("site");
    std::fs::create_dir_all(&site).unwrap();
    let ca = serve_world(world, &site, host.dir.path());

    let socket = host.dir.path().join("mesh/network.sock");
    let known = Known::default();
    let _tasks = proxy(&socket, &known);
    let mut config = host.config();
    (config.network_socket, config.ca_file) = (Some(socket), Some(ca));
    config.extra_read_only = toolchain().into_iter().collect();
    let provider = LocalProvider::new(config, Env::system()).await.unwrap();
    assert!(has_networks(&provider), "root makes namespaces here, and sandboxes cannot");
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    known.0.lock().unwrap().push(facts);

    refuses_the_inside(&client).await;
    let first =
        outcome(&client, &format!("{BINARY} internal connect turns.example.org 81 < /dev/null")).await;
    assert!(first.stdout.contains("the world"), "at its first look-up it is public: {first:?}");
    let second =
        outcome(&client, &format!("{BINARY} internal connect turns.example.org 80 < /dev/null")).await;
    assert!(second.stderr.contains("it leads to 127.0.0.1, a loopback address"), "{second:?}");
    assert!(turned.load(Ordering::SeqCst) >= 2 && !second.stdout.contains(REACHED));
    programs(&client, &site).await;
    provider.destroy(&name).await.unwrap();
}

async fn refuses_the_inside(client: &RuntimeClient) {
    // The guard is what refuses: without it these would be reached.
    for address in INNER {
        for port in PORTS {
            let here = std::net::TcpStream::connect((address, port)).unwrap();
            drop(here);
            let bracketed = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let script = format!(
                "{BINARY} internal fetch {address} {port}; {BINARY} internal connect {address} {port} < /dev/null; \
                 curl -sS -m 10 --noproxy '' http://{bracketed}:{port}/ 2>&1; \
                 curl -sS -m 10 --noproxy '' -p http://{bracketed}:{port}/ 2>&1"
            );
            let out = outcome(client, &script).await;
            let all = format!("{}{}", out.stdout, out.stderr);
            assert!(!all.contains(REACHED), "{address}:{port} is reached: {all}");
            let loopback = address.starts_with("127.") || address == "::1";
            assert!(loopback || all.contains("NETWORK_REFUSED"), "{address}:{port} says why: {all}");
        }
    }
    for name in ["inside.example.org", "own.example.org", "localhost.example.org", "metadata.internal"] {
        let out = outcome(client, &format!("{BINARY} internal connect {name} 80 < /dev/null")).await;
        assert!(out.stderr.contains("NETWORK_REFUSED") && !out.stdout.contains(REACHED), "{name}: {out:?}");
    }
}

async fn outcome(client: &RuntimeClient, script: &str) -> ExecOutput {
    let mut spec = sh(script);
    spec.limit = Duration::from_secs(120);
    client.exec(&spec).await.unwrap()
}

/// Says [`REACHED`] as an answer to whatever is asked.
fn say_reached(listener: TcpListener) {
    answer(listener, format!("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\n{REACHED}"));
}

fn answer(listener: TcpListener, words: String) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.write_all(words.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
}

/// A resolver on the loopback of the mesh's machine. `turns.example.org` is public at its first look-up, and loopback
/// at every further one.
fn names() -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    let turned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&turned);
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let query = &packet[..length];
            let (mut name, mut at) = (String::new(), 12);
            while query[at] != 0 {
                let label = usize::from(query[at]);
                name = format!("{name}{}.", String::from_utf8_lossy(&query[at + 1..=at + label]));
                at += label + 1;
            }
            let wants_v4 = query[at + 2] == 1;
            let address: Option<[u8; 4]> = match name.trim_end_matches('.') {
                "turns.example.org" if wants_v4 => {
                    let first = count.fetch_add(1, Ordering::SeqCst) == 0;
                    Some(if first { [192, 0, 2, 1] } else { [127, 0, 0, 1] })
                }
                "inside.example.org" => Some([10, 1, 2, 3]),
                "own.example.org" => Some([203, 0, 113, 50]),
                "localhost.example.org" => Some([127, 0, 0, 1]),
                name if name.ends_with(".example.org") => Some([192, 0, 2, 1]),
                _ => None,
            };
            let found = address.filter(|_| wants_v4);
            let mut out = query[..2].to_vec();
            out.extend([
                0x81,
                if address.is_some() { 0x80 } else { 0x83 },
                0,
                1,
                0,
                u8::from(found.is_some()),
            ]);
            out.extend([0, 0, 0, 0]);
            out.extend(&query[12..at + 5]);
            if let Some(address) = found {
                out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                out.extend(address);
            }
            let _ = socket.send_to(&out, from);
        }
    });
    turned
}

/// Listens in the world outside.
fn listen_there(world: u32, port: u16) -> TcpListener {
    // A thread has the namespace in which it is; a socket keeps that of the thread that made it.
    let made = std::thread::spawn(move || {
        let namespace = std::fs::File::open(format!("/proc/{world}/ns/net")).unwrap();
        let namespace = std::os::fd::AsFd::as_fd(&namespace);
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).unwrap();
        TcpListener::bind((OUTER, port)).unwrap()
    });
    made.join().unwrap()
}

/// The servers of the world: files over HTTP and HTTPS, something that is no HTTP, and one that greets as ssh does.
/// Returns the certificates that programs inside must be told of.
fn serve_world(world: u32, site: &Path, directory: &Path) -> PathBuf {
    answer(listen_there(world, 81), "the world\n".to_owned());
    answer(listen_there(world, 22), "SSH-2.0-the_world\r\n".to_owned());
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

/// Serves the files below a directory.
#[allow(clippy::disallowed_methods)] // a server of the test
async fn files(listener: TcpListener, tls: Option<TlsAcceptor>, site: PathBuf) {
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    async fn one(mut io: impl AsyncRead + AsyncWrite + Unpin, site: PathBuf) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            if io.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().trim_matches('/').replace("%2f", "/");
        let mut file = site.join(path);
        if file.is_dir() {
            file = file.join("index.html");
        }
        let (status, body) = match std::fs::read(&file) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let kind = if file.extension().is_some_and(|e| e == "html") {
            "text/html"
        } else {
            "application/octet-stream"
        };
        let kind = if file.ends_with("tiny-net") { "application/json" } else { kind };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        io.write_all(answer.as_bytes()).await?;
        io.write_all(&body).await?;
        io.shutdown().await
    }
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, site) = (tls.clone(), site.clone());
        tokio::spawn(async move {
            match tls {
                Some(tls) => one(tls.accept(stream).await?, site).await,
                None => one(stream, site).await,
            }
        });
    }
}

/// The Rust toolchain of this machine, which no sandbox sees by itself.
fn toolchain() -> Option<PathBuf> {
    let out = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(out.stdout).ok()?.trim());
    (path.join("bin/cargo").is_file() && !path.starts_with("/usr")).then_some(path)
}

fn on_the_host(directory: &Path, script: &str) {
    let out = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(out.status.success(), "{script}: {out:?}");
}

/// What programs fetch through the proxy, by their usual settings alone.
async fn programs(client: &RuntimeClient, site: &Path) {
    publish(site);
    let cargo =
        toolchain().map_or("cargo".to_owned(), |t| t.join("bin/cargo").to_string_lossy().into_owned());
    let registry = "https://registry.example.org";
    let java = r#"public class Fetch { public static void main(String[] a) throws Exception {
        System.out.write(new java.net.URL(a[0]).openStream().readAllBytes()); System.out.flush(); } }"#;
    let all = [
        (
            "curl",
            true,
            format!("curl -sSf {registry}/hello.txt && curl -sSf http://registry.example.org/hello.txt"),
        ),
        (
            "python3",
            true,
            format!(
                "python3 -c 'import urllib.request as u; print(u.urlopen(\"{registry}/hello.txt\").read())'"
            ),
        ),
        (
            "node",
            false,
            format!(
                "node -e 'fetch(\"{registry}/hello.txt\").then(async r => console.log(await r.text()), e => {{ console.log(e); process.exit(1) }})'"
            ),
        ),
        (
            "npm",
            true,
            format!(
                "mkdir -p /tmp/n && cd /tmp/n && npm install --registry {registry}/npm tiny-net 2>&1 && cat node_modules/tiny-net/hello.txt"
            ),
        ),
        ("git", true, format!("git clone -q {registry}/repo.git /tmp/g && cat /tmp/g/hello.txt")),
        (
            "pip3",
            false,
            format!(
                "pip3 install -q --no-cache-dir --disable-pip-version-check --target /tmp/p --index-url {registry}/simple tiny-net 2>&1 && cat /tmp/p/tiny_net/hello.txt"
            ),
        ),
        (
            &cargo,
            false,
            format!(
                "mkdir -p /tmp/c/src && cd /tmp/c && echo 'fn main() {{}}' > src/main.rs && \
             printf '[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ntiny-net = {{ version = \"1\", registry = \"there\" }}\n[workspace]\n' > Cargo.toml && \
             mkdir -p .cargo && printf '[registries.there]\nindex = \"sparse+{registry}/index/\"\n' > .cargo/config.toml && \
             PATH=$(dirname {cargo}):$PATH {cargo} fetch 2>&1 && cat $HOME/.cargo/registry/src/*/tiny-net-1.0.0/hello.txt"
            ),
        ),
        (
            "java",
            false,
            format!(
                "echo '{java}' > /tmp/Fetch.java && java /tmp/Fetch.java http://registry.example.org/hello.txt 2>&1"
            ),
        ),
        (
            "ssh",
            false,
            "ssh -v -o BatchMode=yes -o StrictHostKeyChecking=no git@registry.example.org true 2>&1; true"
                .to_owned(),
        ),
    ];
    for (program, required, script) in all {
        // Older ones do not honour proxy variables; agents run on one that does.
        let new = "node -e 'const [a, b] = process.versions.node.split(\".\"); process.exit(a >= 24 || (a == 22 && b >= 21) ? 0 : 1)'";
        let look = if program == "node" { new.to_owned() } else { format!("command -v {program}") };
        if outcome(client, &look).await.exit_code != Some(0) {
            assert!(!required, "{program} is missing");
            eprintln!("skipped: {program} is missing inside, or too old for proxies");
            continue;
        }
        let out = outcome(client, &script).await;
        let all = format!("{}{}", out.stdout, out.stderr);
        let wanted =
            if program == "ssh" { "remote software version the_world" } else { "hello from the world" };
        assert!(out.exit_code == Some(0) && all.contains(wanted), "{program}: {all}");
        // Without the proxy there is no way.
        eprintln!("{program}: through the proxy");
    }
    let bare = outcome(
        client,
        &format!(
            "env -u HTTPS_PROXY -u https_proxy -u ALL_PROXY -u all_proxy curl -sS -m 5 {registry}/hello.txt"
        ),
    )
    .await;
    assert_ne!(bare.exit_code, Some(0), "there is no other way: {bare:?}");
}

/// A package for each kind of registry, and a repository.
fn publish(site: &Path) {
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
