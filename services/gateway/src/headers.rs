//! The headers that may pass the edge.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Prefixes of headers between services, which clients neither send nor receive.
const INTERNAL: [&str; 2] = ["foundry-", "x-foundry-"];

/// Headers that concern one connection, or HTTP at the edge only.
const LOCAL: [HeaderName; 14] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::HOST,
    header::COOKIE,
    header::ORIGIN,
    header::REFERER,
    header::ACCEPT_ENCODING,
    header::FORWARDED,
];
const LOCAL_UNNAMED: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Removes all headers that are not from the caller to the service, and those that only the mesh may set.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    remove_connection(headers);
    remove_all(headers, |name| is_internal(name) || name.starts_with("sec-"));
    // gRPC requires it from every client, and a proxy is a client.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// Removes all headers that are not from the service to the caller, from a response's head or its trailers.
pub(crate) fn clean_answer(headers: &mut HeaderMap) {
    remove_connection(headers);
    // The cookies of this origin belong to the gateway.
    remove_all(headers, |name| is_internal(name) || name == header::SET_COOKIE.as_str());
}

fn is_internal(name: &str) -> bool {
    INTERNAL.iter().any(|prefix| name.starts_with(prefix))
}

fn remove_all(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn remove_connection(headers: &mut HeaderMap) {
    // A sender may name further headers for the next hop only, but not those that gRPC needs.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::AUTHORIZATION && *name != header::CONTENT_TYPE)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in LOCAL {
        headers.remove(name);
    }
    for name in LOCAL_UNNAMED {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_client_cannot_speak_as_the_mesh() {
        let mut it = headers(&[
            ("x-foundry-anything", "1"),
            ("foundry-client-peer", "loopback"),
            ("foundry-on-behalf-of", "usr_1"),
            ("x-request-id", "r1"),
            ("grpc-timeout", "1S"),
            ("cookie", "a=b"),
        ]);
        clean_request(&mut it);
        let mut kept: Vec<_> = it.keys().map(HeaderName::as_str).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["grpc-timeout", "te", "x-request-id"]);
    }

    #[test]
    fn nobody_outside_hears_what_the_mesh_says_to_itself() {
        let mut it = headers(&[
            ("foundry-session-set", "1 fds_secret"),
            ("x-foundry-session-key", "forged"),
            ("set-cookie", "a=b"),
            ("grpc-status", "0"),
        ]);
        clean_answer(&mut it);
        assert_eq!(it.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
    }

    #[test]
    fn what_is_for_the_next_hop_alone_stays_there() {
        let mut it =
            headers(&[("connection", "x-mine, close"), ("x-mine", "1"), ("transfer-encoding", "chunked")]);
        it.insert("authorization", HeaderValue::from_static("Bearer t"));
        it.append("connection", HeaderValue::from_static("authorization"));
        clean_request(&mut it);
        assert!(it.contains_key("authorization"));
        assert!(!it.contains_key("x-mine") && !it.contains_key("transfer-encoding"));
    }
}
