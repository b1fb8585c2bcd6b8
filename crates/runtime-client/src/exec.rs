//! Running a command inside the sandbox. This is how the sandbox commits and bundles its own tree: the host
//! never runs git in a tree the agent can write.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_sandbox::wire::{Exec, ExecDone};
use http::Method;

use super::connection::Request;
use super::{ClientError, QUICK, RuntimeClient};

/// A command to run inside.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables added to the runtime's own environment.
    pub env: BTreeMap<String, String>,
    /// The working directory, as the sandbox sees it; none = the runtime's own.
    pub cwd: Option<PathBuf>,
    /// Its standard input, at most 1 MiB.
    pub stdin: Vec<u8>,
    /// How long it may run, at most 300 s; it and all it started are ended after that.
    pub limit: Duration,
    /// How much of its output is kept, for each of the two streams; at most 1 MiB.
    pub max_output: usize,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code, 128 + n when signal n ended it; none = ended because of its limit.
    pub exit_code: Option<i32>,
    /// Whether it was ended because of its limit.
    pub timed_out: bool,
    /// Standard output; invalid UTF-8 is replaced.
    pub stdout: String,
    /// Standard error; invalid UTF-8 is replaced.
    pub stderr: String,
    /// Whether output beyond the limit was dropped.
    pub stdout_truncated: bool,
    /// Whether error output beyond the limit was dropped.
    pub stderr_truncated: bool,
}

impl RuntimeClient {
    /// Runs a command to its end and kills every process it started.
    ///
    /// # Errors
    /// `invalid`, `busy`, and when the runtime cannot be reached.
    pub async fn exec(&self, spec: &ExecSpec) -> Result<ExecOutput, ClientError> {
        if spec.argv.is_empty() {
            return Err(ClientError::Malformed("no command to run".to_owned()));
        }
        let body = Exec {
            argv: spec.argv.clone(),
            env: spec.env.clone(),
            cwd: spec.cwd.clone(),
            stdin: STANDARD.encode(&spec.stdin),
            limit_ms: u64::try_from(spec.limit.as_millis()).unwrap_or(u64::MAX),
            max_output: spec.max_output,
        };
        let request =
            Request::json(Method::POST, "/v1/exec".to_owned(), &body)?.limit(spec.limit + QUICK * 2);
        let done: ExecDone = self.call(request).await?;
        let text = |encoded: &str| match STANDARD.decode(encoded) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(e) => Err(ClientError::Malformed(format!("output of a command: {e}"))),
        };
        Ok(ExecOutput {
            exit_code: done.exit_code,
            timed_out: done.timed_out,
            stdout: text(&done.stdout)?,
            stderr: text(&done.stderr)?,
            stdout_truncated: done.stdout_truncated,
            stderr_truncated: done.stderr_truncated,
        })
    }
}
