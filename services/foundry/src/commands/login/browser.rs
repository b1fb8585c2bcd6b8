//! Sign-in by a browser on this machine (RFC 8252): it brings a code back to a port that only this program listens on. The
//! code is worth nothing without the secret that never leaves this process (PKCE), so no other program can use it.

use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_core::{Clock, Env};
use foundry_proto::auth::v1::{CompleteProgramSignInRequest, LoopbackReturn};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use super::program;
use crate::cli::Global;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// How long a browser may take to send its request.
const REQUEST: Duration = Duration::from_secs(5);
/// Longest head of a request that is read.
const MAX_HEAD: usize = 16 << 10;
/// Most connections that are held at once. Browsers open some that they never use.
const MAX_CONNECTIONS: usize = 32;

const DONE: &str = "You are signed in. You can close this tab and go back to the terminal.";
const FAILED: &str = "The sign-in failed. The terminal says why.";
const DENIED: &str = "The sign-in was denied. You can close this tab.";

/// What the browser brings.
#[derive(Debug, PartialEq, Eq)]
enum Brought {
    Code(String),
    Denied,
}

/// Shows where to confirm, and waits for the browser to come back.
pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let gateway = Gateway::anonymous(global)?;
    let env = Env::system();
    let [state, verifier] = std::array::from_fn(|_| secret(&env));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let loopback = LoopbackReturn {
        redirect_uri: format!("http://127.0.0.1:{}/", listener.local_addr()?.port()),
        state: state.clone(),
        code_challenge: URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())),
    };
    let begun = program::begin(global, &gateway, Some(loopback)).await?;
    // Beside the result, which programs read from the standard output.
    eprintln!("Open this address in a browser on this machine to sign in:");
    eprintln!("  {}", output::inert(&begun.verification_address));
    eprintln!("Without a browser here, use `foundry login --device`.");
    let (mut browser, brought) = program::in_time(&*env.clock, come_back(&listener, &state)).await?;
    let code = match brought {
        Brought::Code(code) => code,
        Brought::Denied => {
            answer(&mut browser, "200 OK", DENIED).await;
            return Err(Failure::new("the sign-in was denied in the browser"));
        }
    };
    let request = CompleteProgramSignInRequest {
        program_sign_in_id: begun.program_sign_in_id,
        code,
        code_verifier: verifier,
        ..Default::default()
    };
    let done = gateway.auth().complete_program_sign_in(request).await.map_err(Failure::from);
    let kept = match done {
        Ok(done) => program::keep(global, done.get_ref()).await,
        Err(failure) => Err(failure),
    };
    answer(&mut browser, "200 OK", if kept.is_ok() { DONE } else { FAILED }).await;
    kept
}

/// 256 random bits as text.
fn secret(env: &Env) -> String {
    let mut bytes = [0u8; 32];
    env.random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Waits for the browser that has this state; all others get nothing.
async fn come_back(listener: &TcpListener, state: &str) -> Result<(TcpStream, Brought), Failure> {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                let (stream, _) = accepted?;
                open.spawn(read(stream, Env::system().clock));
            }
            Some(ended) = open.join_next() => {
                let Ok(Some((mut stream, target))) = ended else { continue };
                match brought(&target, state) {
                    Some(brought) => return Ok((stream, brought)),
                    None => answer(&mut stream, "404 Not Found", "There is nothing here.").await,
                }
            }
        }
    }
}

/// Reads the head of a request; the target if it is a `GET`.
async fn read(mut stream: TcpStream, clock: std::sync::Arc<dyn Clock>) -> Option<(TcpStream, String)> {
    let head = async {
        let (mut head, mut part) = (Vec::new(), [0u8; 2_048]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
            head.extend_from_slice(&part[..count]);
            if head.len() > MAX_HEAD {
                return None;
            }
        }
        Some(head)
    };
    let head = tokio::select! {
        head = head => head?,
        () = clock.sleep(REQUEST) => return None,
    };
    let text = String::from_utf8(head).ok()?;
    let target = text.lines().next()?.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    Some((stream, target))
}

/// What a target brings; none for one without the state, or with a parameter twice.
fn brought(target: &str, state: &str) -> Option<Brought> {
    let url = Url::parse("http://127.0.0.1/").ok()?.join(target).ok()?;
    if url.path() != "/" || !target.starts_with("/?") {
        return None;
    }
    let one = |name: &str| {
        let mut values = url.query_pairs().filter(|(n, _)| n == name).map(|(_, value)| value.into_owned());
        let first = values.next()?;
        values.next().is_none().then_some(first)
    };
    // Another program can find the port, but not the state.
    if one("state")? != state {
        return None;
    }
    match (one("code"), one("error")) {
        (Some(code), None) => Some(Brought::Code(code)),
        (None, Some(_)) => Some(Brought::Denied),
        _ => None,
    }
}

/// Sends a page of one sentence; a browser that is gone does not matter.
async fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let body = format!("<!doctype html><meta charset=utf-8><title>Foundry</title><p>{text}</p>");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nCache-Control: no-store\r\n\
         Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_counts_with_the_state_only_and_at_one_path() {
        let code = Some(Brought::Code("c".into()));
        assert_eq!(brought("/?code=c&state=s", "s"), code);
        assert_eq!(brought("/?error=access_denied&state=s", "s"), Some(Brought::Denied));
        for other in [
            "/?code=c",
            "/?code=c&state=other",
            "/?code=c&state=s&state=s",
            "/?code=c&code=d&state=s",
            "/?code=c&error=e&state=s",
            "/?state=s",
            "/x?code=c&state=s",
            "//evil.example/?code=c&state=s",
            "http://evil.example/?code=c&state=s",
            "/favicon.ico",
            "",
        ] {
            assert_eq!(brought(other, "s"), None, "{other}");
        }
    }

    #[tokio::test]
    async fn connections_without_a_request_and_with_others_do_not_keep_the_browser_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _idle = TcpStream::connect(address).await.unwrap();
        let wrong = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /?code=c&state=guess HTTP/1.1\r\n\r\n").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with("HTTP/1.1 404"), "{text}");
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /?code=c&state=right HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            stream
        };
        let (came, _stream) = tokio::join!(come_back(&listener, "right"), wrong);
        assert_eq!(came.unwrap().1, Brought::Code("c".into()));
    }
}
