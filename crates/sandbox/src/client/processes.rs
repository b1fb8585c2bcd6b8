//! Running a command inside the sandbox, through the runtime. This is how the sandbox commits and
//! bundles its own tree: the host never runs git in a tree the agent can write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{ClientError, QUICK, RuntimeClient, bounded, refusal, unreachable};

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
    /// How long it may run; it is killed after that.
    pub limit: Duration,
    /// How much of its output is kept, for each of the two streams.
    pub max_output: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecOutput {
    /// Exit code; none = killed.
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

impl RuntimeClient {
    /// Runs a command to its end. `home` is HOME as the sandbox sees it; standard input passes through
    /// a file beneath it, since the runtime's one-shot call takes none.
    pub async fn exec_in_sandbox(&self, home: &Path, spec: &ExecSpec) -> Result<ExecOutput, ClientError> {
        let mut argv = spec.argv.clone();
        if !spec.stdin.is_empty() {
            let mut random = [0u8; 8];
            self.env.random.fill(&mut random);
            let file = home.join(".foundry").join(format!("stdin-{}", hex::encode(random)));
            self.put_file(&file, &spec.stdin).await?;
            let script = r#"f=$1; shift; exec 3<"$f"; rm -f "$f"; exec "$@" <&3 3<&-"#;
            let mut wrapped: Vec<String> = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
            wrapped.push(file.to_string_lossy().into_owned());
            wrapped.append(&mut argv);
            argv = wrapped;
        }
        let Some((command, args)) = argv.split_first() else {
            return Err(ClientError::Malformed("no command to run".to_owned()));
        };
        let millis = u64::try_from(spec.limit.as_millis()).unwrap_or(u64::MAX);
        let body = json!({
            "command": command,
            "args": args,
            "cwd": spec.cwd,
            "env": spec.env,
            "timeoutMs": millis,
            "maxOutputBytes": spec.max_output,
        });
        let answer = self.json(Method::POST, "/v1/processes/run", Some(&body), spec.limit + QUICK).await?;
        super::parse(answer)
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
