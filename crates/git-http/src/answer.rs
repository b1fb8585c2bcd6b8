//! What git is sent: the pieces of a fetch, or a refusal in words that its user sees.

use bytes::Bytes;
use foundry_core::{Code, Error};
use foundry_proto::repo::v1::ServeFetchResponse;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

use crate::{Body, BoxError, Step};

/// Before a list in the first version of the protocol; protocol 2 has none.
const SERVICE: &[u8] = b"001e# service=git-upload-pack\n0000";

/// The response of a fetch, sent as it is made.
pub(crate) fn pieces(pieces: Streaming<ServeFetchResponse>, advertise: bool, is_v2: bool) -> Response<Body> {
    let head = (advertise && !is_v2).then(|| Ok::<_, Status>(Bytes::from_static(SERVICE)));
    let all = stream::iter(head).chain(pieces.map_ok(|piece| piece.data));
    let frames = all.map_ok(Frame::data).map_err(|status| Box::new(status) as BoxError);
    let kind = match advertise {
        true => "application/x-git-upload-pack-advertisement",
        false => "application/x-git-upload-pack-result",
    };
    of(StatusCode::OK, kind, StreamBody::new(frames).boxed_unsync())
}

fn of(code: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

/// The refusal of a repository that is not there, or not the caller's: one text for both.
pub fn absent() -> Status {
    Error::new(Code::NotFound, "NOT_FOUND", "there is no such repository, or it is not yours").into_status()
}

/// A refusal, in words that git shows its user.
pub fn refusal(status: &Status, step: Step) -> Response<Body> {
    if status.code() == tonic::Code::NotFound {
        return said(StatusCode::NOT_FOUND, &words(&absent()));
    }
    let details = status.get_error_details();
    let code = match status.code() {
        tonic::Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        tonic::Code::PermissionDenied => StatusCode::FORBIDDEN,
        _ if step == Step::Fetching => return error_line(&words(status)),
        tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
        tonic::Code::FailedPrecondition => StatusCode::CONFLICT,
        tonic::Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        tonic::Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = said(code, &words(status));
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Foundry\""));
    }
    if let Some(after) = details.retry_info().and_then(|info| info.retry_delay) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

fn said(code: StatusCode, text: &str) -> Response<Body> {
    // Only the text of this content type is shown by git.
    of(code, "text/plain", whole(format!("{text}\n")))
}

/// In answer to a later request git shows only what is in an error line of its own protocol.
fn error_line(text: &str) -> Response<Body> {
    let line = format!("ERR {text}");
    let line: String = line.chars().take(900).collect();
    let body = format!("{:04x}{line}", line.len() + 4);
    of(StatusCode::OK, "application/x-git-upload-pack-result", whole(body))
}

/// Reason, what is wrong, and what to do.
fn words(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map(|info| info.reason.clone()).filter(|reason| !reason.is_empty());
    let next = info.and_then(|info| info.metadata.get("next_action")).filter(|next| !next.is_empty());
    let mut text = reason.map(|reason| format!("{reason}: ")).unwrap_or_default() + status.message();
    // git has no way to sign in but a token.
    let next = match status.code() {
        tonic::Code::Unauthenticated => {
            Some("create a token with `foundry token create NAME` and give it as the password")
        }
        _ => next.map(String::as_str),
    };
    if let Some(next) = next {
        text = format!("{text}; {next}");
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_answered_with_the_command_that_makes_one() {
        let error =
            Error::new(Code::Unauthenticated, "TOKEN_UNKNOWN", "unknown token").next_action("sign in again");
        let words = words(&error.into_status());
        assert!(
            words
                .starts_with("TOKEN_UNKNOWN: unknown token; create a token with `foundry token create NAME`")
        );
        assert!(!words.contains("sign in"), "{words}");
    }
}
