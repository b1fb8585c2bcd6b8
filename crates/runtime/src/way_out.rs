//! Outbound traffic of a sandbox with a network of its own: accepts connections on its loopback and passes them on to
//! the mesh's proxy, which applies the policy. Requests for the sandbox's own loopback are connected here: many
//! programs send those to a proxy, too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_sandbox::Claim;
use foundry_sandbox::beneath::beside;
use foundry_sandbox::key::nonce;
use foundry_sandbox::wire::{Proxy, Start};
use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::Instant;

use crate::accept::accept;
use crate::forward::connect;

/// How long a new connection waits while the mesh is unreachable.
const HOLD: Duration = Duration::from_secs(30);
/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long a program may take to send the head of its request.
const HEAD: Duration = Duration::from_secs(60);
/// Longest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How long a program may take to read a refusal.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The proxy inside the sandbox, listening.
pub(crate) struct WayOut {
    listener: TcpListener,
    mesh: Arc<Mesh>,
}

struct Mesh {
    proxy: Proxy,
    start: Start,
    env: Env,
    tasks: Tasks,
    hold: Duration,
}

/// The destination of a connection's first request.
#[derive(Debug, PartialEq, Eq)]
enum Towards {
    /// To a port of the sandbox's own loopback, at the first of these addresses that listens.
    Here(Vec<IpAddr>, u16),
    /// Anywhere else: decided by the mesh.
    Out,
}

/// Headers that concern only the connection and its protocol.
const OF_THE_CONNECTION: [&str; 5] =
    ["connection", "proxy-connection", "keep-alive", "upgrade", "http2-settings"];

/// The addresses of the name `localhost`.
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl WayOut {
    /// Binds the listener; `None` for a sandbox without outbound traffic.
    pub async fn bind(start: &Start, env: &Env, tasks: &Tasks) -> io::Result<Option<Self>> {
        let Some(proxy) = start.proxy.clone() else { return Ok(None) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, proxy.port)).await?;
        let mesh = Mesh { proxy, start: start.clone(), env: env.clone(), tasks: tasks.clone(), hold: HOLD };
        Ok(Some(Self { listener, mesh: Arc::new(mesh) }))
    }

    /// Accepts for ever.
    pub async fn serve(self) {
        let tasks = self.mesh.tasks.clone();
        accept(self.listener, tasks, "connection to the outside", |stream| {
            let mesh = Arc::clone(&self.mesh);
            async move {
                // Errors concern only the client.
                let _ = mesh.connection(stream).await;
            }
        })
        .await;
    }
}

impl Mesh {
    async fn connection(&self, mut near: TcpStream) -> io::Result<()> {
        let (head, length) = match tokio::time::timeout(HEAD, read_head(&mut near)).await {
            Ok(Ok(Some(head))) => head,
            _ => {
                return refuse(near, "400 Bad Request", "the head of the request is too long or incomplete")
                    .await;
            }
        };
        let by_connect = head.starts_with(b"CONNECT ");
        // A tunnel has one destination. Later requests of a plain connection might name others, so only the first is
        // allowed.
        let request = if by_connect { head.clone() } else { alone(&head, length) };
        if let Towards::Here(addresses, port) = towards(&head[..length]) {
            let first = if by_connect { &head[length..] } else { &request };
            return self.here(near, (addresses, port), by_connect, first).await;
        }
        let Some(mut far) = self.reach().await else {
            let words = "NETWORK_UNREACHABLE: the mesh is unavailable, and its proxy is this sandbox's only \
                         outbound path";
            return refuse(near, "503 Service Unavailable\r\nretry-after: 5", words).await;
        };
        far.write_all(&request).await?;
        copy_bidirectional(&mut near, &mut far).await?;
        Ok(())
    }

    /// Connects to a port of our own loopback and sends it these bytes first.
    async fn here(
        &self,
        mut near: TcpStream,
        (addresses, port): (Vec<IpAddr>, u16),
        by_connect: bool,
        first: &[u8],
    ) -> io::Result<()> {
        if port == self.proxy.port {
            return refuse(near, "400 Bad Request", "this is the proxy itself").await;
        }
        let to: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        // The addresses are tried in turn.
        let mut far = match TcpStream::connect(&to[..]).await {
            Ok(far) => far,
            Err(e) => {
                let words = format!("port {port} of this sandbox cannot be reached: {e}");
                return refuse(near, "502 Bad Gateway", &words).await;
            }
        };
        let _ = far.set_nodelay(true);
        if by_connect {
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        }
        far.write_all(first).await?;
        copy_bidirectional(&mut near, &mut far).await?;
        Ok(())
    }

    /// A connection to the mesh's proxy whose claim was accepted; tries again while the mesh is unreachable.
    async fn reach(&self) -> Option<UnixStream> {
        let until = Instant::now() + self.hold;
        let mut pause = PAUSE.0;
        loop {
            let believed = tokio::time::timeout_at(until, self.introduced()).await;
            match believed {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(_)) if Instant::now() + pause < until => tokio::time::sleep(pause).await,
                _ => return None,
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn introduced(&self) -> io::Result<UnixStream> {
        let mut stream = beside(&self.proxy.socket, connect).and_then(UnixStream::from_std)?;
        let (sandbox, number) = (self.start.sandbox.as_str(), nonce(&self.env));
        let line = Claim::line(&self.start.key, sandbox, &self.start.instance, &number);
        stream.write_all(line.as_bytes()).await?;
        if stream.read_u8().await? != b'+' {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(stream)
    }
}

/// The bytes read, and how many of them are the head; `None` when the program closes before.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<(Vec<u8>, usize)>> {
    let mut head = Vec::with_capacity(2048);
    loop {
        // The end marker may be split across two reads.
        let from = head.len().saturating_sub(3);
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
        if let Some(at) = head[from..].windows(4).position(|w| w == b"\r\n\r\n") {
            return Ok(Some((head, from + at + 4)));
        }
        if head.len() > MAX_HEAD {
            return Ok(None);
        }
    }
}

/// The destination of a request. A request that cannot be parsed is left to the mesh to refuse.
fn towards(head: &[u8]) -> Towards {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let by_connect = method == Some(b"CONNECT");
    let Ok(uri) = Uri::try_from(target) else { return Towards::Out };
    let (Some(host), port) = (uri.host(), uri.port_u16().or((!by_connect).then_some(80))) else {
        return Towards::Out;
    };
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let addresses = match name.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => vec![address],
        Err(_) if name == "localhost" || name.ends_with(".localhost") => LOCALHOST.to_vec(),
        _ => return Towards::Out,
    };
    port.map_or(Towards::Out, |port| Towards::Here(addresses, port))
}

/// The same request, marked as the last one of its connection, with what was read after its head. A WebSocket upgrade
/// is the last request anyway. Other upgrades are removed: a server may ignore them, as most do with `h2c`, and the
/// connection would then carry further requests.
fn alone(read: &[u8], length: usize) -> Vec<u8> {
    let (head, rest) = read.split_at(length);
    let begins = |line: &[u8], name: &[u8]| {
        line.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name))
            && line.get(name.len()) == Some(&b':')
    };
    let lines = || head.strip_suffix(b"\r\n\r\n").unwrap_or(head).split(|b| *b == b'\n');
    let protocol = |line: &[u8]| line["upgrade:".len()..].trim_ascii().to_ascii_lowercase();
    let mut upgrades = lines().filter(|line| begins(line, b"upgrade")).peekable();
    if upgrades.peek().is_some() && upgrades.all(|line| protocol(line) == b"websocket") {
        return read.to_vec();
    }
    let mut out = Vec::with_capacity(read.len() + 32);
    let mut left_out = false;
    for line in lines() {
        // A folded line continues the previous one.
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            left_out = OF_THE_CONNECTION.iter().any(|name| begins(line, name.as_bytes()));
        }
        if !left_out {
            out.extend(line.strip_suffix(b"\r").unwrap_or(line));
            out.extend(b"\r\n");
        }
    }
    out.extend(b"connection: close\r\n\r\n");
    out.extend(rest);
    out
}

/// Answers and closes once the program has read the answer: a close with unread bytes would discard it.
async fn refuse(mut stream: TcpStream, status: &str, words: &str) -> io::Result<()> {
    let body = format!("{words}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let read = async {
        let mut rest = vec![0; 4096];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    };
    // A program that keeps sending is cut off.
    let _ = tokio::time::timeout(LAST_WORDS, read).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_own_loopback_from_the_outside() {
        let here = |addresses: &[&str], port| {
            Towards::Here(addresses.iter().map(|a| a.parse().unwrap()).collect(), port)
        };
        for (line, wanted) in [
            ("CONNECT localhost:8123 HTTP/1.1", here(&["127.0.0.1", "::1"], 8123)),
            ("CONNECT 127.0.0.1:8123 HTTP/1.1", here(&["127.0.0.1"], 8123)),
            ("GET http://LOCALHOST./x HTTP/1.1", here(&["127.0.0.1", "::1"], 80)),
            ("GET http://a.localhost:81/x HTTP/1.1", here(&["127.0.0.1", "::1"], 81)),
            ("CONNECT [::1]:8123 HTTP/1.1", here(&["::1"], 8123)),
            ("CONNECT example.org:443 HTTP/1.1", Towards::Out),
            ("CONNECT 10.0.0.1:443 HTTP/1.1", Towards::Out),
            ("GET /x HTTP/1.1", Towards::Out),
            ("CONNECT localhost HTTP/1.1", Towards::Out),
            ("", Towards::Out),
        ] {
            assert_eq!(towards(format!("{line}\r\n\r\n").as_bytes()), wanted, "{line}");
        }
    }

    #[test]
    fn a_connection_carries_one_request_unless_it_becomes_something_else() {
        let sent = |text: &str| {
            let length = text.find("\r\n\r\n").unwrap() + 4;
            String::from_utf8(alone(text.as_bytes(), length)).unwrap()
        };
        assert_eq!(
            sent(
                "POST http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Connection: keep-alive\r\nCONNECTION: keep-alive,\r\n \
                 x-mine\r\nContent-Length: 4\r\n\r\nbody"
            ),
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nconnection: close\r\n\r\nbody"
        );
        let upgrade = "GET http://localhost/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(sent(upgrade), upgrade);
        for header in
            ["Upgrade: h2c\r\nHTTP2-Settings: AAMA", "upgrade: websocket\r\nupgrade:h2c", "Upgrade: TLS/1.0"]
        {
            let asked =
                format!("GET http://a/ HTTP/1.1\r\nConnection: Upgrade\r\n{header}\r\nHost: a\r\n\r\n");
            assert_eq!(
                sent(&asked),
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nconnection: close\r\n\r\n",
                "{header}"
            );
        }
    }

    /// What a program receives when it sends this request through the proxy.
    async fn answer_to(mesh: &Mesh, request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        program.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let (_, read) = tokio::join!(mesh.connection(near), async {
            let read = program.read_to_string(&mut answer).await;
            drop(program);
            read
        });
        read.unwrap();
        answer
    }

    #[tokio::test]
    async fn reaches_the_own_loopback_in_both_versions_for_one_request_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (mesh, tasks) = mesh(directory.path(), Duration::from_millis(50));
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(server) = TcpListener::bind(address).await else {
                eprintln!("skipped: there is no {address} here");
                continue;
            };
            let port = server.local_addr().unwrap().port();
            tasks.spawn("server", async move {
                let mut kept = Vec::new();
                loop {
                    let (mut stream, _) = server.accept().await.unwrap();
                    let (head, length) = read_head(&mut stream).await.unwrap().unwrap();
                    // As a server that keeps a connection unless it is asked to close.
                    stream.write_all(&head[..length]).await.unwrap();
                    if String::from_utf8_lossy(&head).contains("connection: close") {
                        stream.shutdown().await.unwrap();
                    }
                    kept.push(stream);
                }
            });
            let asked = format!("GET http://localhost:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n");
            let said = tokio::time::timeout(Duration::from_secs(20), answer_to(&mesh, &asked)).await;
            assert!(said.unwrap().starts_with("GET http://localhost"), "{address}");
        }
    }

    fn mesh(directory: &std::path::Path, hold: Duration) -> (Arc<Mesh>, Tasks) {
        let (tasks, _) = Tasks::new();
        let env = Env::system();
        let start = serde_json::from_value(serde_json::json!({
            "key": foundry_sandbox::RuntimeKey::generate(&env).expose(), "sandbox": "sbx_1", "instance": "run1",
            "isolated": true,
        }));
        let proxy = Proxy { socket: directory.join("network.sock"), port: 1 };
        let mesh = Mesh { proxy, start: start.unwrap(), env, tasks: tasks.clone(), hold };
        (Arc::new(mesh), tasks)
    }

    #[tokio::test]
    async fn holds_a_connection_while_the_mesh_is_away_and_takes_it_up_when_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let (mesh, _tasks) = mesh(directory.path(), Duration::from_secs(30));
        let socket = mesh.proxy.socket.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        program.write_all(b"CONNECT example.org:443 HTTP/1.1\r\n\r\nmore").await.unwrap();
        let back = async {
            // One mesh that closes before it accepts the claim, and one that accepts it.
            for believes in [false, true] {
                let _ = std::fs::remove_file(&socket);
                let listener = tokio::net::UnixListener::bind(&socket).unwrap();
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = vec![0; 512];
                let length = stream.read(&mut line).await.unwrap();
                let text = std::str::from_utf8(&line[..length]).unwrap().trim_end();
                assert!(Claim::parse(text).unwrap().verify(&mesh.start.key));
                if believes {
                    stream.write_all(b"+").await.unwrap();
                    let mut head = Vec::new();
                    while !head.ends_with(b"more") {
                        stream.read_buf(&mut head).await.unwrap();
                    }
                    assert!(head.starts_with(b"CONNECT example.org:443"));
                    stream.write_all(b"yes").await.unwrap();
                }
            }
        };
        let mut answer = String::new();
        let (_, (), read) = tokio::join!(mesh.connection(near), back, async {
            let read = program.read_to_string(&mut answer).await;
            drop(program);
            read
        });
        read.unwrap();
        assert_eq!(answer, "yes");
    }

    #[tokio::test]
    async fn says_when_to_come_again_when_the_mesh_stays_away() {
        let directory = tempfile::tempdir().unwrap();
        let (mesh, _tasks) = mesh(directory.path(), Duration::from_millis(50));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        program.write_all(b"GET http://example.org/ HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let (done, read) = tokio::join!(mesh.connection(near), async {
            let read = program.read_to_string(&mut answer).await;
            drop(program);
            read
        });
        done.unwrap();
        read.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5\r\n"), "{answer}");
        assert!(answer.contains("NETWORK_UNREACHABLE"), "{answer}");
    }
}
