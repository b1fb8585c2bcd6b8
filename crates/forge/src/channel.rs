//! The way to the API of a host: every call of every forge goes through here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Clock, Timestamp};
use foundry_egress::{Reach, SystemNetwork, Upstream, reach};
use foundry_http_client::{ClientError, NetworkSettings, Pinned, http_client};
use foundry_sandbox::Network;
use foundry_secrets::Secret;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::words;
use crate::{ForgeError, ForgeErrorKind, ForgeKind, Known, Place, Result};

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(20);
/// Largest answer in bytes.
const MAX_ANSWER: usize = 8 << 20;
/// How long to wait after a refusal for too many calls that says no time.
const WAIT: Duration = Duration::from_secs(60);
/// Longest pause that a host can ask for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(2 * 3600);
/// A shorter credential is not looked for in texts.
const SHORTEST_HIDDEN: usize = 4;

/// Makes calls of forges. One for the whole service.
pub struct Forges {
    freely: reqwest::Client,
    pinned: Pinned,
    upstream: Option<Upstream>,
}

impl Forges {
    /// Reads the system's certificates.
    ///
    /// # Errors
    /// When the proxy or the certificates of the settings cannot be used.
    pub fn new(network: &NetworkSettings) -> Result<Self, ClientError> {
        Ok(Self {
            freely: http_client(network)?,
            pinned: Pinned::new(network)?,
            upstream: Upstream::new(network)?,
        })
    }

    /// The client for an API: for a host that no operator has named, at its public addresses alone.
    async fn client(&self, url: &Url, freely: bool) -> Result<reqwest::Client> {
        if freely {
            return Ok(self.freely.clone());
        }
        let unreachable = |text: String| ForgeError::new(ForgeErrorKind::Unreachable, text);
        let address: Uri =
            url.as_str().parse().map_err(|_| unreachable("its URL has no usable host".to_owned()))?;
        match reach(&Network::public(), &address, &SystemNetwork, self.upstream.as_ref()).await {
            Ok(Reach::Freely | Reach::Upstream) => Ok(self.freely.clone()),
            Ok(Reach::At(addresses)) => {
                let client = self.pinned.at(url.host_str().unwrap_or_default(), addresses);
                client.map_err(|e| unreachable(e.to_string()))
            }
            Err(why) => Err(unreachable(format!("the API of the host cannot be reached: {why}"))),
        }
    }
}

/// What a host has said about how many more calls it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Calls in one period; 0 = the host says nothing.
    pub limit: u32,
    /// Calls that are left in this period.
    pub remaining: u32,
    /// When the next period begins, in seconds since the epoch.
    pub reset: i64,
}

impl Budget {
    /// Whether fewer than one in `share` of the calls of a period are left.
    pub fn is_below(&self, share: u32) -> bool {
        self.limit > 0 && self.remaining < self.limit / share.max(1)
    }
}

/// The API of one host, with a credential.
pub(crate) struct Channel {
    forges: Arc<Forges>,
    kind: ForgeKind,
    api: Url,
    freely: bool,
    token: Secret,
    clock: Arc<dyn Clock>,
    budget: Mutex<Budget>,
}

impl Channel {
    pub(crate) fn new(forges: Arc<Forges>, place: &Place, token: Secret, clock: Arc<dyn Clock>) -> Self {
        Self {
            forges,
            kind: place.kind,
            api: place.api.clone(),
            freely: place.is_configured,
            token,
            clock,
            budget: Mutex::default(),
        }
    }

    pub(crate) fn budget(&self) -> Budget {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call of a path below the API, and returns what the host answers, whatever it is.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>> {
        let address = format!("{}{path}", self.api.as_str().trim_end_matches('/'));
        let url = Url::parse(&address)
            .map_err(|_| ForgeError::new(ForgeErrorKind::Unusable, "the path of the call is not valid"))?;
        let client = self.forges.client(&url, self.freely).await?;
        let mut request = client.request(method, url).headers(headers).timeout(CALL);
        request = request.header(USER_AGENT, "foundry").header(AUTHORIZATION, self.authorization()?);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let unreachable = |e: reqwest::Error| {
            let why = if e.is_timeout() {
                "did not answer in time"
            } else if e.is_connect() {
                "could not be connected to"
            } else {
                "broke off the connection"
            };
            let host = self.api.host_str().unwrap_or_default();
            ForgeError::new(ForgeErrorKind::Unreachable, format!("the API of {host} {why}"))
        };
        let mut answer = request.send().await.map_err(unreachable)?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let text = format!("the host sent an answer of more than {} MiB", MAX_ANSWER >> 20);
                return Err(ForgeError::new(ForgeErrorKind::Unusable, text));
            }
            body.extend_from_slice(&chunk);
        }
        self.note_budget(answer.headers());
        response
            .body(Bytes::from(body))
            .map_err(|_| ForgeError::new(ForgeErrorKind::Unusable, "the host sent an unusable answer"))
    }

    fn authorization(&self) -> Result<HeaderValue> {
        let unusable = || {
            let text = "the stored credential is not a token that can be sent to the host";
            ForgeError::new(ForgeErrorKind::CredentialsRefused, text)
        };
        let token = self.token.expose_str().ok_or_else(unusable)?;
        let scheme = if self.kind == ForgeKind::Gitea { "token" } else { "Bearer" };
        let mut value = HeaderValue::from_str(&format!("{scheme} {token}")).map_err(|_| unusable())?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn note_budget(&self, headers: &HeaderMap) {
        let number = |names: [&str; 2]| {
            let value = names.iter().find_map(|name| headers.get(*name)).and_then(|v| v.to_str().ok());
            value.and_then(|text| text.parse::<i64>().ok())
        };
        let Some(limit) = number(["x-ratelimit-limit", "ratelimit-limit"]) else { return };
        let count = |n: i64| u32::try_from(n).unwrap_or_default();
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = Budget {
            limit: count(limit),
            remaining: count(number(["x-ratelimit-remaining", "ratelimit-remaining"]).unwrap_or(limit)),
            reset: number(["x-ratelimit-reset", "ratelimit-reset"]).unwrap_or_default(),
        };
    }

    /// The error that an answer is, with the words of the host; `None` for one that succeeded.
    pub(crate) fn refusal(&self, status: StatusCode, headers: &HeaderMap, said: &str) -> Option<ForgeError> {
        if status.is_success() {
            return None;
        }
        let said = words(&self.redact(said));
        let limited = self.limited(status, headers, &said);
        let kind = match status {
            _ if limited.is_some() => ForgeErrorKind::RateLimited(limited.unwrap_or_default()),
            StatusCode::UNAUTHORIZED => ForgeErrorKind::CredentialsRefused,
            StatusCode::FORBIDDEN => ForgeErrorKind::Forbidden,
            StatusCode::NOT_FOUND | StatusCode::GONE => ForgeErrorKind::NotFound,
            status if status.is_redirection() => ForgeErrorKind::NotFound,
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                ForgeErrorKind::Unreachable
            }
            _ => ForgeErrorKind::Rejected,
        };
        let what = match kind {
            ForgeErrorKind::RateLimited(_) => "the host answers no more calls for a while",
            ForgeErrorKind::CredentialsRefused => "the API of the host refused the stored credential",
            ForgeErrorKind::Forbidden => "the stored credential may not do this at the host",
            ForgeErrorKind::NotFound if status.is_redirection() => {
                "the repository has another address at the host now"
            }
            ForgeErrorKind::NotFound => {
                "the host has no such repository, or hides it from the stored credential"
            }
            ForgeErrorKind::Unreachable => "the API of the host failed",
            ForgeErrorKind::Rejected | ForgeErrorKind::Unusable => "the host did not accept it",
        };
        let said = if said.is_empty() { format!("{status}") } else { said };
        Some(ForgeError::new(kind, format!("{what}: {said}")))
    }

    /// Until when the host answers no more calls, if that is what it says.
    fn limited(&self, status: StatusCode, headers: &HeaderMap, said: &str) -> Option<Timestamp> {
        if !matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
            return None;
        }
        let now = self.clock.now();
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let asked = text(RETRY_AFTER.as_str()).map(|value| match value.parse::<u64>() {
            Ok(seconds) => now.plus(Duration::from_secs(seconds).min(LONGEST_WAIT)),
            Err(_) => now.plus(WAIT),
        });
        let budget = self.budget();
        let is_spent = budget.limit > 0 && budget.remaining == 0;
        let is_said =
            status == StatusCode::TOO_MANY_REQUESTS || said.to_ascii_lowercase().contains("rate limit");
        if asked.is_none() && !is_spent && !is_said {
            return None;
        }
        let reset = Timestamp::from_micros(budget.reset.saturating_mul(1_000_000));
        // A time that is past, or none, says nothing.
        let until = asked.unwrap_or(if is_spent && reset > now { reset } else { now.plus(WAIT) });
        Some(until.max(now.plus(Duration::from_secs(1))).min(now.plus(LONGEST_WAIT)))
    }

    /// A text of the host without the credential, which it may repeat.
    pub(crate) fn redact(&self, text: &str) -> String {
        match self.token.expose_str() {
            Some(token) if token.len() >= SHORTEST_HIDDEN => text.replace(token, "***"),
            _ => text.to_owned(),
        }
    }

    /// Makes a call with JSON and reads JSON.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let answer = self.call(method, path, accepting(), body).await?;
        self.decoded(&answer)
    }

    /// What a successful answer says, or the error that it is.
    pub(crate) fn decoded<T: DeserializeOwned>(&self, answer: &Response<Bytes>) -> Result<T> {
        if let Some(e) = self.refusal(answer.status(), answer.headers(), &said(answer.body())) {
            return Err(e);
        }
        serde_json::from_slice(answer.body()).map_err(|e| self.undecoded(&e))
    }

    /// The text of the error may quote what the host has sent.
    fn undecoded(&self, e: &serde_json::Error) -> ForgeError {
        unusable(&self.redact(&e.to_string()))
    }

    /// Reads JSON, unless the host says that it is what `known` has; it becomes known.
    pub(crate) async fn remembered<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        known: &Known,
        now_known: &mut Known,
    ) -> Result<T> {
        let mut headers = accepting();
        // What an earlier version kept and this one cannot read, it asks for once more.
        let before = known
            .0
            .get(path)
            .and_then(|(mark, value)| Some((mark, serde_json::from_value::<T>(value.clone()).ok()?)));
        if let Some(mark) = before.as_ref().and_then(|(mark, _)| HeaderValue::from_str(mark).ok()) {
            headers.insert(IF_NONE_MATCH, mark);
        }
        let answer = self.call(Method::GET, path, headers, Bytes::new()).await?;
        let stored = before.filter(|_| answer.status() == StatusCode::NOT_MODIFIED);
        let (mark, read): (String, T) = match stored {
            Some((mark, value)) => (mark.clone(), value),
            None => (etag(&answer), self.decoded(&answer)?),
        };
        if !mark.is_empty() {
            let value = serde_json::to_value(&read).map_err(|e| self.undecoded(&e))?;
            now_known.keep(path, mark, value);
        }
        Ok(read)
    }
}

/// The mark of an answer; empty = it has none.
pub(crate) fn etag(answer: &Response<Bytes>) -> String {
    let mark = answer.headers().get(ETAG).and_then(|v| v.to_str().ok());
    mark.filter(|mark| mark.len() <= 200).unwrap_or_default().to_owned()
}

pub(crate) fn accepting() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))])
}

pub(crate) fn unusable(why: &str) -> ForgeError {
    let why = words(why);
    ForgeError::new(ForgeErrorKind::Unusable, format!("the host sent an answer that cannot be read: {why}"))
}

/// The words of a host in a refusal: its message and the messages of its parts.
pub(crate) fn said(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return String::from_utf8_lossy(body).into_owned();
    };
    let mut all = Vec::new();
    for field in ["message", "error", "error_description"] {
        match value.get(field) {
            Some(serde_json::Value::String(text)) => all.push(text.clone()),
            Some(serde_json::Value::Null) | None => {}
            Some(other) => all.push(other.to_string()),
        }
    }
    for part in value.get("errors").and_then(|e| e.as_array()).into_iter().flatten() {
        match part.get("message").or(Some(part)) {
            Some(serde_json::Value::String(text)) => all.push(text.clone()),
            Some(other) => all.push(other.to_string()),
            None => {}
        }
    }
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use foundry_testkit::test_env;

    use super::*;

    fn channel(clock: Arc<dyn Clock>) -> Channel {
        let place = Place {
            kind: ForgeKind::GitHub,
            host: "h.example".to_owned(),
            api: Url::parse("https://h.example/api").unwrap(),
            path: "a/b".to_owned(),
            is_configured: true,
        };
        let forges = Arc::new(Forges::new(&NetworkSettings::default()).unwrap());
        Channel::new(forges, &place, Secret::new("canary-token-1234"), clock)
    }

    #[test]
    fn a_time_that_is_past_or_unknown_is_a_pause_of_a_minute() {
        let clock = test_env().env.clock;
        let (channel, now) = (channel(Arc::clone(&clock)), clock.now());
        let seconds = now.as_micros() / 1_000_000;
        let until = |reset: i64| {
            *channel.budget.lock().unwrap() = Budget { limit: 60, remaining: 0, reset };
            channel.limited(StatusCode::FORBIDDEN, &HeaderMap::new(), "").unwrap()
        };
        assert_eq!((until(0), until(seconds - 5)), (now.plus(WAIT), now.plus(WAIT)));
        assert_eq!(until(seconds + 600).since(now).as_secs().div_ceil(10), 60);
        // Milliseconds.
        assert_eq!(until(seconds * 1_000), now.plus(LONGEST_WAIT));
    }

    #[test]
    fn what_cannot_be_read_is_quoted_without_the_credential() {
        let channel = channel(test_env().env.clock);
        let answer = Response::new(Bytes::from_static(b"\"is canary-token-1234\""));
        let e = channel.decoded::<Vec<u8>>(&answer).unwrap_err();
        assert!(e.message().contains("is ***") && !e.message().contains("canary"), "{e}");
    }
}
