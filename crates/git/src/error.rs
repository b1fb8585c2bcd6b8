//! How a git operation fails, and how that is reported to callers of the services.

use std::time::Duration;

use foundry_core::{Code, Error};
use rustix::process::Signal;

use crate::ObjectId;

/// Longest name in an error, in bytes.
const MAX_NAME: usize = 100;

/// The kind of a failure: decides the gRPC code and whether a retry makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitErrorKind {
    /// The wall-clock limit passed, or the remote was too slow.
    Timeout,
    /// The transport, address or redirect is not allowed.
    Protocol,
    /// The repository, branch, commit or path does not exist.
    NotFound,
    /// The remote requires credentials or refuses the given ones.
    Auth,
    /// The certificate of the remote host proves nothing.
    Certificate,
    /// Objects or a bundle are damaged or hostile.
    Corrupt,
    /// The source lacks objects that it would have to fetch itself: it is a partial clone.
    Partial,
    /// A size or count limit was reached.
    TooLarge,
    /// The remote host could not be reached.
    Unreachable,
    /// Another operation holds the repository.
    Busy,
    /// The caller's input is not acceptable.
    Invalid,
    /// This host failed git: no space left, a file that cannot be read, a process that cannot be started or was killed.
    Host,
    /// Anything else: git failed.
    Failed,
}

/// A failed git operation.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct GitError {
    kind: GitErrorKind,
    reason: &'static str,
    message: String,
    stderr: String,
}

impl GitError {
    /// An error of a kind with its stable reason and a text fit for callers.
    pub fn new(kind: GitErrorKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), stderr: String::new() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(GitErrorKind::Failed, "GIT_FAILED", message)
    }

    pub(crate) fn corrupt(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(GitErrorKind::Corrupt, reason, message)
    }

    pub(crate) fn too_large(what: &str, current: impl std::fmt::Display, maximum: u64) -> Self {
        Self::new(
            GitErrorKind::TooLarge,
            "GIT_TOO_LARGE",
            format!("{what}: {current} exceeds the limit of {maximum}"),
        )
    }

    pub(crate) fn io(what: &str, e: &std::io::Error) -> Self {
        Self::failed(format!("{what}: {}", e.kind()))
            .with_kind(GitErrorKind::Host, "GIT_FAILED")
            .with_stderr(e.to_string())
    }

    pub(crate) fn with_stderr(mut self, stderr: impl Into<String>) -> Self {
        self.stderr = stderr.into();
        self
    }

    pub(crate) fn with_kind(mut self, kind: GitErrorKind, reason: &'static str) -> Self {
        self.kind = kind;
        self.reason = reason;
        self
    }

    /// The same error, with what git printed changed.
    pub(crate) fn map_stderr(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.stderr = change(&self.stderr);
        self
    }

    /// The same error as a cause that users know.
    pub(crate) fn explained(mut self, kind: GitErrorKind, reason: &'static str, message: &str) -> Self {
        self.message = message.to_owned();
        self.with_kind(kind, reason)
    }

    /// The kind of the failure.
    pub fn kind(&self) -> GitErrorKind {
        self.kind
    }

    /// The stable reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The text for callers; it holds no host path.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The end of what git wrote to standard error, for the log.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// Whether the same operation may succeed later without a change by the user.
    pub fn retryable(&self) -> bool {
        matches!(
            self.kind,
            GitErrorKind::Timeout | GitErrorKind::Unreachable | GitErrorKind::Busy | GitErrorKind::Host
        )
    }

    /// A git process that was ended by a signal: from its own limit, or from this host.
    pub(crate) fn from_signal(what: &str, signal: i32, stderr: String) -> Self {
        if signal == Signal::XFSZ.as_raw() {
            return Self::from_exit(what, "File too large", stderr)
                .with_kind(GitErrorKind::TooLarge, "GIT_TOO_LARGE");
        }
        // Without memory, git dies as it reports that.
        if stderr.contains(DIES_DYING) {
            return Self::from_exit(what, "out of memory", stderr)
                .with_kind(GitErrorKind::TooLarge, "GIT_TOO_LARGE");
        }
        // Other signals are raised by git itself, perhaps because of its input.
        let sent =
            [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP].iter().any(|s| s.as_raw() == signal);
        let kind = if sent { GitErrorKind::Host } else { GitErrorKind::Failed };
        let message = format!("git {what} was killed by signal {signal}");
        Self::new(kind, "GIT_FAILED", message).with_stderr(stderr)
    }

    /// Classifies a git process that ended with an error, by its (untranslated) messages.
    pub(crate) fn from_exit(what: &str, status: &str, stderr: String) -> Self {
        let (kind, reason) = classify(&stderr);
        let refused = refused(&stderr).map(|refused| format!(": {refused}")).unwrap_or_default();
        let message = format!("git {what} failed ({status}){}{refused}", summary(kind));
        Self::new(kind, reason, message).with_stderr(stderr)
    }
}

/// What git has refused, if its messages name it: an object and the check that failed, a transport, or a ref. Only
/// words of harmless characters are taken, since the rest may hold a path of this host.
fn refused(stderr: &str) -> Option<String> {
    stderr.lines().filter(|line| !line.starts_with("remote:")).find_map(|line| {
        let object = || {
            let mut words = line.split(' ').map(|word| word.strip_suffix(':').unwrap_or(word));
            let id = words.find(|word| ObjectId::parse(word).is_ok())?;
            let check = words.next().filter(|word| word.bytes().all(|b| b.is_ascii_alphanumeric()));
            Some(check.map_or_else(|| format!("object {id}"), |check| format!("object {id}, {check}")))
        };
        let quoted = |before: &str, after: &str| {
            let (_, rest) = line.split_once(before)?;
            let name = rest.split_once(after)?.0;
            let is_harmless = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
            (name.len() <= MAX_NAME && name.bytes().all(is_harmless)).then_some(name)
        };
        let transport = || quoted("transport '", "' not allowed").map(|name| format!("transport {name}"));
        let refspec = || quoted("invalid refspec '", "'").map(|name| format!("refspec {name}"));
        object().or_else(transport).or_else(refspec)
    })
}

fn summary(kind: GitErrorKind) -> &'static str {
    match kind {
        GitErrorKind::Timeout => ": the remote was too slow",
        GitErrorKind::Protocol => ": the transport or redirect is not allowed",
        GitErrorKind::NotFound => ": not found",
        GitErrorKind::Auth => ": access denied",
        GitErrorKind::Certificate => ": the certificate of the host is not trusted",
        GitErrorKind::Corrupt => ": corrupt or forbidden objects",
        GitErrorKind::Partial => ": it is a partial clone, which lacks a part of its files",
        GitErrorKind::TooLarge => ": over the size limit",
        GitErrorKind::Unreachable => ": the remote could not be reached",
        GitErrorKind::Host => ": an error on this host",
        GitErrorKind::Busy | GitErrorKind::Invalid | GitErrorKind::Failed => "",
    }
}

/// What git says when it cannot even report an error.
const DIES_DYING: &str = "recursion detected in die handler";

/// First match wins; the order puts causes before the generic lines that follow them in stderr.
const PATTERNS: &[(&str, GitErrorKind, &str)] = &[
    ("lazy fetching disabled", GitErrorKind::Partial, "REPOSITORY_PARTIAL"),
    ("from promisor remote", GitErrorKind::Partial, "REPOSITORY_PARTIAL"),
    ("' not allowed", GitErrorKind::Protocol, "GIT_PROTOCOL_REFUSED"),
    ("unable to update url base from redirection", GitErrorKind::Protocol, "GIT_REDIRECT_REFUSED"),
    ("returned error: 30", GitErrorKind::Protocol, "GIT_REDIRECT_REFUSED"),
    ("ertificate verification failed", GitErrorKind::Certificate, "GIT_CERTIFICATE_REFUSED"),
    ("SSL certificate problem", GitErrorKind::Certificate, "GIT_CERTIFICATE_REFUSED"),
    ("match target host name", GitErrorKind::Certificate, "GIT_CERTIFICATE_REFUSED"),
    ("tunnel failed", GitErrorKind::Unreachable, "GIT_PROXY_REFUSED"),
    ("from proxy after CONNECT", GitErrorKind::Unreachable, "GIT_PROXY_REFUSED"),
    ("dubious ownership", GitErrorKind::Auth, "GIT_OWNER_REFUSED"),
    ("Authentication failed", GitErrorKind::Auth, "GIT_AUTH_REQUIRED"),
    ("could not read Username", GitErrorKind::Auth, "GIT_AUTH_REQUIRED"),
    ("could not read Password", GitErrorKind::Auth, "GIT_AUTH_REQUIRED"),
    ("returned error: 401", GitErrorKind::Auth, "GIT_AUTH_REQUIRED"),
    ("returned error: 403", GitErrorKind::Auth, "GIT_AUTH_REQUIRED"),
    ("Permission denied", GitErrorKind::Auth, "GIT_AUTH_REQUIRED"),
    ("exceeds maximum allowed size", GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
    ("File too large", GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
    ("died of signal 25", GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
    ("out of memory", GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
    (DIES_DYING, GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
    ("repository corruption on the remote side", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("Out of memory", GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
    ("exceeded maximum allowed tree depth", GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
    ("Operation too slow", GitErrorKind::Timeout, "GIT_TIMEOUT"),
    ("timed out", GitErrorKind::Timeout, "GIT_TIMEOUT"),
    ("Could not resolve host", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("Failed to connect", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("Couldn't connect", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("No route to host", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("Network is unreachable", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("ssh: not found", GitErrorKind::Host, "GIT_SSH_NOT_INSTALLED"),
    ("Connection refused", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("returned error: 429", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("returned error: 5", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("epository not found", GitErrorKind::NotFound, "GIT_REMOTE_NOT_FOUND"),
    ("' not found", GitErrorKind::NotFound, "GIT_REMOTE_NOT_FOUND"),
    ("does not appear to be a git repository", GitErrorKind::NotFound, "GIT_REMOTE_NOT_FOUND"),
    ("returned error: 404", GitErrorKind::NotFound, "GIT_REMOTE_NOT_FOUND"),
    ("Not a valid object name", GitErrorKind::NotFound, "GIT_OBJECT_NOT_FOUND"),
    ("unknown revision", GitErrorKind::NotFound, "GIT_OBJECT_NOT_FOUND"),
    ("fsck error", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("error in object", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("bad object", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("missing blob", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("unresolved delta", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("RPC failed", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("unexpected disconnect", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("early EOF", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("the remote end hung up", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("Could not read from remote repository", GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE"),
    ("index-pack", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("packfile", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
    ("inflate", GitErrorKind::Corrupt, "GIT_OBJECTS_REFUSED"),
];

/// Line endings that mark an error of this host's system.
const HOST_ERRORS: &[&str] = &[
    ": No space left on device",
    ": Disk quota exceeded",
    ": Resource temporarily unavailable",
    ": Input/output error",
    ": Too many open files",
];

/// Whether this host caused the failure, by git's own messages: those of a remote or about an object may be forged.
fn is_host_error(stderr: &str) -> bool {
    let foreign =
        |line: &str| ["remote:", "error: object", "warning: object"].iter().any(|f| line.starts_with(f));
    !stderr.contains("fsck error")
        && stderr.lines().any(|line| !foreign(line) && HOST_ERRORS.iter().any(|end| line.ends_with(end)))
}

fn classify(stderr: &str) -> (GitErrorKind, &'static str) {
    if is_host_error(stderr) {
        return (GitErrorKind::Host, "GIT_FAILED");
    }
    // It says nothing itself only when its limit of file size has ended it.
    let said = stderr.lines().filter(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    if stderr.contains("invalid index-pack output") && said.count() == 1 {
        return (GitErrorKind::TooLarge, "GIT_TOO_LARGE");
    }
    PATTERNS
        .iter()
        .find(|(text, _, _)| stderr.contains(text))
        .map_or((GitErrorKind::Failed, "GIT_FAILED"), |(_, kind, reason)| (*kind, *reason))
}

impl From<GitError> for Error {
    fn from(e: GitError) -> Self {
        let code = match e.kind {
            GitErrorKind::Timeout => Code::DeadlineExceeded,
            GitErrorKind::Protocol | GitErrorKind::Invalid => Code::InvalidArgument,
            GitErrorKind::NotFound => Code::NotFound,
            GitErrorKind::Auth => Code::FailedPrecondition,
            GitErrorKind::Corrupt | GitErrorKind::Partial | GitErrorKind::Certificate => {
                Code::FailedPrecondition
            }
            GitErrorKind::TooLarge => Code::ResourceExhausted,
            GitErrorKind::Unreachable | GitErrorKind::Busy => Code::Unavailable,
            GitErrorKind::Host | GitErrorKind::Failed => Code::Internal,
        };
        let next = match e.kind {
            _ if e.reason == "GIT_PROXY_REFUSED" => "check repo.network.proxy, or try again later",
            GitErrorKind::Certificate => "for a private certificate authority, set repo.network.ca_file",
            GitErrorKind::Timeout | GitErrorKind::Unreachable | GitErrorKind::Busy => "try again later",
            GitErrorKind::Host => "check the disk space and the log of this host",
            GitErrorKind::Protocol => "use a URL that the configuration allows",
            GitErrorKind::NotFound => "check the URL and the name",
            GitErrorKind::Auth => "give Foundry access to the repository with `foundry repo credential add`",
            GitErrorKind::Partial => "register the repository that it was cloned from",
            _ => "",
        };
        let retry = e.retryable();
        let mut out = Error::new(code, e.reason, e.message.clone()).next_action(next).caused_by(e);
        if retry {
            out = out.retry_after(Duration::from_secs(5));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_causes_apart_by_what_git_prints() {
        for (text, kind) in [
            ("fatal: transport 'file' not allowed", GitErrorKind::Protocol),
            ("fatal: could not read Username for 'https://x': terminal prompts disabled", GitErrorKind::Auth),
            ("fatal: '/x' does not appear to be a git repository", GitErrorKind::NotFound),
            (
                "error: object abc: hasDotdot: contains '..'\nfatal: fsck error in packed object",
                GitErrorKind::Corrupt,
            ),
            (
                "remote: warning: lazy fetching disabled; some objects may not be available",
                GitErrorKind::Partial,
            ),
            ("fatal: pack exceeds maximum allowed size", GitErrorKind::TooLarge),
            (
                "error: unable to write file x: No space left on device\nfatal: index-pack failed",
                GitErrorKind::Host,
            ),
            (
                "error: object abc: gitmodulesName: disallowed submodule name: ../: No space left on device",
                GitErrorKind::Failed,
            ),
            (
                "remote: fatal: cannot write: No space left on device\nfatal: early EOF",
                GitErrorKind::Unreachable,
            ),
            ("fatal: something else", GitErrorKind::Failed),
        ] {
            assert_eq!(GitError::from_exit("fetch", "exit 128", text.to_owned()).kind(), kind, "{text}");
        }
    }

    #[test]
    fn keeps_what_git_printed_away_from_callers() {
        let e = GitError::from_exit("fetch", "exit 128", "fatal: '/data/mirrors/x' is broken".into());
        let status = Error::from(e).into_status();
        assert!(!status.message().contains("/data"), "{}", status.message());
    }

    #[test]
    fn names_what_git_refused_and_nothing_else_of_what_it_printed() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        for (text, named) in [
            (
                format!("error: object {id}: hasDotdot: contains '..'\nfatal: fsck error in packed object"),
                format!(": object {id}, hasDotdot"),
            ),
            (format!("error in tree {id}: hasDotgit: contains '.git'"), format!(": object {id}, hasDotgit")),
            (format!("fatal: bad object {id}"), format!(": object {id}")),
            ("fatal: transport 'ext' not allowed".to_owned(), ": transport ext".to_owned()),
            ("fatal: invalid refspec '-x'".to_owned(), ": refspec -x".to_owned()),
            ("fatal: transport '/data/x' not allowed".to_owned(), "not allowed".to_owned()),
            (format!("remote: error: object {id}: hasDotdot"), "(exit 128)".to_owned()),
        ] {
            let error = GitError::from_exit("fetch", "exit 128", text.clone());
            assert!(error.message().ends_with(&named), "{text}: {}", error.message());
        }
    }
}
