//! Commands from requests: placeholders, and checks before the start.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use foundry_sandbox::wire::MODEL_URL;

use crate::error::{Failure, Kind};

/// This program, even when its file has been replaced.
pub(crate) const OWN: &str = "/proc/self/exe";
/// `argv[0]` of this program when it starts itself again.
pub(crate) const NAME: &str = "foundry";

/// The error where there is no value for [`MODEL_URL`].
pub(crate) const NO_GATEWAY: &str = "the agent needs a model gateway, and this sandbox has none";

/// Values of the placeholders in commands and files.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The sandbox user's home directory, for `${HOME}`.
    pub home: PathBuf,
    /// The work tree.
    pub workspace: PathBuf,
    /// Base URL of the forwarder; none = no model gateway.
    pub model_url: Option<String>,
}

impl Places {
    /// Replaces `${HOME}`, `${WORKSPACE}` and `${FOUNDRY_MODEL_URL}`.
    ///
    /// # Errors
    /// `start_failed` when the text needs a model gateway and there is none.
    pub fn expand(&self, text: &str) -> Result<String, Failure> {
        let mut out = text
            .replace("${HOME}", &self.home.to_string_lossy())
            .replace("${WORKSPACE}", &self.workspace.to_string_lossy());
        if out.contains(MODEL_URL) {
            out = out.replace(MODEL_URL, self.model_url()?);
        }
        Ok(out)
    }

    /// Replaces `${FOUNDRY_MODEL_URL}` alone in the content of a file, which may hold other variables of its own.
    ///
    /// # Errors
    /// `start_failed` when the text needs a model gateway and there is none.
    pub fn with_model_url<'t>(&self, content: &'t [u8]) -> Result<Cow<'t, [u8]>, Failure> {
        match std::str::from_utf8(content) {
            Ok(text) if text.contains(MODEL_URL) => {
                Ok(text.replace(MODEL_URL, self.model_url()?).into_bytes().into())
            }
            _ => Ok(content.into()),
        }
    }

    fn model_url(&self) -> Result<&str, Failure> {
        self.model_url.as_deref().ok_or_else(|| Failure::new(Kind::StartFailed, NO_GATEWAY))
    }

    /// Arguments and environment with everything replaced.
    pub fn expand_all(
        &self,
        argv: &[String],
        env: &BTreeMap<String, String>,
    ) -> Result<(Vec<String>, BTreeMap<String, String>), Failure> {
        let argv = argv.iter().map(|a| self.expand(a)).collect::<Result<_, _>>()?;
        let env = env.iter().map(|(k, v)| Ok((k.clone(), self.expand(v)?))).collect::<Result<_, _>>()?;
        Ok((argv, env))
    }

    /// The directory in which a command starts.
    ///
    /// # Errors
    /// `start_failed` when it is not a directory.
    pub fn directory(&self, cwd: Option<&Path>) -> Result<PathBuf, Failure> {
        let directory = cwd.map_or_else(|| self.workspace.clone(), |d| self.workspace.join(d));
        if directory.is_dir() {
            return Ok(directory);
        }
        Err(Failure::new(Kind::StartFailed, format!("{} is not a directory", directory.display())))
    }
}

/// Checks a command before the start, so that the error can name the problem.
///
/// # Errors
/// `invalid` for arguments that no process can get, `start_failed` for a missing program.
pub(crate) fn check(
    argv: &[String],
    env: &BTreeMap<String, String>,
    directory: &Path,
) -> Result<(), Failure> {
    let Some(program) = argv.first().filter(|p| !p.is_empty()) else {
        return Err(Failure::invalid("argv is empty"));
    };
    let name_is_bad = |name: &String| name.is_empty() || name.contains(['=', '\0']);
    if argv.iter().chain(env.values()).any(|a| a.contains('\0')) || env.keys().any(name_is_bad) {
        return Err(Failure::invalid(
            "an argument or variable contains a NUL byte, or a variable name is invalid",
        ));
    }
    if is_runnable(program, env.get("PATH"), directory) {
        return Ok(());
    }
    Err(Failure::new(Kind::StartFailed, format!("there is no program {program}")))
}

fn is_runnable(program: &str, path: Option<&String>, directory: &Path) -> bool {
    let runs = |file: PathBuf| {
        std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(directory.join(program));
    }
    let path = path.map(OsString::from).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    std::env::split_paths(&path).any(|part| runs(directory.join(part).join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_placeholders_and_fails_without_a_model_gateway() {
        let mut places = Places { home: "/h".into(), workspace: "/w".into(), model_url: None };
        assert_eq!(places.expand("${HOME}/a:${WORKSPACE}:$HOME").unwrap(), "/h/a:/w:$HOME");
        assert_eq!(places.expand("${FOUNDRY_MODEL_URL}/v1").unwrap_err().kind, Kind::StartFailed);
        places.model_url = Some("http://127.0.0.1:7".into());
        assert_eq!(places.expand("${FOUNDRY_MODEL_URL}/v1").unwrap(), "http://127.0.0.1:7/v1");
    }

    #[test]
    fn finds_a_program_by_the_commands_path_and_names_a_missing_one() {
        let none = BTreeMap::new();
        let argv = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let check = |words: &[&str], env| check(&argv(words), env, Path::new("/"));
        assert!(check(&["sh", "-c"], &none).is_ok() && check(&["bin/sh"], &none).is_ok());
        let missing = check(&["no-such-program"], &none).unwrap_err();
        assert_eq!(missing.kind, Kind::StartFailed);
        assert!(missing.detail.contains("no-such-program"));
        assert_eq!(check(&["/etc/passwd"], &none).unwrap_err().kind, Kind::StartFailed);
        let elsewhere = BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())]);
        assert_eq!(check(&["sh"], &elsewhere).unwrap_err().kind, Kind::StartFailed);
        assert_eq!(check(&[], &none).unwrap_err().kind, Kind::Invalid);
        assert_eq!(check(&["sh", "a\0b"], &none).unwrap_err().kind, Kind::Invalid);
    }
}
