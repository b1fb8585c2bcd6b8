//! The provider's answer, and what it means for the session.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use foundry_core::Tasks;
use foundry_http_client::drop_hop_by_hop;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;

use crate::Body;
use crate::call::Call;
use crate::classify;
use crate::condition::ConditionKind;
use crate::include_usage::WithoutUsage;
use crate::relay::{Relay, silent};
use crate::shape::{Problem, REASON, Retry, SHOULD_RETRY};
use crate::silence::Silence;
use crate::usage::{Reader, Seen};

/// At most this much of a refusal is read before it is passed on, for at most [`READING`].
const READ: usize = 256 * 1024;
const READING: Duration = Duration::from_secs(2);
/// Longest wait until the ledger has recorded a refusal.
const SETTLING: Duration = Duration::from_secs(1);

/// Calls the provider and passes on its answer as it comes.
pub(crate) async fn of(
    call: &Call,
    request: reqwest::RequestBuilder,
    hides_usage: bool,
    limit: Duration,
    tasks: &Tasks,
) -> Result<Response<Body>, Problem> {
    let mut silence = Silence::new(&call.env, call.access.place(), limit);
    let waiting = Unanswered(Some(call));
    let answer = tokio::select! {
        answer = request.send() => {
            waiting.over();
            answer
        }
        () = silence.over() => {
            // The provider may have worked for the whole wait.
            drop(waiting);
            call.report(ConditionKind::Silent, &silence.words());
            return Err(silent(&silence));
        }
    };
    let answer: Response<reqwest::Body> = match answer {
        Ok(answer) => answer.into(),
        Err(error) => return Err(unanswered(call, &error)),
    };
    let (mut parts, body) = answer.into_parts();
    drop_hop_by_hop(&mut parts.headers);
    drop_secrets(call, &mut parts.headers);
    let (reader, filter, front, body) = if parts.status.is_success() {
        let reader = reader(call, &parts.headers);
        let filter = (hides_usage && reader.expects_end()).then(WithoutUsage::new);
        if filter.is_some() {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        (reader, filter, None, body)
    } else {
        let (read, body) = read(call, body).await;
        let front = refused(call, parts.status, &mut parts.headers, read);
        // Recorded before the agent sees it, since the agent may end its turn at once: the turn's end names the cause.
        tokio::select! {
            () = call.reports.settled(&call.access) => {}
            () = call.env.clock.sleep(SETTLING) => {}
        }
        let front = front?;
        (Reader::blind(call.api), None, Some(front), body)
    };
    let success = parts.status.is_success();
    if success && call.api.generates() && call.gate.release(call.key, call.now()) {
        // A held key is released now, long before a stream ends.
        call.report(ConditionKind::Working, "");
    }
    let relay = Relay::new(call.clone(), body, front, reader, filter, limit, success, tasks);
    Ok(Response::from_parts(parts, relay.boxed_unsync()))
}

/// Counts the request where no answer came in time, or the agent left before it: the provider has read the request.
struct Unanswered<'a>(Option<&'a Call>);

impl Unanswered<'_> {
    /// An answer came, or the provider broke off.
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.0.filter(|call| call.api.generates()) {
            call.count_guess(&Seen::default(), false);
        }
    }
}

fn reader(call: &Call, headers: &HeaderMap) -> Reader {
    let has =
        |name, part: &str| headers.get(name).is_some_and(|v| v.to_str().is_ok_and(|v| v.starts_with(part)));
    let encoded =
        headers.contains_key(header::CONTENT_ENCODING) && !has(header::CONTENT_ENCODING, "identity");
    if encoded || !call.api.generates() {
        return Reader::blind(call.api);
    }
    Reader::new(call.api, has(header::CONTENT_TYPE, "text/event-stream"))
}

/// The start of a refusal's body, and the rest.
async fn read(call: &Call, mut body: reqwest::Body) -> (Bytes, reqwest::Body) {
    let mut all = BytesMut::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            all.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if all.len() >= READ {
                break;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = call.env.clock.sleep(READING) => {}
    }
    (all.freeze(), body)
}

/// Reports what a refusal means. It passes unchanged, except for a header that tells the agent's SDK whether to retry,
/// and without any secret that the provider repeats.
fn refused(call: &Call, status: StatusCode, headers: &mut HeaderMap, read: Bytes) -> Result<Bytes, Problem> {
    if let Some((kind, words)) = classify::refusal(status, headers, &read, call.now()) {
        if status.is_redirection() {
            let place =
                headers.get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("another address");
            let words = format!(
                "{} redirects to {place}; set the base URL to the final address",
                call.access.place()
            );
            call.report(kind, &words);
            return Err(unreachable(words));
        }
        if call.is_of_before() {
            // Only the next attempt shows whether the new key works.
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
            headers.remove(header::RETRY_AFTER);
        } else if let Some(condition) = call.report(kind, &words) {
            headers.insert(REASON, HeaderValue::from_static(condition.reason()));
            if condition.ends_turn() {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
    }
    let clean = std::str::from_utf8(&read).ok().and_then(|text| classify::scrubbed(&call.access, text));
    Ok(match clean {
        Some(clean) => {
            headers.remove(header::CONTENT_LENGTH);
            Bytes::from(clean)
        }
        None => read,
    })
}

fn unanswered(call: &Call, error: &reqwest::Error) -> Problem {
    let (kind, words) = classify::no_answer(error, &call.access.place());
    let failing = kind == ConditionKind::Failing;
    call.report(kind, &words);
    if failing {
        return Problem {
            status: StatusCode::BAD_GATEWAY,
            reason: "MODEL_FAILING",
            words,
            retry: Retry::Free,
        };
    }
    unreachable(words)
}

fn unreachable(words: String) -> Problem {
    Problem { status: StatusCode::BAD_GATEWAY, reason: "MODEL_UNREACHABLE", words, retry: Retry::Free }
}

fn drop_secrets(call: &Call, headers: &mut HeaderMap) {
    let tells =
        |value: &HeaderValue| value.to_str().is_ok_and(|v| classify::scrubbed(&call.access, v).is_some());
    let telling: Vec<_> = headers.iter().filter(|(_, v)| tells(v)).map(|(n, _)| n.clone()).collect();
    for name in telling {
        headers.remove(name);
    }
}
