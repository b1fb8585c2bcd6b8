//! Which headers pass between an agent and an MCP server.

use foundry_http_client::drop_hop_by_hop;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::access::McpAccess;
use crate::classify;
use crate::secret;

/// What an agent may send, besides all that begins with `mcp-`: a server may trust other headers from the holder of its
/// secret.
const TO_SERVER: [HeaderName; 6] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::USER_AGENT,
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
];

/// The agent's headers that pass, with those configured in the profile.
pub(super) fn to_server(access: &McpAccess, headers: &HeaderMap) -> HeaderMap {
    let passes = |name: &HeaderName| TO_SERVER.contains(name) || name.as_str().starts_with("mcp-");
    let mut sent: HeaderMap =
        headers.iter().filter(|(name, _)| passes(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    // The gateway parses the older transport's events and refusals, so they must not be compressed.
    sent.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in &access.headers {
        if let Some(value) = secret::header(value, "") {
            sent.insert(name.clone(), value);
        }
    }
    sent
}

/// Removes headers that concern one connection, sign a client in, or repeat a secret.
pub(super) fn from_server(access: &McpAccess, headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
    for name in [header::SET_COOKIE, header::WWW_AUTHENTICATE, header::LOCATION, header::ALT_SVC] {
        headers.remove(name);
    }
    let tells =
        |value: &HeaderValue| value.to_str().is_ok_and(|v| classify::without(access.secrets(), v).is_some());
    let telling: Vec<_> = headers.iter().filter(|(_, v)| tells(v)).map(|(n, _)| n.clone()).collect();
    for name in telling {
        headers.remove(name);
    }
}
