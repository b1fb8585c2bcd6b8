//! Answers of tonic itself to malformed requests: a bare code and text, and `INTERNAL` for faults of the caller. They
//! are converted to the same typed errors as those of our own code.

use foundry_core::{Code, Error};
use http::{HeaderMap, Response};
use tonic::Status;
use tonic::body::Body;

/// Prefixes of tonic's texts about requests that it cannot decode.
const UNDECODABLE: [&str; 6] = [
    "failed to decode Protobuf message",
    "Missing request message",
    "protocol error: received message",
    "Unexpected EOF decoding stream",
    "Error decompressing",
    "tonic-web: ",
];

/// The answer, typed if it came from tonic itself.
pub(crate) fn typed(answer: Response<Body>) -> Response<Body> {
    match own_error(answer.headers()) {
        Some(error) => {
            let encodings = answer.headers().get("grpc-accept-encoding").cloned();
            let mut typed = error.into_status().into_http();
            if let Some(encodings) = encodings {
                typed.headers_mut().insert("grpc-accept-encoding", encodings);
            }
            typed
        }
        None => answer,
    }
}

fn own_error(headers: &HeaderMap) -> Option<Error> {
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    let text = status.message();
    match status.code() {
        Code::Internal if UNDECODABLE.iter().any(|start| text.starts_with(start)) => {
            let text = format!("the request's body is malformed: {text}");
            Some(Error::new(Code::InvalidArgument, "MALFORMED_MESSAGE", text))
        }
        Code::Unimplemented if text.is_empty() => {
            Some(Error::new(Code::Unimplemented, "METHOD_UNKNOWN", "no such method"))
        }
        Code::Unimplemented if text.starts_with("Content is compressed") => Some(
            Error::new(Code::Unimplemented, "ENCODING_UNSUPPORTED", text)
                .next_action("send the message without compression"),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(status: Status) -> Status {
        Status::from_header_map(typed(status.into_http()).headers()).unwrap()
    }

    #[test]
    fn a_body_that_is_no_message_is_the_callers_fault_and_typed() {
        let of_grpc = "failed to decode Protobuf message: invalid tag value: 0";
        for text in [of_grpc, "tonic-web: Invalid symbol 33, offset 7."] {
            let status = after(Status::new(Code::Internal, text));
            assert_eq!(status.code(), Code::InvalidArgument, "{text}");
            let details = tonic_types::StatusExt::get_error_details(&status);
            assert_eq!(details.error_info().unwrap().reason, "MALFORMED_MESSAGE", "{text}");
        }
    }

    #[test]
    fn failures_of_the_service_stay_its_own() {
        let ours = Error::internal("a cause").into_status();
        assert_eq!(after(ours).code(), Code::Internal);
        assert_eq!(after(Status::new(Code::Internal, "something else")).code(), Code::Internal);
        let answer = typed(Response::new(Body::empty()));
        assert!(answer.headers().is_empty());
    }
}
