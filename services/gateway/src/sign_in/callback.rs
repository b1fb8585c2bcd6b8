//! The way back from a provider: what came with the browser is recorded by auth, and the browser goes on to the page,
//! which opens the session. A refusal is a reason in the page's address. The secret of the return is in the fragment: it
//! reaches the page at the public address and no server, no log and no program on another port.

use std::collections::HashMap;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use foundry_proto::auth::v1::{GetSignInRequest, ReceiveSignInRequest, ReceiveSignInResponse, SignInState};
use http::StatusCode;
use http::header::{self, HeaderValue};
use http::request::Parts;
use tonic::Status;

use super::{Door, MAX_NAME, cookie, kept_out_of_caches, reason, within};

/// How long the browser is kept waiting; the page goes on asking.
const WAIT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(40);
const LONGEST_PAUSE: Duration = Duration::from_millis(640);
/// Shown where an error has no reason of ours.
const INTERRUPTED: &str = "SIGN_IN_INTERRUPTED";
/// Longest query that is looked at.
const MAX_QUERY: usize = 16 << 10;

impl Door {
    /// Records the return and sends the browser on; the answer is always a redirect to the page's sign-in.
    pub(super) async fn callback(self, provider: String, request: Parts) -> Response {
        let to = match self.returned(provider, &request).await {
            Ok(it) => format!("/sign-in?sign_in={}#return={}", it.sign_in_id, it.return_secret),
            Err(refused) => {
                format!("/sign-in?refused={}", reason(&refused).unwrap_or_else(|| INTERRUPTED.to_owned()))
            }
        };
        let mut response = kept_out_of_caches(StatusCode::SEE_OTHER.into_response());
        let headers = response.headers_mut();
        // Ids, secrets and reasons have no other characters than these.
        let mut to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/sign-in"));
        to.set_sensitive(true);
        headers.insert(header::LOCATION, to);
        headers.extend(self.public.as_ref().and_then(cookie::clear));
        response
    }

    async fn returned(&self, provider: String, request: &Parts) -> Result<ReceiveSignInResponse, Status> {
        let _permit = self.enter(&request.extensions)?;
        let query = request.uri.query().unwrap_or_default();
        let mut sent = single(query).ok_or_else(|| Status::invalid_argument("the address cannot be read"))?;
        let mut take = |name: &str| sent.remove(name).unwrap_or_default();
        let binding = self.public.as_ref().and_then(|public| cookie::read(&request.headers, public));
        let receive = ReceiveSignInRequest {
            provider: provider.chars().take(MAX_NAME).collect(),
            state: take("state"),
            code: take("code"),
            error: take("error"),
            issuer: take("iss"),
            browser_binding: binding.unwrap_or_default(),
        };
        let received = self.auth.clone().receive_sign_in(within(receive)).await?.into_inner();
        self.wait(&received).await;
        Ok(received)
    }

    /// Waits a moment for the end of the flow. What it was is the page's to ask, with its own secret.
    async fn wait(&self, it: &ReceiveSignInResponse) {
        let deadline = self.clock.now().plus(WAIT);
        let mut pause = FIRST_PAUSE;
        while self.clock.now() < deadline {
            let (sign_in_id, return_secret) = (it.sign_in_id.clone(), it.return_secret.clone());
            let ask = GetSignInRequest { sign_in_id, return_secret };
            match self.auth.clone().get_sign_in(within(ask)).await {
                Ok(answer) if answer.get_ref().state() == SignInState::Received => {}
                _ => return,
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The parameters of a query; none if one occurs twice, as readers differ in which of the two they take.
fn single(query: &str) -> Option<HashMap<String, String>> {
    if query.len() > MAX_QUERY {
        return None;
    }
    let mut found = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if found.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_counts_once() {
        let found = single("state=a%2Bb&code=c+d&iss=https%3A%2F%2Fx").unwrap();
        assert_eq!(
            (found["state"].as_str(), found["code"].as_str(), found["iss"].as_str()),
            ("a+b", "c d", "https://x")
        );
        assert!(single("state=a&state=b").is_none());
        assert!(single(&"x".repeat(MAX_QUERY + 1)).is_none());
        assert!(single("").unwrap().is_empty());
    }
}
