//! The proxy over real sockets. The outside is a set of loopback listeners under documentation addresses, so that
//! nothing leaves this machine; the proxy must connect to exactly the addresses it checked.
#![allow(clippy::unwrap_used)] // tests

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Env, Tasks};
use foundry_egress::{Directory, Egress, HostNetwork, Settings, Upstream};
use foundry_http_client::NetworkSettings;
use foundry_sandbox::key::nonce;
use foundry_sandbox::{Claim, Network, NetworkSetting, RuntimeKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Names with the answers to their first, second … look-up; addresses with the listeners behind them.
#[derive(Default)]
struct World {
    names: Mutex<HashMap<String, Vec<Vec<&'static str>>>>,
    hosts: Mutex<HashMap<SocketAddr, SocketAddr>>,
    own: Vec<&'static str>,
    connected: Mutex<Vec<SocketAddr>>,
    resolved: Mutex<Vec<String>>,
}

#[async_trait]
impl HostNetwork for World {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.resolved.lock().unwrap().push(name.to_owned());
        let mut names = self.names.lock().unwrap();
        let answers = names.get_mut(name).ok_or_else(|| io::Error::other("no such name"))?;
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Ok(answer.iter().map(|a| SocketAddr::new(a.parse().unwrap(), port)).collect())
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.own.iter().any(|own| own.parse::<IpAddr>().unwrap() == address)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connected.lock().unwrap().push(address);
        let place = self.hosts.lock().unwrap().get(&address).copied();
        match place {
            Some(place) => TcpStream::connect(place).await,
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

struct Sandboxes(HashMap<String, (RuntimeKey, Network)>);

#[async_trait]
impl Directory for Sandboxes {
    async fn network(&self, claim: &Claim) -> Result<Option<Network>, String> {
        let found = self.0.get(&claim.sandbox).filter(|(key, _)| claim.verify(key));
        Ok(found.map(|(_, network)| network.clone()))
    }
}

struct Mesh {
    directory: tempfile::TempDir,
    world: Arc<World>,
    keys: HashMap<String, RuntimeKey>,
    tasks: Tasks,
}

fn network(policy: &str) -> Network {
    policy.parse::<NetworkSetting>().unwrap().0
}

impl Mesh {
    /// One sandbox for each policy, named by it.
    fn new(world: World, policies: &[&str], upstream: Option<Upstream>, settings: Settings) -> Self {
        let env = Env::system();
        let sandbox = |p: &&str| ((*p).to_owned(), (RuntimeKey::generate(&env), network(p)));
        let sandboxes: HashMap<_, _> = policies.iter().map(sandbox).collect();
        let keys = sandboxes.iter().map(|(name, (key, _))| (name.clone(), key.clone())).collect();
        let (tasks, _) = Tasks::new();
        let world = Arc::new(world);
        let egress = Egress::new(
            Arc::new(Sandboxes(sandboxes)),
            Arc::clone(&world) as Arc<dyn HostNetwork>,
            upstream,
            settings,
            env,
            tasks.clone(),
        );
        let directory = tempfile::tempdir().unwrap();
        egress.serve(UnixListener::bind(directory.path().join("network.sock")).unwrap());
        Self { directory, world, keys, tasks }
    }

    fn public(world: World) -> Self {
        Self::new(world, &["public"], None, Settings::default())
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("network.sock")
    }

    /// A connection whose claim was accepted.
    async fn open(&self, policy: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        let line = Claim::line(&self.keys[policy], policy, "run1", &nonce(&Env::system()));
        stream.write_all(line.as_bytes()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'+');
        stream
    }

    /// The whole answer to one request.
    async fn ask(&self, policy: &str, request: &str) -> String {
        let mut stream = self.open(policy).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = loop {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it ends within the head");
            if let Some(at) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        match head.lines().find_map(|l| l.strip_prefix("content-length: ")) {
            Some(length) => {
                while answer.len() < end + length.parse::<usize>().unwrap() {
                    assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it ends within the body");
                }
            }
            // A tunnel: the host closes when we do.
            None => {
                stream.shutdown().await.unwrap();
                stream.read_to_end(&mut answer).await.unwrap();
            }
        }
        String::from_utf8(answer).unwrap()
    }

    async fn connect(&self, policy: &str, authority: &str) -> String {
        self.ask(policy, &format!("CONNECT {authority} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    fn connected(&self) -> Vec<String> {
        self.world.connected.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

/// A host at this address that greets and then echoes what it received.
async fn host(world: &World, address: &str, greeting: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    world.hosts.lock().unwrap().insert(address.parse().unwrap(), place);
    #[allow(clippy::disallowed_methods)] // a server of the test
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(greeting.as_bytes()).await.unwrap();
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
}

fn named(names: &[(&str, &[&[&'static str]])]) -> World {
    let answers = |a: &[&[&'static str]]| a.iter().map(|one| one.to_vec()).collect();
    let names = names.iter().map(|(name, a)| ((*name).to_owned(), answers(a))).collect();
    World { names: Mutex::new(names), ..World::default() }
}

#[tokio::test]
async fn makes_a_tunnel_to_a_public_host_and_ends_it_when_either_side_ends() {
    let world = named(&[("example.org", &[&["192.0.2.1"]])]);
    host(&world, "192.0.2.1:443", "hello ").await;
    let mesh = Mesh::public(world);
    let answer = mesh.connect("public", "example.org:443").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello "), "{answer}");
    assert_eq!(mesh.connected(), ["192.0.2.1:443"]);
    // Bytes sent together with the request and after it go to the host.
    let request = "CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\nwith it";
    assert!(mesh.ask("public", request).await.ends_with("hello with it"));
}

#[tokio::test]
async fn judges_every_address_once_and_connects_to_exactly_those() {
    let world = named(&[
        ("turns.example", &[&["192.0.2.1"], &["127.0.0.1"]]),
        ("mixed.example", &[&["127.0.0.1", "10.0.0.1", "192.0.2.1"]]),
    ]);
    host(&world, "192.0.2.1:80", "").await;
    // A missing check would show as a success.
    for address in ["127.0.0.1:80", "10.0.0.1:80"] {
        host(&world, address, "").await;
    }
    let mesh = Mesh::public(world);
    assert!(mesh.connect("public", "turns.example:80").await.starts_with("HTTP/1.1 200"));
    assert_eq!(mesh.world.resolved.lock().unwrap().len(), 1, "a name is looked up once");
    let second = mesh.connect("public", "turns.example:80").await;
    assert!(
        second.starts_with("HTTP/1.1 403") && second.contains("127.0.0.1, a loopback address"),
        "{second}"
    );
    assert!(mesh.connect("public", "mixed.example:80").await.starts_with("HTTP/1.1 200"));
    assert_eq!(mesh.connected(), ["192.0.2.1:80", "192.0.2.1:80"]);
}

#[tokio::test]
async fn refuses_what_is_not_public_with_the_policy_in_the_first_line() {
    let world = World {
        own: vec!["203.0.113.5"],
        ..named(&[("own.example", &[&["203.0.113.5"]]), ("intra.example", &[&["10.1.1.1"]])])
    };
    let refused = [
        "127.0.0.1:80",
        "[::1]:80",
        "169.254.169.254:80",
        "10.0.0.1:80",
        "192.168.1.1:80",
        "172.16.0.1:80",
        "100.64.0.1:80",
        "0.0.0.0:80",
        "[::]:80",
        "[::ffff:127.0.0.1]:80",
        "[64:ff9b::7f00:1]:80",
        "[fe80::1]:80",
        "[fd00::1]:80",
        "localhost:80",
        "x.localhost:80",
        "localhost.:80",
        "router:80",
        "db.internal:80",
        "nas.local:80",
        "203.0.113.5:80",
        "own.example:80",
        "intra.example:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
    ];
    for authority in refused {
        let (ip, port) = authority.rsplit_once(':').unwrap();
        if let Ok(ip) = ip.trim_matches(['[', ']']).parse::<IpAddr>() {
            let address = SocketAddr::new(ip, port.parse().unwrap());
            host(&world, &address.to_string(), "reached").await;
        }
    }
    let mesh = Mesh::public(world);
    for authority in refused {
        for request in [
            format!("CONNECT {authority} HTTP/1.1\r\nhost: x\r\n\r\n"),
            format!("GET http://{authority}/ HTTP/1.1\r\nhost: example.org\r\n\r\n"),
        ] {
            let answer = mesh.ask("public", &request).await;
            let line = answer.lines().next().unwrap();
            assert!(
                line.starts_with(
                    "HTTP/1.1 403 NETWORK_REFUSED the network policy \"public\" of this sandbox"
                ),
                "{request}{answer}"
            );
            assert!(answer.contains("\r\nx-foundry-reason: NETWORK_REFUSED\r\n"), "{answer}");
            assert!(answer.contains("provisioner.local.network"), "what to do: {answer}");
        }
    }
    for odd in ["2130706433:80", "0x7f.1:80", "0177.0.0.1:80", "127.1:80"] {
        assert!(mesh.connect("public", odd).await.starts_with("HTTP/1.1 400 "), "{odd}");
    }
    assert_eq!(mesh.connected(), Vec::<String>::new());
}

#[tokio::test]
async fn keeps_to_the_list_and_reaches_private_addresses_only_of_hosts_named_exactly() {
    let world = named(&[
        ("registry.corp", &[&["10.0.0.9"]]),
        ("a.example.org", &[&["192.0.2.1"]]),
        ("inside.example.org", &[&["10.0.0.9"]]),
        ("turned.corp", &[&["127.0.0.1"]]),
    ]);
    for address in ["10.0.0.9:443", "192.0.2.1:443", "192.0.2.1:80", "10.7.7.7:443", "127.0.0.1:443"] {
        host(&world, address, "").await;
    }
    let list = "registry.corp:443, *.example.org:443, 10.7.7.7, turned.corp";
    let mesh = Mesh::new(world, &[list, "none", "host", "public, registry.corp"], None, Settings::default());
    for (policy, authority, status) in [
        (list, "registry.corp:443", 200),
        (list, "registry.corp:80", 403),
        (list, "a.example.org:443", 200),
        (list, "a.example.org:80", 403),
        (list, "inside.example.org:443", 403),
        (list, "10.7.7.7:443", 200),
        (list, "10.0.0.9:443", 403),
        (list, "turned.corp:443", 403),
        (list, "192.0.2.1:443", 403),
        ("none", "a.example.org:443", 403),
        ("host", "a.example.org:443", 403),
        ("public, registry.corp", "registry.corp:443", 200),
        ("public, registry.corp", "a.example.org:80", 200),
        ("public, registry.corp", "10.0.0.9:443", 403),
    ] {
        let answer = mesh.connect(policy, authority).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{policy}: {authority}: {answer}");
    }
}

#[tokio::test]
async fn fetches_a_whole_address_from_the_host_that_was_judged() {
    let world = named(&[("example.org", &[&["192.0.2.1"]])]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    world.hosts.lock().unwrap().insert("192.0.2.1:8080".parse().unwrap(), place);
    let mesh = Mesh::public(world);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        stream
            .write_all(b"HTTP/1.1 200 Fine\r\ncontent-length: 2\r\nConnection: X-Gone\r\nX-Gone: 1\r\n\r\nhi")
            .await
            .unwrap();
        String::from_utf8(head).unwrap()
    };
    let request = "GET http://example.org:8080/a?b=c HTTP/1.1\r\nHost: 127.0.0.1\r\nProxy-Authorization: x\r\n\
        Proxy-Connection: keep-alive\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Kept: 1\r\n\r\n";
    let (answer, head) = tokio::join!(mesh.ask("public", request), serve);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhi") && !answer.contains("X-Gone: "),
        "{answer}"
    );
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Host: example.org:8080\r\n") && !head.contains("127.0.0.1"), "{head}");
    assert!(
        head.contains("X-Kept") && !head.contains("X-Mine") && !head.to_lowercase().contains("proxy-"),
        "{head}"
    );
    for bad in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "GET https://example.org/ HTTP/1.1\r\nhost: x\r\n\r\n"] {
        assert!(mesh.ask("public", bad).await.contains("NETWORK_REQUEST_MALFORMED"), "{bad}");
    }
    let gone = mesh.ask("public", "GET http://nowhere.example/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(gone.starts_with("HTTP/1.1 502 NETWORK_UNREACHABLE"), "{gone}");
    let shut = mesh.connect("public", "192.0.2.9:1").await;
    assert!(shut.starts_with("HTTP/1.1 502 NETWORK_UNREACHABLE"), "{shut}");
}

#[tokio::test]
async fn serves_nobody_who_does_not_prove_which_sandbox_it_is() {
    let mesh = Mesh::new(World::default(), &["public", "none"], None, Settings::default());
    let other = Claim::line(&mesh.keys["none"], "public", "run1", &nonce(&Env::system()));
    let good = Claim::line(&mesh.keys["public"], "public", "run1", &nonce(&Env::system()));
    for line in [
        "CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "\n".to_owned(),
        "x".repeat(2_000),
        other,
        format!("{good}CONNECT example.org:443 HTTP/1.1\r\n\r\n"),
    ] {
        let mut stream = UnixStream::connect(mesh.socket()).await.unwrap();
        let _ = stream.write_all(line.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"", "{line}");
    }
}

#[tokio::test]
async fn lets_neither_silent_strangers_nor_a_greedy_sandbox_keep_another_out() {
    let settings = Settings { connections: 16, connections_of_sandbox: 6, ..Settings::default() };
    let world = named(&[("example.org", &[&["192.0.2.1"]])]);
    host(&world, "192.0.2.1:443", "").await;
    let mesh = Mesh::new(world, &["public", "none"], None, settings);
    let mut strangers = Vec::new();
    for _ in 0..400 {
        strangers.push(UnixStream::connect(mesh.socket()).await.unwrap());
    }
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut stream = mesh.open("public").await;
        stream.write_all(b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    let seventh = mesh.connect("public", "example.org:443").await;
    assert!(
        seventh.starts_with("HTTP/1.1 503 NETWORK_BUSY") && seventh.contains("retry-after: 5"),
        "{seventh}"
    );
    assert!(
        mesh.connect("none", "example.org:443").await.starts_with("HTTP/1.1 403"),
        "the other one is served"
    );
    held.clear();
    let mut again = String::new();
    while !again.starts_with("HTTP/1.1 200") {
        again = mesh.connect("public", "example.org:443").await;
        assert!(again.starts_with("HTTP/1.1 200") || again.contains("NETWORK_BUSY"), "{again}");
    }
}

#[tokio::test]
async fn one_that_floods_the_socket_and_proves_nothing_does_not_push_out_another() {
    use std::io::BufRead as _;
    const FLOOD: &str = "
import os, socket, sys
os.setuid(64123)
kept = []
for _ in range(600):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].connect(sys.argv[1])
print('held', flush=True)
sys.stdin.read()
";
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: to be another user needs root");
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    // Far beyond the length of a test: no connection may expire because opening them took long.
    let patient = Settings { claim: Duration::from_secs(3_600), ..Settings::default() };
    let mesh = Mesh::new(World::default(), &["public"], None, patient);
    for (path, mode) in [(mesh.directory.path().to_owned(), 0o755), (mesh.socket(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut honest = UnixStream::connect(mesh.socket()).await.unwrap();
    let socket = mesh.socket();
    let mut flood = tokio::task::spawn_blocking(move || {
        let mut python = std::process::Command::new("python3");
        python.args(["-c", FLOOD]).arg(socket);
        let piped = std::process::Stdio::piped;
        let mut flood = python.stdin(piped()).stdout(piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(flood.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        flood
    })
    .await
    .unwrap();
    let line = Claim::line(&mesh.keys["public"], "public", "run1", &nonce(&Env::system()));
    honest.write_all(line.as_bytes()).await.unwrap();
    let believed = honest.read_u8().await;
    drop(flood.stdin.take());
    flood.wait().unwrap();
    assert_eq!(believed.unwrap(), b'+');
}

#[tokio::test]
async fn ends_a_silent_tunnel_and_what_a_gone_sandbox_left_open() {
    let quick = Settings {
        idle: Duration::from_millis(200),
        half_idle: Duration::from_millis(50),
        ..Settings::default()
    };
    let patient = Settings { half_idle: Duration::from_millis(50), ..Settings::default() };
    for (settings, goes) in [(quick, false), (patient, true)] {
        let world = World::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        world.hosts.lock().unwrap().insert("192.0.2.1:443".parse().unwrap(), place);
        let mesh = Mesh::new(world, &["public"], None, settings);
        let mut stream = mesh.open("public").await;
        stream.write_all(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        // It never sends anything and never closes by itself.
        let (mut silent, _) = listener.accept().await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        if goes {
            drop(stream);
        }
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the end reaches the host");
        // Nothing can be sent after its end: the connection is gone, not half open.
        let gone = async {
            while silent.write_all(b"x").await.is_ok() {
                tokio::task::yield_now().await
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), gone).await.is_ok());
    }
}

#[tokio::test]
async fn drains_when_the_mesh_stops() {
    let settings = Settings { drain: Duration::from_millis(100), ..Settings::default() };
    let world = World::default();
    host(&world, "192.0.2.1:443", "hello").await;
    let mesh = Mesh::new(world, &["public"], None, settings);
    let mut stream = mesh.open("public").await;
    stream.write_all(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"hello") {
        stream.read_buf(&mut seen).await.unwrap();
    }
    assert!(mesh.tasks.shutdown(Duration::from_secs(20)).await, "nothing is left running");
    assert_eq!(stream.read_to_end(&mut seen).await.unwrap(), 0);
    assert!(UnixStream::connect(mesh.socket()).await.is_err());
}

/// An upstream proxy that records its requests, and answers a CONNECT with 200.
async fn upstream_proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    #[allow(clippy::disallowed_methods)] // a server of the test
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            let head = String::from_utf8(head).unwrap();
            let answer = if head.starts_with("CONNECT refused") {
                "HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n"
            } else if head.starts_with("CONNECT") {
                "HTTP/1.1 200 OK\r\n\r\nthrough"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nfetched"
            };
            heads.lock().unwrap().push(head);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (place, asked)
}

#[tokio::test]
async fn goes_through_the_operators_proxy_by_name_alone_and_still_judges_addresses() {
    let (place, asked) = upstream_proxy().await;
    let world = named(&[
        ("proxy.corp", &[&["10.0.0.1"]]),
        ("direct.corp.example", &[&["192.0.2.1"]]),
        ("inside.corp.example", &[&["10.0.0.1"]]),
    ]);
    world.hosts.lock().unwrap().insert("10.0.0.1:3128".parse().unwrap(), place);
    host(&world, "192.0.2.1:443", "direct").await;
    let network = NetworkSettings {
        proxy: Some("http://user:secret@proxy.corp:3128".to_owned()),
        no_proxy: Some("corp.example".to_owned()),
        ca_file: None,
    };
    let upstream = Upstream::new(&network).unwrap();
    let mesh = Mesh::new(world, &["public", "a.example"], upstream, Settings::default());
    assert!(mesh.connect("public", "a.example:443").await.ends_with("through"));
    let fetched = mesh.ask("public", "GET http://a.example/x HTTP/1.1\r\nhost: y\r\n\r\n").await;
    assert!(fetched.ends_with("fetched"), "{fetched}");
    let heads = asked.lock().unwrap().clone();
    assert!(heads[0].starts_with("CONNECT a.example:443 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[1].starts_with("GET http://a.example/x HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads.iter().all(|h| h.to_lowercase().contains("proxy-authorization: basic ")), "{heads:?}");
    assert!(mesh.connect("public", "direct.corp.example:443").await.ends_with("direct"));
    for refused in [
        "10.0.0.1:443",
        "169.254.169.254:80",
        "127.0.0.1:80",
        "localhost:80",
        "router:80",
        "inside.corp.example:443",
    ] {
        assert!(mesh.connect("public", refused).await.starts_with("HTTP/1.1 403 "), "{refused}");
    }
    assert!(mesh.connect("a.example", "b.example:443").await.starts_with("HTTP/1.1 403 "));
    let refused = mesh.connect("public", "refused.example:443").await;
    assert!(refused.starts_with("HTTP/1.1 502 ") && refused.contains("407"), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
}
