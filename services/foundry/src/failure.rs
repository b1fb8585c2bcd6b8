//! A failed command: one sentence, what to do next, and an exit code by kind.

use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::output::inert;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// One sentence about what failed.
    pub message: String,
    /// What to do next; empty when nothing is known.
    pub next_action: String,
    /// Exit code: 1 failed, 2 usage, 3 not signed in, 4 not found, 5 unavailable, 6 the task failed.
    pub code: u8,
    /// Whether no mesh could be reached at all.
    unreached: bool,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), next_action: String::new(), code: 1, unreached: false }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, action: impl Into<String>) -> Self {
        self.next_action = action.into();
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Names the address and what to do, if no mesh could be reached there.
    #[must_use]
    pub fn at(self, address: &str) -> Self {
        if !self.unreached {
            return self;
        }
        Self { message: format!("no mesh can be reached at {address}: {}", self.message), ..self }
            .next("start one with `foundry up`, or give its address with --address (or FOUNDRY_ADDRESS)")
    }

    /// Prints the failure and yields its exit code.
    pub fn report(self) -> ExitCode {
        eprintln!("error: {}", inert(&self.message));
        if !self.next_action.is_empty() {
            eprintln!("  next: {}", inert(&self.next_action));
        }
        ExitCode::from(self.code)
    }
}

/// Whether the connection failed, so that no server saw the call.
fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(found) = cause {
        if found.is::<tonic::transport::Error>() {
            return true;
        }
        cause = found.source();
    }
    false
}

/// Why there is no TLS with the server, if that is what failed.
fn insecure(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status);
    while let Some(found) = cause {
        let failed = found.downcast_ref::<std::io::Error>();
        if let Some(failed) = failed.filter(|failed| failed.kind() == std::io::ErrorKind::InvalidData) {
            return Some(failed.to_string());
        }
        cause = found.source();
    }
    None
}

/// Fields of requests that are called something else on the command line.
const OPTIONS: [(&str, &str); 5] = [
    ("to_branch", "--to"),
    ("on_branch", "--on-branch"),
    ("keep_commits", "--keep-commits"),
    ("author_name", "the author's name (GIT_AUTHOR_NAME, or user.name of git)"),
    ("author_email", "the author's address (GIT_AUTHOR_EMAIL, or user.email of git)"),
];

/// A message about a field of the request, as a user of the command line knows it.
fn in_options(message: &str) -> String {
    let (field, rest) = message.split_once(' ').unwrap_or((message, ""));
    match OPTIONS.iter().find(|(name, _)| *name == field) {
        Some((_, option)) => format!("{option} {rest}"),
        None => message.to_owned(),
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.map(|i| format!(" ({})", i.reason)).unwrap_or_default();
        let mut next = info.and_then(|i| i.metadata.get("next_action").cloned()).unwrap_or_default();
        let code = match status.code() {
            Code::InvalidArgument => 2,
            Code::Unauthenticated => 3,
            Code::NotFound => 4,
            Code::Unavailable | Code::DeadlineExceeded => 5,
            _ => 1,
        };
        if next.is_empty() && status.code() == Code::Unauthenticated {
            "sign in with `foundry login`".clone_into(&mut next);
        }
        let unreached = status.code() == Code::Unavailable && never_sent(&status);
        if let Some(why) = insecure(&status).filter(|_| unreached) {
            return Self::new(format!("the mesh cannot be trusted: {why}"))
                .next("check the address, or set SSL_CERT_FILE to the file with the authority of the mesh")
                .exit(code);
        }
        Self {
            message: format!("{}{reason}", in_options(status.message())),
            next_action: next,
            code,
            unreached,
        }
    }
}

impl From<foundry_core::Error> for Failure {
    fn from(e: foundry_core::Error) -> Self {
        e.into_status().into()
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::new(e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_the_name_that_it_has_on_the_command_line() {
        let of =
            |field: &str| Failure::from(foundry_core::Error::invalid_field(field, "must be short")).message;
        assert_eq!(of("to_branch"), "--to must be short (INVALID_FIELD)");
        assert!(of("author_email").starts_with("the author's address (GIT_AUTHOR_EMAIL, "));
        assert_eq!(of("title"), "title must be short (INVALID_FIELD)");
    }

    #[test]
    fn shows_the_reason_and_the_next_action_of_a_typed_error() {
        let error = foundry_core::Error::not_found("task", "task_1").next_action("list tasks");
        let failure = Failure::from(error.into_status());
        assert!(failure.message.contains("NOT_FOUND"));
        assert_eq!((failure.next_action.as_str(), failure.code), ("list tasks", 4));
    }
}
