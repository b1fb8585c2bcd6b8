//! The older transport of MCP: the first event of a stream names the address for messages. The agent gets an address of
//! the gateway instead, which is valid for as long as the stream is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use foundry_core::Env;
use foundry_sandbox::key::nonce;
use memchr::memmem;
use url::Url;

use crate::BoxError;
use crate::access::McpAccess;

/// Most bytes that may come before the event that names the address.
const BEFORE: usize = 64 * 1024;

/// The servers' message addresses, by the names that were issued for them.
#[derive(Clone, Default)]
pub(crate) struct Endpoints(Arc<Mutex<HashMap<String, Endpoint>>>);

struct Endpoint {
    session: String,
    name: String,
    /// The address of the server that sent the event.
    base: Url,
    url: Url,
}

impl Endpoints {
    /// The address behind this name, if it belongs to this server: another one's secret must not be sent there.
    pub(super) fn find(&self, access: &McpAccess, name: &str, id: &str) -> Option<Url> {
        let all = self.lock();
        let found =
            all.get(id).filter(|e| e.session == access.session && e.name == name && e.base == access.url);
        found.map(|endpoint| endpoint.url.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Endpoint>> {
        // The map is whole after every change, so a panic leaves it usable.
        foundry_core::lock(&self.0)
    }
}

/// Replaces the server's address in the event by the gateway's. Dropping this invalidates the address.
pub(super) struct Rewriting {
    endpoints: Endpoints,
    /// The name of the address, never used again.
    id: String,
    session: String,
    name: String,
    base: Url,
    held: BytesMut,
    announced: bool,
}

impl Rewriting {
    pub(super) fn new(endpoints: &Endpoints, env: &Env, access: &McpAccess, name: &str) -> Self {
        Self {
            endpoints: endpoints.clone(),
            id: nonce(env),
            session: access.session.clone(),
            name: name.to_owned(),
            base: access.url.clone(),
            held: BytesMut::new(),
            announced: false,
        }
    }

    /// The part of the stream that may pass now.
    ///
    /// # Errors
    /// When messages would go to another server, which must not get the secret.
    pub(super) fn pass(&mut self, data: Bytes) -> Result<Bytes, BoxError> {
        if self.announced {
            return Ok(data);
        }
        self.held.extend_from_slice(&data);
        let mut out = BytesMut::new();
        while let Some(end) = end_of_event(&self.held) {
            let event = self.held.split_to(end);
            let Some(place) = endpoint_of(&event) else {
                out.extend_from_slice(&event);
                continue;
            };
            let url = self.base.join(&place)?;
            if url.origin() != self.base.origin() {
                return Err("the MCP server redirects messages to another server".into());
            }
            let (session, name, base) = (self.session.clone(), self.name.clone(), self.base.clone());
            let endpoint = Endpoint { session, name, base, url };
            self.endpoints.lock().insert(self.id.clone(), endpoint);
            self.announced = true;
            let line = format!("event: endpoint\ndata: /mcp/{}/{}\n\n", self.name, self.id);
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(&self.held.split());
            break;
        }
        if self.held.len() > BEFORE {
            return Err("the MCP server did not announce its message endpoint".into());
        }
        Ok(out.freeze())
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.endpoints.lock().remove(&self.id);
    }
}

fn end_of_event(data: &[u8]) -> Option<usize> {
    let ends = ["\n\n", "\r\n\r\n"].map(|end| memmem::find(data, end.as_bytes()).map(|at| at + end.len()));
    ends.into_iter().flatten().min()
}

/// The address in an event that names one.
fn endpoint_of(event: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(event).ok()?;
    let field = |name: &str| {
        let of = |line: &'_ str| line.strip_prefix(name)?.strip_prefix(':').map(str::trim).map(str::to_owned);
        text.lines().find_map(of)
    };
    (field("event")? == "endpoint").then(|| field("data")).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(session: &str, url: &str) -> McpAccess {
        McpAccess {
            session: session.to_owned(),
            url: url.parse().unwrap(),
            headers: Vec::new(),
            events: true,
            network: foundry_sandbox::Network::Host,
        }
    }

    const URL: &str = "https://mcp.corp/base/sse?tenant=7";

    fn rewriting(endpoints: &Endpoints) -> Rewriting {
        Rewriting::new(endpoints, &Env::system(), &access("s1", URL), "files")
    }

    #[test]
    fn tells_a_place_of_the_gateway_however_the_stream_is_cut() {
        let stream = b": hello\r\n\r\nevent: endpoint\r\ndata: /messages?id=1\r\n\r\ndata: more\r\n\r\n";
        for at in 0..stream.len() {
            let (endpoints, mut out) = (Endpoints::default(), Vec::new());
            let mut rewriting = rewriting(&endpoints);
            for piece in [&stream[..at], &stream[at..]] {
                out.extend(rewriting.pass(Bytes::copy_from_slice(piece)).unwrap());
            }
            let id = rewriting.id.clone();
            let wanted =
                format!(": hello\r\n\r\nevent: endpoint\ndata: /mcp/files/{id}\n\ndata: more\r\n\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "cut at {at}");
            let found = |session, url, name| {
                endpoints.find(&access(session, url), name, &id).map(|url| url.to_string())
            };
            assert_eq!(found("s1", URL, "files").as_deref(), Some("https://mcp.corp/messages?id=1"));
            assert_eq!((found("s2", URL, "files"), found("s1", URL, "other")), (None, None));
            assert_eq!(found("s1", "https://mcp.corp/base/sse?tenant=8", "files"), None, "it was moved");
            drop(rewriting);
            assert_eq!(found("s1", URL, "files"), None, "the stream has ended");
        }
    }

    #[test]
    fn sends_no_message_to_another_server() {
        let endpoints = Endpoints::default();
        for place in
            ["https://evil.example/m", "//evil.example/m", "http://mcp.corp/m", "https://mcp.corp:444/"]
        {
            let event = format!("event: endpoint\ndata: {place}\n\n");
            assert!(rewriting(&endpoints).pass(event.into()).is_err(), "{place}");
        }
        assert!(rewriting(&endpoints).pass(vec![b'x'; BEFORE + 1].into()).is_err());
        assert!(endpoints.lock().is_empty());
    }
}
