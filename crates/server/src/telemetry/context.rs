//! The ids of one request: taken from its headers, current while its code runs, and passed on with every call it makes.

use std::future::Future;
use std::sync::Arc;

use foundry_core::Env;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::trace::TraceContext;

/// The header of the trace context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header of the request id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID: usize = 64;

/// The ids that connect everything one request causes; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Id of the request: the caller's `x-request-id`, or a fresh one.
    pub request_id: Arc<str>,
    /// Position in the trace.
    pub trace: TraceContext,
}

tokio::task_local! {
    static CURRENT: RequestContext;
}

impl RequestContext {
    /// Reads the ids from a request's headers; an absent or malformed one is replaced by a new one.
    pub fn extract(headers: &HeaderMap, env: &Env) -> Self {
        let random = env.random.as_ref();
        let trace = headers
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok())
            .and_then(TraceContext::parse)
            .map_or_else(|| TraceContext::start(random), |parent| parent.child(random));
        let request_id = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| is_request_id(id))
            .map_or_else(|| trace.trace_id().into(), Arc::from);
        Self { request_id, trace }
    }

    /// The context of work resumed from a stored `traceparent` (a job, a flow); starts a trace when there is none.
    pub fn resume(traceparent: &str, env: &Env) -> Self {
        let random = env.random.as_ref();
        let trace = TraceContext::parse(traceparent)
            .map_or_else(|| TraceContext::start(random), |parent| parent.child(random));
        Self { request_id: trace.trace_id().into(), trace }
    }

    /// The context in which the current code runs, if any.
    pub fn current() -> Option<Self> {
        let mut context = CURRENT.try_with(Clone::clone).ok()?;
        if let Some(exported) = super::export::current_span() {
            context.trace = exported;
        }
        Some(context)
    }

    /// The current trace as a `traceparent`, to store with a job; empty when there is none.
    pub fn current_traceparent() -> String {
        Self::current().map(|context| context.trace.to_string()).unwrap_or_default()
    }

    /// A span with these ids, so that every log line inside it has them; `name` is that of the work.
    pub fn span(&self, name: &str) -> tracing::Span {
        let span = tracing::info_span!(
            parent: None,
            "request",
            service = name,
            request_id = %self.request_id,
            trace_id = self.trace.trace_id(),
            caller = tracing::field::Empty,
        );
        super::export::adopt_parent(&span, self.trace);
        span
    }

    /// Runs a future in this context: calls it makes carry the ids.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Adds the current ids to an outgoing request, unless it carries some already.
    pub fn inject(headers: &mut HeaderMap) {
        let Some(context) = Self::current() else { return };
        let ids = [(TRACEPARENT, context.trace.to_string()), (REQUEST_ID, (*context.request_id).to_owned())];
        for (name, value) in ids {
            if let (false, Ok(value)) = (headers.contains_key(&name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// A caller's id goes into logs and headers: one that is not short and plain is replaced.
fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_request_id_is_replaced() {
        let mut headers = HeaderMap::new();
        let long = "x".repeat(MAX_REQUEST_ID + 1);
        for (sent, kept) in [("abc-1.2", true), ("a b", false), (long.as_str(), false), ("a\"b", false)] {
            headers.insert(REQUEST_ID, HeaderValue::from_str(sent).unwrap());
            let context = RequestContext::extract(&headers, &Env::system());
            assert_eq!(&*context.request_id == sent, kept, "{sent}");
        }
    }

    #[tokio::test]
    async fn a_resumed_job_goes_on_in_the_trace_that_was_stored_with_it() {
        let env = Env::system();
        let stored = RequestContext::extract(&HeaderMap::new(), &env)
            .scope(async { RequestContext::current_traceparent() })
            .await;
        let resumed = RequestContext::resume(&stored, &env);
        assert_eq!(resumed.trace.trace_id(), TraceContext::parse(&stored).unwrap().trace_id());
        assert_eq!(RequestContext::current_traceparent(), "");
    }
}
