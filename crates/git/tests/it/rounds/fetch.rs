//! What a real `git fetch` of served work gives: a small HTTP server on the loopback address, for one client at a time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use bytes::Bytes;
use foundry_git::{
    CommitId, FetchProtocol, GitError, Mirror, MirrorLimits, Piped, RunLimits, ServedWork, WorkName,
};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Fetches the work as a user does, into an empty repository, and returns that with the commit.
pub async fn fetched(
    mirror: &Mirror,
    work: &WorkName,
    head: &CommitId,
    world: &Path,
) -> Result<(Mirror, String), String> {
    let into = world.join("fetched");
    // From the hand-over before.
    let _ = std::fs::remove_dir_all(&into);
    git(world, &["init", "-q", "--bare", "fetched"]).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
    let url = format!("http://{}/work", listener.local_addr().map_err(|e| e.to_string())?);
    let reference = format!("refs/foundry/tasks/{}", work.as_str());
    let served = ServedWork { name: work.clone(), branch: None, head: head.clone() };
    let served = mirror.served_refs(&[served], true).await.map_err(|e| e.to_string())?;
    let map = format!("{reference}:{reference}");
    let args = ["fetch", "-q", &url, &map];
    let mut client = std::pin::pin!(git(&into, &args));
    loop {
        tokio::select! {
            ended = &mut client => {
                ended?;
                break;
            }
            accepted = listener.accept() => {
                let stream = accepted.and_then(|(stream, _)| stream.into_std()).map_err(|e| e.to_string())?;
                stream.set_nonblocking(false).map_err(|e| e.to_string())?;
                answer(mirror, &served, stream, world).await?;
            }
        }
    }
    let tip = git(&into, &["rev-parse", &reference]).await?;
    let fetched = Mirror::open(mirror.git(), into.clone(), MirrorLimits::default()).await;
    Ok((fetched.map_err(|e| e.to_string())?, tip))
}

async fn git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let out = Command::new("git")
        .args(["-c", "http.proxy=", "-c", "protocol.version=2"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", dir)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(format!("git {args:?}: {said}")),
    }
}

/// Answers one request, and closes the connection.
async fn answer(
    mirror: &Mirror,
    served: &foundry_git::ServedRefs,
    mut stream: TcpStream,
    scratch: &Path,
) -> Result<(), String> {
    let (first, body) = read(&stream).map_err(|e| e.to_string())?;
    let (protocol, limits) = (FetchProtocol::V2, RunLimits { stdout: 1 << 30, ..RunLimits::default() });
    let (kind, piped) = match first.starts_with("GET ") {
        true => ("advertisement", mirror.advertise(served, protocol, scratch, limits).await),
        false => ("result", mirror.answer_fetch(served, protocol, &body, scratch, limits).await),
    };
    let sent = all(piped.map_err(|e| e.to_string())?).await.map_err(|e| format!("{e}: {}", e.stderr()))?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        sent.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&sent)).map_err(|e| e.to_string())
}

async fn all(mut piped: Piped) -> Result<Vec<u8>, GitError> {
    let mut out = Vec::new();
    while let Some(piece) = piped.next().await? {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

/// The first line of a request, and its body.
fn read(stream: &TcpStream) -> std::io::Result<(String, Bytes)> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut size) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(given) = line.strip_prefix("content-length:") {
            size = given.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; size];
    reader.read_exact(&mut body)?;
    Ok((first, body.into()))
}
