//! Running a command inside the sandbox, through the runtime. This is how the sandbox commits and
//! bundles its own tree: the host never runs git in a tree the agent can write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{ClientError, QUICK, RuntimeClient, bounded, refusal, unreachable};
use crate::RuntimeFacts;
use crate::listing::{self, ProcessListing};

/// A command to run inside.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Further environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs, as the sandbox sees it; none = where the runtime was started.
    pub cwd: Option<PathBuf>,
    /// Its standard input, at most 1 MiB.
    pub stdin: Vec<u8>,
    /// How long it may run, at most 290 s; it is killed after that.
    pub limit: Duration,
    /// How much of its output is kept, for each of the two streams; at most 1 MiB.
    pub max_output: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecOutput {
    /// Exit code, 128 + n when signal n ended it; none = killed because of its limit.
    pub exit_code: Option<i32>,
    /// Whether it was killed because of its limit.
    pub timed_out: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Whether output beyond the limit was dropped.
    pub stdout_truncated: bool,
    /// Whether error output beyond the limit was dropped.
    pub stderr_truncated: bool,
}

/// Most bytes of standard input.
const MAX_STDIN: usize = 1 << 20;
/// Most output that the runtime keeps.
const MAX_OUTPUT: usize = 1 << 20;
/// A little less than the runtime's own limit on a call.
const MAX_LIMIT: Duration = Duration::from_secs(290);

impl RuntimeClient {
    /// Runs a command to its end and ends all it started. Standard input passes through a file beneath
    /// HOME, since the runtime's one-shot call takes none. The runtime itself ends a call after 300 s.
    pub async fn exec_in_sandbox(
        &self,
        facts: &RuntimeFacts,
        spec: &ExecSpec,
    ) -> Result<ExecOutput, ClientError> {
        if spec.argv.is_empty() {
            return Err(ClientError::Malformed("no command to run".to_owned()));
        }
        let mut stdin = "-".to_owned();
        if !spec.stdin.is_empty() {
            let mut random = [0u8; 8];
            self.env.random.fill(&mut random);
            let file = facts.home.join(".foundry").join(format!("stdin-{}", hex::encode(random)));
            self.put_file(&file, &spec.stdin).await?;
            stdin = file.to_string_lossy().into_owned();
        }
        let limit = spec.limit.min(MAX_LIMIT);
        let (millis, max) = (limit.as_millis().to_string(), spec.max_output.min(MAX_OUTPUT));
        let max_text = max.to_string();
        let mut args: Vec<&str> = vec!["internal", "exec", &millis, &max_text, &stdin, "--"];
        args.extend(spec.argv.iter().map(String::as_str));
        let body = json!({
            "command": facts.foundry,
            "args": args,
            "cwd": spec.cwd,
            "env": spec.env,
            "timeoutMs": u64::try_from((limit + QUICK).as_millis()).unwrap_or(u64::MAX),
            "maxOutputBytes": max,
        });
        let answer = self.json(Method::POST, "/v1/processes/run", Some(&body), limit + QUICK * 2).await?;
        let mut output: ExecOutput = super::parse(answer)?;
        // `internal exec` kills itself at the limit; a command that was killed has an exit code there.
        output.timed_out |= output.exit_code.is_none();
        Ok(output)
    }

    /// The processes of the sandbox at this moment, as something inside it says. Takes 5 s at most inside,
    /// and 15 s in all.
    pub async fn processes(&self, facts: &RuntimeFacts) -> Result<ProcessListing, ClientError> {
        let of = if facts.isolation.is_bubblewrap() { "all" } else { facts.sandbox.as_str() };
        let program = facts.foundry.to_string_lossy().into_owned();
        let spec = ExecSpec {
            argv: [program.as_str(), "internal", "processes", of].map(str::to_owned).into(),
            limit: QUICK,
            max_output: MAX_OUTPUT,
            ..ExecSpec::default()
        };
        let output = self.exec_in_sandbox(facts, &spec).await?;
        if output.timed_out {
            return Err(ClientError::TimedOut(QUICK));
        }
        match output.exit_code {
            Some(0) => Ok(listing::parse(&output.stdout, output.stdout_truncated, &self.token)),
            code => Err(ClientError::Malformed(format!("the list of processes ended with {code:?}"))),
        }
    }

    /// Writes a file inside, making its directory.
    pub async fn put_file(&self, path: &Path, content: &[u8]) -> Result<(), ClientError> {
        if content.len() > MAX_STDIN {
            return Err(ClientError::Malformed(format!("{} bytes are too many to send", content.len())));
        }
        let mut url = reqwest::Url::parse(&format!("{}/v1/fs/file", self.base))
            .map_err(|e| ClientError::Malformed(e.to_string()))?;
        url.query_pairs_mut().append_pair("path", &path.to_string_lossy());
        let exchange = async {
            let response = self
                .http
                .put(url)
                .bearer_auth(&self.token)
                .body(content.to_vec())
                .send()
                .await
                .map_err(unreachable)?;
            let status = response.status();
            let body = bounded(response).await?;
            if status.is_success() { Ok(()) } else { Err(refusal(status, &body)) }
        };
        tokio::select! {
            done = exchange => done,
            () = self.env.clock.sleep(QUICK) => Err(ClientError::TimedOut(QUICK)),
        }
    }
}
