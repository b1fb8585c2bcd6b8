//! Calls of identity providers: bounded in time and size, no redirect followed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(8);
/// Longest answer that is read: far more than any discovery document, key set or token.
const MAX_ANSWER: usize = 256 << 10;

/// Calls providers with the operator's certificates and proxy.
#[derive(Clone)]
pub(crate) struct Http(pub(crate) reqwest::Client);

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The provider was not reached, or did not answer in time.
    Unreachable(String),
    /// The answer is too long.
    TooLong,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Self::TooLong => write!(f, "its answer is longer than {MAX_ANSWER} bytes"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<reqwest::Error> for CallError {
    fn from(e: reqwest::Error) -> Self {
        // The address may have a secret in its query.
        let e = e.without_url();
        let cause = std::error::Error::source(&e).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Unreachable(format!("{e}{cause}"))
    }
}

impl Http {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, CallError> {
        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(CALL);
        // GitHub refuses calls without it.
        request.headers_mut().insert("user-agent", reqwest::header::HeaderValue::from_static("foundry"));
        let mut response = self.0.execute(request).await?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(CallError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = HttpResponse::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, CallError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.answer(request))
    }
}
