//! MCP servers over HTTP: `/mcp/NAME` is the server of that name in the profile of the token's session. Its secrets are
//! added here, so that they are never in a sandbox; the agent cannot change the destination of a call.

mod endpoint;
mod headers;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use foundry_core::Env;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Full};
use url::Url;

use crate::access::{Ledger, McpAccess, McpRefused, place};
use crate::bodies;
use crate::classify;
use crate::connection_slots;
use crate::gateway::{ACCESS, Gateway};
use crate::proof::SandboxProof;
use crate::shape::{Problem, Retry};
use crate::silence::Silence;
use crate::upstream;
use crate::{Body, BoxError};

pub(crate) use endpoint::Endpoints;
use endpoint::Rewriting;
use stream::Stream;

/// The longest wait for the head of an answer, or for its next event: tools may work for long without output.
const ANSWER: Duration = Duration::from_secs(3600);
/// At most this much of a refusal is read, for at most [`READING`].
const READ: usize = 64 * 1024;
const READING: Duration = Duration::from_secs(2);
/// Pause between two checks whether a session may still use the server of an open stream.
const LOOK: Duration = Duration::from_secs(60);

/// The parts of a request's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    name: &'a str,
    /// The name of a message address in the older transport, as issued by [`Endpoints`].
    messages: Option<&'a str>,
}

impl<'a> Path<'a> {
    /// `None` for a path that is not served. Nothing is decoded or normalized.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/mcp/")?;
        let (name, messages) = match rest.split_once('/') {
            Some((name, id)) => (name, Some(id)),
            None => (rest, None),
        };
        let plain = |text: &str| {
            (1..=64).contains(&text.len())
                && !text.bytes().all(|b| b == b'.')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        (plain(name) && messages.is_none_or(plain)).then_some(Self { name, messages })
    }
}

/// The token and the server of a call.
struct Caller {
    ledger: Arc<dyn Ledger>,
    env: Env,
    token: String,
    proof: Option<SandboxProof>,
    name: String,
}

impl Caller {
    async fn access(&self) -> Result<McpAccess, McpRefused> {
        let asked = self.ledger.mcp(&self.token, self.proof.as_ref(), &self.name);
        match tokio::time::timeout(ACCESS, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(McpRefused::Unavailable("the token was not checked within ten seconds".to_owned())),
        }
    }

    async fn client(&self, access: &McpAccess) -> Result<reqwest::Client, McpRefused> {
        match tokio::time::timeout(ACCESS, self.ledger.mcp_client(access)).await {
            Ok(client) => client,
            Err(_) => Err(McpRefused::Unreachable("its name was not resolved within ten seconds".to_owned())),
        }
    }

    /// Completes once the session may no longer use the server in its configuration at the start of the call: it was
    /// removed, moved, or got other headers.
    async fn over(self, then: McpAccess) {
        loop {
            self.env.clock.sleep(LOOK).await;
            match self.access().await {
                Ok(now) if now.url == then.url && now.headers == then.headers => {}
                Ok(_) | Err(McpRefused::Token | McpRefused::Unknown) => return,
                // The state is unknown now, so the stream continues.
                Err(McpRefused::Unreachable(_) | McpRefused::Unavailable(_)) => {}
            }
        }
    }
}

impl Gateway {
    /// Answers a call of an agent to an MCP server.
    pub(crate) async fn mcp<B>(&self, parts: Parts, body: B) -> Response<Body>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        match self.mcp_answer(parts, &mut body).await {
            Ok(answer) => answer,
            Err(problem) => {
                if let Some(body) = body {
                    bodies::drain(body).await;
                }
                whole(problem.status, problem.headers(), problem.rpc())
            }
        }
    }

    async fn mcp_answer<B>(&self, parts: Parts, body: &mut Option<B>) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let path = Path::of(parts.uri.path()).ok_or_else(unknown)?;
        let caller = Caller {
            ledger: self.0.ledger.clone(),
            env: self.0.env.clone(),
            token: upstream::token(&parts.headers, None).0.ok_or_else(token_refused)?,
            proof: SandboxProof::from_headers(&parts.headers).map_err(|_| token_refused())?,
            name: path.name.to_owned(),
        };
        let access = caller.access().await.map_err(|refused| problem(refused, path.name))?;
        // Before a name is resolved: a connection that has proved nothing may be dropped.
        connection_slots::take(&parts, &access.session)?;
        let target = self.target(&access, path, &parts.method)?;
        let client = caller.client(&access).await.map_err(|refused| problem(refused, path.name))?;
        let sent = headers::to_server(&access, &parts.headers);
        let mut request = client.request(parts.method.clone(), target).headers(sent);
        let mut taken = None;
        if let Some(body) = body.take()
            && parts.method == Method::POST
        {
            let announced =
                parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
            let whole = self.0.messages.take(&access.session, announced, body).await?;
            request = request.body(whole.bytes.clone());
            taken = Some(whole);
        }
        let answer = tokio::select! {
            answer = request.send() => answer,
            () = self.0.env.clock.sleep(ANSWER) => return Err(silent(path.name)),
        };
        drop(taken);
        let answer: Response<reqwest::Body> = match answer {
            Ok(answer) => answer.into(),
            Err(error) => {
                return Err(unreachable(classify::no_answer(&error, &place(&access.url)).1));
            }
        };
        let (mut head, upstream) = answer.into_parts();
        headers::from_server(&access, &mut head.headers);
        if !head.status.is_success() {
            return self.refused(&access, path.name, head, upstream).await;
        }
        let rewriting = (access.events && parts.method == Method::GET).then(|| {
            head.headers.remove(header::CONTENT_LENGTH);
            Rewriting::new(&self.0.endpoints, &self.0.env, &access, path.name)
        });
        let silence = self.silence(&parts.method, &head.headers);
        let silence =
            silence.map(|limit| Silence::new(&self.0.env, format!("the MCP server {}", path.name), limit));
        let stream = Stream::new(upstream, rewriting, silence, Box::pin(caller.over(access)));
        Ok(Response::from_parts(head, stream.boxed_unsync()))
    }

    /// How long an answer may pause after its head. A stream on which a server sends notifications may be silent for
    /// ever; one with the answer of a tool may be silent for as long as the tool may work.
    fn silence(&self, method: &Method, head: &HeaderMap) -> Option<Duration> {
        let kind = head.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match (method, kind.starts_with("text/event-stream")) {
            (&Method::GET, true) => None,
            (_, true) => Some(ANSWER),
            (_, false) => Some(self.settings().silence),
        }
    }

    /// The address for a call.
    fn target(&self, access: &McpAccess, path: Path<'_>, method: &Method) -> Result<Url, Problem> {
        match (path.messages, access.events) {
            (None, false) if [Method::GET, Method::POST, Method::DELETE].contains(method) => {
                Ok(access.url.clone())
            }
            (None, true) if method == Method::GET => Ok(access.url.clone()),
            (Some(id), true) if method == Method::POST => {
                self.0.endpoints.find(access, path.name, id).ok_or_else(unknown)
            }
            (Some(_), false) => Err(unknown()),
            _ => Err(Problem {
                status: StatusCode::METHOD_NOT_ALLOWED,
                reason: "METHOD_NOT_ALLOWED",
                words: format!("the MCP server {} does not support {method} here", path.name),
                retry: Retry::Never,
            }),
        }
    }

    /// Passes on a server's refusal without any secret it repeats. A status that asks for a sign-in does not pass: the
    /// agent has no account at the server.
    async fn refused(
        &self,
        access: &McpAccess,
        name: &str,
        head: http::response::Parts,
        upstream: reqwest::Body,
    ) -> Result<Response<Body>, Problem> {
        if head.status.is_redirection() {
            let place = place(&access.url);
            return Err(unreachable(format!(
                "{place} redirects; set the URL of the MCP server {name} to the final address"
            )));
        }
        if matches!(head.status.as_u16(), 401 | 407) {
            return Err(Problem {
                status: StatusCode::FORBIDDEN,
                reason: "MCP_SECRET_REFUSED",
                words: format!("the MCP server {name} rejected the headers from the profile"),
                retry: Retry::Never,
            });
        }
        let read = self.beginning(upstream).await;
        let clean =
            std::str::from_utf8(&read).ok().and_then(|text| classify::without(access.secrets(), text));
        let mut headers = head.headers;
        headers.remove(header::CONTENT_LENGTH);
        Ok(whole(head.status, headers, clean.map_or(read, Bytes::from)))
    }

    async fn beginning(&self, mut body: reqwest::Body) -> Bytes {
        let mut all = BytesMut::new();
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                all.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                if all.len() >= READ {
                    all.truncate(READ);
                    break;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = self.0.env.clock.sleep(READING) => {}
        }
        all.freeze()
    }
}

fn whole(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn problem(refused: McpRefused, name: &str) -> Problem {
    match refused {
        McpRefused::Token => token_refused(),
        McpRefused::Unknown => unknown(),
        McpRefused::Unreachable(words) => unreachable(format!("the MCP server {name}: {words}")),
        McpRefused::Unavailable(why) => {
            tracing::warn!(why, "an MCP server of a session cannot be looked up");
            bodies::busy("its token cannot be checked")
        }
    }
}

/// Not 401: the agent's MCP client would start a sign-in, and there is none here.
fn token_refused() -> Problem {
    Problem {
        status: StatusCode::FORBIDDEN,
        reason: "MODEL_TOKEN_REFUSED",
        words: "the token does not belong to this sandbox, or the sandbox has ended".to_owned(),
        retry: Retry::Never,
    }
}

fn unknown() -> Problem {
    Problem {
        status: StatusCode::NOT_FOUND,
        reason: "MCP_SERVER_UNKNOWN",
        words: "the profile of this session has no such MCP server".to_owned(),
        retry: Retry::Never,
    }
}

fn unreachable(words: String) -> Problem {
    Problem { status: StatusCode::BAD_GATEWAY, reason: "MCP_SERVER_UNREACHABLE", words, retry: Retry::Free }
}

fn silent(name: &str) -> Problem {
    let words = format!("the MCP server {name} has not responded for {} s", ANSWER.as_secs());
    Problem { status: StatusCode::GATEWAY_TIMEOUT, ..unreachable(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_server_and_nothing_else() {
        for (path, name, messages) in [
            ("/mcp/files", "files", None),
            ("/mcp/my.files-2_x", "my.files-2_x", None),
            ("/mcp/files/0f", "files", Some("0f")),
        ] {
            assert_eq!(Path::of(path), Some(Path { name, messages }), "{path}");
        }
        for path in [
            "/mcp/",
            "/mcp",
            "/mcp//",
            "/mcp/..",
            "/mcp/./x",
            "/mcp/files/",
            "/mcp/files/..",
            "/mcp/files/../admin",
            "/mcp/files/a/b",
            "/mcp/%66iles",
            "/mcp/files%2f..",
            "/mcp/a\\b",
            "/MCP/files",
            "//mcp/files",
            "/v1/mcp/files",
            "/.well-known/oauth-protected-resource/mcp/files",
        ] {
            assert_eq!(Path::of(path), None, "{path}");
        }
    }
}
