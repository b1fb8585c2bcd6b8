//! Sources of keys.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use foundry_core::{Error, Result};
use foundry_process_group::ProcessGroup;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use crate::file::read_secret_file;
use crate::keys::COMMAND_LIMIT;
use crate::secret::Secret;

/// Most bytes of a command's output: far more than all keys in use.
const OUTPUT_LIMIT: u64 = 64 << 10;

/// A source of keys, written `file:PATH`, `env:VARIABLE` or `command:PROGRAM ARGUMENT…`.
///
/// Each gives one key per line, 64 hex digits as from `openssl rand -hex 32`; empty lines and lines that begin with
/// `#` do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeySource {
    /// A file of mode 0600, which must exist.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The standard output of a program, started without a shell: arguments are split at spaces; for anything more, use
    /// a script.
    Command(Vec<String>),
}

impl TryFrom<String> for KeySource {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Variable(name.to_owned())),
            Some(("command", command)) if !command.trim().is_empty() => {
                Ok(Self::Command(command.split_whitespace().map(str::to_owned).collect()))
            }
            // The text is not shown: it may be a key.
            _ => Err("expected file:PATH, env:VARIABLE or command:PROGRAM ARGUMENT…".to_owned()),
        }
    }
}

impl From<KeySource> for String {
    fn from(source: KeySource) -> Self {
        source.to_string()
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::Command(command) => write!(f, "command:{}", command.join(" ")),
        }
    }
}

impl KeySource {
    /// A secret that is no key, such as the password of this mesh at another server: the text of the source without the
    /// space around it. A command may take 10 s.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` as for keys, and when the source is empty.
    pub async fn secret(&self) -> Result<Secret> {
        let text = self.read(COMMAND_LIMIT).await?;
        let text = text.trim();
        if text.is_empty() { Err(self.unusable("it is empty")) } else { Ok(Secret::new(text)) }
    }

    /// The text of the source. A command may take `limit`.
    pub(crate) async fn read(&self, limit: Duration) -> Result<Zeroizing<String>> {
        let text = match self {
            Self::File(path) => read_secret_file(path)?.ok_or_else(|| self.unusable("there is no such file")),
            Self::Variable(name) => std::env::var(name).map_err(|e| match e {
                std::env::VarError::NotPresent => self.unusable("the variable is not set"),
                std::env::VarError::NotUnicode(_) => self.unusable("the variable is not valid text"),
            }),
            Self::Command(command) => {
                let output = tokio::time::timeout(limit, run(command)).await;
                let output = output
                    .map_err(|_| self.unusable(&format!("it did not finish within {} s", limit.as_secs())))?;
                output.map_err(|why| self.unusable(&why))
            }
        };
        text.map(Zeroizing::new)
    }

    pub(crate) fn unusable(&self, why: &str) -> Error {
        unusable(&self.to_string(), why)
    }
}

/// `SECRET_KEY_UNUSABLE` for a key file.
pub(crate) fn key_file_unusable(path: &Path, why: &str) -> Error {
    unusable(&format!("file:{}", path.display()), why)
}

fn unusable(source: &str, why: &str) -> Error {
    let text = format!("the keys for secrets from {source} cannot be used: {why}");
    Error::precondition("SECRET_KEY_UNUSABLE", source, text)
        .next_action("provide one key per line, 64 hex digits each, and restart the service")
}

/// The output of a program that succeeds; its standard error is that of this process.
async fn run(command: &[String]) -> std::result::Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    // Such a program is often a script, and its child processes must not run on after the time limit.
    let (mut child, mut group) =
        ProcessGroup::spawn(&mut command).map_err(|e| format!("it does not start: {e}"))?;
    let mut output = Zeroizing::new(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(OUTPUT_LIMIT + 1).read_to_end(&mut output).await;
        read.map_err(|e| format!("its output cannot be read: {e}"))?;
    }
    if output.len() as u64 > OUTPUT_LIMIT {
        return Err(format!("its output is longer than {OUTPUT_LIMIT} bytes"));
    }
    let status = child.wait().await.map_err(|e| e.to_string())?;
    group.let_go();
    if !status.success() {
        return Err(format!("it failed with {status}"));
    }
    String::from_utf8(std::mem::take(&mut *output)).map_err(|_| "its output is not valid text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_a_program_that_prints_too_much_instead_of_cutting_it() {
        let refused = run(&["yes".to_owned()]).await.unwrap_err();
        assert!(refused.contains("longer than 65536 bytes"), "{refused}");
    }

    /// No test below waits for this long.
    const LIMIT: Duration = Duration::from_secs(60);

    fn source(text: &str) -> KeySource {
        serde_json::from_value(text.into()).unwrap()
    }

    async fn refusal(text: &str) -> String {
        let error = source(text).read(LIMIT).await.unwrap_err();
        assert_eq!(error.reason(), "SECRET_KEY_UNUSABLE");
        error.message().to_owned()
    }

    #[test]
    fn is_written_as_it_is_read() {
        for text in ["file:/etc/foundry/key", "env:MESH_KEY", "command:vault read -field=key x"] {
            assert_eq!(serde_json::to_value(source(text)).unwrap(), text);
        }
        for wrong in ["", "env:", "command: ", "00ff", "files:/x"] {
            let error = KeySource::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains("env:VARIABLE") && !error.contains("00ff"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_command_gives_its_output_in_bounded_time() {
        assert_eq!(source("command:echo a b").read(LIMIT).await.unwrap().as_str(), "a b\n");
        assert!(refusal("command:false").await.contains("exit status: 1"));
        assert!(refusal("command:/no/such/program").await.contains("does not start"));
        assert!(refusal("env:FOUNDRY_NO_SUCH_VARIABLE").await.contains("not set"));
        assert!(refusal("file:/no/such/file").await.contains("no such file"));
        let late = source("command:sleep 600").read(Duration::from_millis(1)).await.unwrap_err();
        assert!(late.message().contains("did not finish"), "{late}");
    }
}
