//! The request to the provider: address, headers, key.

use foundry_http_client::drop_hop_by_hop;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

use crate::access::{Access, Credential, Kind};
use crate::route::Route;
use crate::secret;
use crate::shape::Family;

/// The header in which an agent's SDK sends its key, besides `authorization`.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The header in which Google's SDK sends it.
pub(crate) const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
/// Bearer tokens of Anthropic's own sign-in have this prefix, and are accepted only with this beta.
const OAUTH: (&str, &str) = ("sk-ant-oat", "oauth-2025-04-20");

/// The address of a route at a provider. Base URLs end with the version or without it; for OpenAI's API, a base URL
/// with a path is complete, as in other programs.
pub(crate) fn address(access: &Access, family: Family, route: &Route, query: Option<&str>) -> Url {
    let mut url = access.base_url.clone();
    let base = url.path().trim_end_matches('/').to_owned();
    let complete = match family {
        Family::OpenAi => !base.is_empty(),
        Family::Anthropic | Family::Gemini => base.rsplit('/').next().is_some_and(is_version),
    };
    let version = match family {
        Family::Gemini => route.version.unwrap_or("v1beta"),
        Family::Anthropic | Family::OpenAi => "v1",
    };
    let path =
        if complete { format!("{base}/{}", route.rest) } else { format!("{base}/{version}/{}", route.rest) };
    url.set_path(&path);
    let own = url.query().map(str::to_owned);
    let query: Vec<&str> = own.iter().map(String::as_str).chain(query).filter(|q| !q.is_empty()).collect();
    url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
    url
}

/// Whether a path segment is a version such as `v1`, `v1beta`, `v4`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The agent's headers with the provider's key in place of the token.
pub(crate) fn headers(access: &Access, family: Family, mut headers: HeaderMap) -> HeaderMap {
    drop_hop_by_hop(&mut headers);
    for name in [
        header::HOST,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::AUTHORIZATION,
        X_API_KEY,
        X_GOOG_API_KEY,
        crate::proof::HEADER,
    ] {
        headers.remove(name);
    }
    // Usage is parsed from the answer, so the answer must not be compressed.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let (name, value) = match (&access.credential, access.kind) {
        (Credential::None, _) => (header::AUTHORIZATION, None),
        (Credential::Key(key), Kind::Anthropic) => (X_API_KEY, secret::header(key, "")),
        (Credential::Key(key), Kind::Gemini) => (X_GOOG_API_KEY, secret::header(key, "")),
        (Credential::Key(key) | Credential::Bearer(key), _) => {
            (header::AUTHORIZATION, secret::header(key, "Bearer "))
        }
    };
    if let Some(value) = value {
        headers.insert(name, value);
    }
    if let (Credential::Bearer(token), Family::Anthropic) = (&access.credential, family)
        && secret::text(token).starts_with(OAUTH.0)
    {
        add_beta(&mut headers);
    }
    for (name, value) in &access.headers {
        if let Some(value) = secret::header(value, "") {
            headers.insert(name.clone(), value);
        }
    }
    headers
}

fn add_beta(headers: &mut HeaderMap) {
    let has =
        |value: &HeaderValue| value.to_str().is_ok_and(|v| v.split(',').any(|beta| beta.trim() == OAUTH.1));
    if !headers.get_all(ANTHROPIC_BETA).iter().any(has) {
        headers.append(ANTHROPIC_BETA, HeaderValue::from_static(OAUTH.1));
    }
}

/// The token of a sandbox, in any place where an SDK sends it, and the query without it.
pub(crate) fn token(headers: &HeaderMap, query: Option<&str>) -> (Option<String>, Option<String>) {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let bearer = text(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let is_key = |part: &&str| part.starts_with("key=");
    let in_query = query.and_then(|q| q.split('&').find(is_key)).and_then(|part| {
        let decoded = percent_encoding::percent_decode_str(part.strip_prefix("key=")?);
        decoded.decode_utf8().ok().map(std::borrow::Cow::into_owned)
    });
    // An SDK may send another key as well: the first of these that is set is the token.
    let token = [bearer, text(X_API_KEY), text(X_GOOG_API_KEY)].into_iter().flatten().find(|t| !t.is_empty());
    let token = token.map(str::to_owned).or(in_query.filter(|t| !t.is_empty()));
    let rest = query.map(|q| q.split('&').filter(|part| !is_key(part)).collect::<Vec<_>>().join("&"));
    (token, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Owner;
    use foundry_secrets::Secret;
    use http::Method;

    fn access(kind: Kind, base: &str, credential: Credential) -> Access {
        Access {
            kind,
            base_url: Url::parse(base).unwrap(),
            headers: Vec::new(),
            credential,
            models: Vec::new(),
            owner: Owner::default(),
            held_until: None,
            limits: Vec::new(),
            prices: Vec::new(),
        }
    }

    #[test]
    fn joins_the_path_onto_base_urls_as_people_write_them() {
        for (kind, base, path, expected) in [
            (
                Kind::Anthropic,
                "https://api.anthropic.com",
                "/v1/messages",
                "https://api.anthropic.com/v1/messages",
            ),
            (
                Kind::Anthropic,
                "https://llm.corp/anthropic/",
                "/v1/messages",
                "https://llm.corp/anthropic/v1/messages",
            ),
            (Kind::Anthropic, "https://llm.corp/v1", "/anthropic/messages", "https://llm.corp/v1/messages"),
            (
                Kind::OpenAi,
                "https://api.openai.com/v1",
                "/v1/responses",
                "https://api.openai.com/v1/responses",
            ),
            (
                Kind::OpenAi,
                "https://api.openai.com",
                "/openai/responses",
                "https://api.openai.com/v1/responses",
            ),
            (
                Kind::OpenAiCompatible,
                "http://localhost:11434",
                "/v1/chat/completions",
                "http://localhost:11434/v1/chat/completions",
            ),
            (
                Kind::OpenAiCompatible,
                "https://g.corp/v1beta/openai/",
                "/v1/chat/completions",
                "https://g.corp/v1beta/openai/chat/completions",
            ),
            (
                Kind::OpenAiCompatible,
                "https://x.corp/openai/v1?api-version=7",
                "/v1/chat/completions",
                "https://x.corp/openai/v1/chat/completions?api-version=7&beta=true",
            ),
            (
                Kind::Gemini,
                "https://generativelanguage.googleapis.com",
                "/gemini/models/g:generateContent",
                "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent",
            ),
            (
                Kind::Gemini,
                "https://g.corp/v1beta",
                "/v1beta/models/g:countTokens",
                "https://g.corp/v1beta/models/g:countTokens",
            ),
        ] {
            let route = Route::of(&Method::POST, path).unwrap();
            let access = access(kind, base, Credential::None);
            let family = route.served_by(kind).unwrap();
            let query = base.contains('?').then_some("beta=true");
            assert_eq!(address(&access, family, &route, query).as_str(), expected);
        }
    }

    #[test]
    fn finds_the_token_where_each_sdk_puts_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers, None), (None, None));
        let taken = token(&headers, Some("alt=sse&key=tok%2D1&x=1"));
        assert_eq!(taken, (Some("tok-1".to_owned()), Some("alt=sse&x=1".to_owned())));
        for name in ["x-api-key", "x-goog-api-key"] {
            headers.clear();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("tok"));
            assert_eq!(token(&headers, None).0.as_deref(), Some("tok"));
        }
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer first"));
        assert_eq!(token(&headers, None).0.as_deref(), Some("first"));
    }

    #[test]
    fn adds_the_beta_that_an_oauth_token_needs_beside_the_agents_own() {
        let access = access(Kind::Anthropic, "https://a", Credential::Bearer(Secret::new("sk-ant-oat01-x")));
        let mut sent = HeaderMap::new();
        sent.insert(ANTHROPIC_BETA, HeaderValue::from_static("context-1m"));
        let sent = headers(&access, Family::Anthropic, sent);
        let betas: Vec<_> = sent.get_all(ANTHROPIC_BETA).iter().collect();
        assert_eq!(betas, ["context-1m", "oauth-2025-04-20"]);
    }
}
