//! The one error type, with an outside text for callers and an inside cause for the log, and its
//! one mapping to a gRPC status with `google.rpc` details.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic_types::{ErrorDetails, StatusExt as _};

/// The canonical gRPC code of an error.
pub use tonic::Code;

/// A result with the project's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, as in the proto.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// A typed failure: code, stable reason, what to do next, and the cause for the log.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    reason: &'static str,
    message: String,
    next_action: String,
    metadata: HashMap<String, String>,
    violations: Vec<FieldViolation>,
    precondition: Option<(String, String)>,
    quota: Option<(String, String)>,
    resource: Option<(String, String)>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The `ErrorInfo.domain` of every error.
    pub const DOMAIN: &'static str = "foundry";

    /// An error with a stable reason (`UPPER_SNAKE_CASE`, a page in `docs/errors/`) and a text for callers.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            reason,
            message: message.into(),
            next_action: String::new(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            precondition: None,
            quota: None,
            resource: None,
            retry_after: None,
            source: None,
        }))
    }

    /// `INVALID_ARGUMENT` for one field of the request.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let v = FieldViolation { field: field.into(), description: description.into() };
        let mut e =
            Self::new(Code::InvalidArgument, "INVALID_FIELD", format!("{} {}", v.field, v.description));
        e.0.violations.push(v);
        e
    }

    /// `NOT_FOUND`: absent and foreign ids alike.
    pub fn not_found(resource_type: &str, id: &str) -> Self {
        let mut e = Self::new(
            Code::NotFound,
            "NOT_FOUND",
            format!("{resource_type} {id} not found in your organizations"),
        );
        e.0.resource = Some((resource_type.to_owned(), id.to_owned()));
        e
    }

    /// `ALREADY_EXISTS` for a resource whose unique name is taken.
    pub fn already_exists(resource_type: &str, name: &str) -> Self {
        let mut e = Self::new(
            Code::AlreadyExists,
            "ALREADY_EXISTS",
            format!("{resource_type} {name} already exists"),
        );
        e.0.resource = Some((resource_type.to_owned(), name.to_owned()));
        e
    }

    /// `FAILED_PRECONDITION`: legal in another state; `subject` names what is in the wrong state.
    pub fn precondition(reason: &'static str, subject: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut e = Self::new(Code::FailedPrecondition, reason, message.clone());
        e.0.precondition = Some((subject.to_owned(), message));
        e
    }

    /// `RESOURCE_EXHAUSTED`: a limit, with its name, current and maximum in the metadata.
    pub fn quota(limit: &str, scope: &str, current: u64, maximum: u64) -> Self {
        let text = format!("limit {limit} reached for {scope}: {current} of {maximum}");
        let mut e = Self::new(Code::ResourceExhausted, "LIMIT_REACHED", text.clone())
            .with("limit", limit)
            .with("scope", scope)
            .with("current", current.to_string())
            .with("maximum", maximum.to_string());
        e.0.quota = Some((scope.to_owned(), text));
        e
    }

    /// `UNAVAILABLE`: try again after the given time.
    pub fn unavailable(reason: &'static str, message: impl Into<String>, retry_after: Duration) -> Self {
        let mut e = Self::new(Code::Unavailable, reason, message);
        e.0.retry_after = Some(retry_after);
        e
    }

    /// `INTERNAL`: a defect or a broken dependency; callers see only the reason, the log the cause.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "INTERNAL", "internal error; see the service's log for this request id")
            .caused_by(cause)
    }

    /// Adds what the caller can do next; shown to users.
    #[must_use]
    pub fn next_action(mut self, text: impl Into<String>) -> Self {
        self.0.next_action = text.into();
        self
    }

    /// Adds a machine-readable fact to `ErrorInfo.metadata`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Adds how long to wait before a retry.
    #[must_use]
    pub fn retry_after(mut self, d: Duration) -> Self {
        self.0.retry_after = Some(d);
        self
    }

    /// Adds the inside cause, for the log only.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The stable reason.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// The text for callers.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The invalid fields, if any.
    pub fn violations(&self) -> &[FieldViolation] {
        &self.0.violations
    }

    /// The status for the caller; the cause is logged here, once, when the code marks a fault of the server.
    pub fn into_status(self) -> tonic::Status {
        let inner = *self.0;
        if matches!(inner.code, Code::Internal | Code::Unknown | Code::DataLoss) {
            tracing::error!(reason = inner.reason, cause = ?inner.source, "{}", inner.message);
        }
        let mut metadata = inner.metadata;
        if !inner.next_action.is_empty() {
            metadata.insert("next_action".to_owned(), inner.next_action);
        }
        let mut d = ErrorDetails::new();
        d.set_error_info(inner.reason, Self::DOMAIN, metadata);
        for v in inner.violations {
            d.add_bad_request_violation(v.field, v.description);
        }
        if let Some((subject, text)) = inner.precondition {
            d.add_precondition_failure_violation(inner.reason, subject, text);
        }
        if let Some((subject, text)) = inner.quota {
            d.add_quota_failure_violation(subject, text);
        }
        if let Some((kind, name)) = inner.resource {
            d.set_resource_info(kind, name, "", "");
        }
        if inner.retry_after.is_some() {
            d.set_retry_info(inner.retry_after);
        }
        tonic::Status::with_error_details(inner.code, inner.message, d)
    }
}

impl From<Error> for tonic::Status {
    fn from(e: Error) -> Self {
        e.into_status()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_reason_domain_and_details_on_the_wire() {
        let status =
            Error::quota("sessions", "task_1", 10, 10).retry_after(Duration::from_secs(2)).into_status();
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("LIMIT_REACHED", "foundry"));
        assert_eq!(info.metadata["maximum"], "10");
        assert!(details.quota_failure().is_some() && details.retry_info().is_some());
    }

    #[test]
    fn never_shows_the_inside_cause_to_a_caller() {
        let status = Error::internal(std::io::Error::other("secret path /data")).into_status();
        assert!(!status.message().contains("/data"));
    }
}
