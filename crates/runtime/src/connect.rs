//! `internal connect HOST PORT`: connects standard input and output through the sandbox's proxy, for ssh's
//! `ProxyCommand` and other programs that take such a command.

use std::io::{self, Write as _};
use std::net::Ipv4Addr;

use foundry_sandbox::PROXY_PORT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest head of the proxy's answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How much of a refusal's text is shown, in bytes.
const MAX_TEXT: usize = 4 * 1024;

/// Exit code 0 when the other side has closed, 1 for a refusal, 64 for wrong arguments.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let [host, port] = arguments else { return 64 };
    let Ok(port) = port.parse::<u16>() else { return 64 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.and_then(|runtime| {
        let done = runtime.block_on(connect(host, port));
        // Standard input is read by a thread that may wait for ever.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => 0,
        Err(e) => {
            let _ = writeln!(io::stderr(), "foundry connect: {e}");
            1
        }
    }
}

async fn connect(host: &str, port: u16) -> io::Result<()> {
    let without = |e| io::Error::other(format!("this sandbox has no proxy on port {PROXY_PORT}: {e}"));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PROXY_PORT)).await.map_err(without)?;
    let _ = stream.set_nodelay(true);
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let end = loop {
        if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::other("the proxy of this sandbox does not respond"));
        }
    };
    let rest = head.split_off(end);
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    if line.split(' ').nth(1) != Some("200") {
        let mut text = rest;
        // The connection stays open after a refusal, so the text ends by its length.
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length =
            head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let length = length.unwrap_or_default().min(MAX_TEXT);
        while text.len() < length && stream.read_buf(&mut text).await? > 0 {}
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(io::Error::other(if text.is_empty() { line } else { text }));
    }
    let (mut from, mut to) = stream.split();
    let inward = async {
        let mut output = tokio::io::stdout();
        output.write_all(&rest).await?;
        output.flush().await?;
        tokio::io::copy(&mut from, &mut output).await?;
        output.flush().await
    };
    let outward = async {
        if tokio::io::copy(&mut tokio::io::stdin(), &mut to).await.is_ok() {
            let _ = to.shutdown().await;
        }
        // The other side decides when the connection ends.
        std::future::pending().await
    };
    tokio::select! {
        done = inward => done,
        never = outward => never,
    }
}
