//! Runs npm with the user's own settings and no install scripts.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::process::{Event, Running};
use crate::{Cause, ToolCache, ToolError};

/// Settings of the user that would change what is installed, or where, are overridden; all others apply.
const FIXED: [&str; 14] = [
    "--ignore-scripts",
    "--audit=false",
    "--fund=false",
    "--progress=false",
    "--color=false",
    "--loglevel=http",
    "--global=false",
    "--dry-run=false",
    "--package-lock=true",
    "--include=optional",
    "--install-strategy=hoisted",
    "--engine-strict=false",
    "--legacy-peer-deps=false",
    "--update-notifier=false",
];

/// How much of npm's last output an error contains, in bytes.
const LAST_WORDS: usize = 1_000;
/// How often progress is reported.
const EVERY: Duration = Duration::from_secs(3);

/// One run of npm in a directory.
pub(crate) struct Run<'a> {
    /// The name of the tool.
    pub name: &'a str,
    /// The arguments before the fixed ones.
    pub args: &'a [&'a str],
    /// The directory with the `package.json`.
    pub dir: &'a Path,
    /// A directory to look for programs in first.
    pub path_first: Option<PathBuf>,
    /// How many packages there are to fetch; 0 when that is not known.
    pub packages: usize,
}

impl ToolCache {
    /// Runs npm to its end or its limit; returns its last output.
    pub(crate) async fn npm(
        &self,
        run: Run<'_>,
        progress: &(impl Fn(&str) + Send + Sync),
    ) -> Result<String, ToolError> {
        let program = self.settings.program.display();
        let mut command = self.command(&run);
        let running = Running::spawn(&mut command).map_err(|e| {
            let message = format!(
                "{} is installed with npm, and {program} cannot be run ({e}): install npm, which comes with \
                 Node.js, or set `provisioner.npm` to it",
                run.name
            );
            ToolError::new(Cause::Configuration, "NPM_MISSING", message)
        })?;
        let mut words = Words::default();
        let since = self.env.clock.now();
        let dir = run.dir.to_owned();
        let measure = move || size(&dir);
        let ended = running.run(&self.env, self.settings.limit, EVERY, measure, |event| match event {
            Event::Line(line) => words.hear(line),
            Event::Measured(bytes) => {
                let seconds = self.env.clock.now().since(since).as_secs();
                let size = megabytes(bytes);
                let of = if run.packages == 0 { String::new() } else { format!(" of {}", run.packages) };
                let fetched = words.fetched;
                progress(&format!(
                    "npm: {}: {fetched}{of} packages fetched, {size} MB, {seconds} s",
                    run.name
                ));
            }
        });
        let Some(status) = ended.await.map_err(|e| ToolError::io("running npm", e))? else {
            let seconds = self.settings.limit.as_secs();
            let message = format!(
                "npm did not install {} within {seconds} s and was terminated; its output: {}",
                run.name,
                words.last()
            );
            return Err(ToolError::new(Cause::Timeout, "TOOL_INSTALL_TIMEOUT", message).retryable());
        };
        if status.success() { Ok(words.last()) } else { Err(failed(run.name, status, &words)) }
    }

    fn command(&self, run: &Run<'_>) -> Command {
        let mut npm = Command::new(&self.settings.program);
        npm.args(run.args).args(FIXED).arg("--prefix").arg(run.dir).current_dir(run.dir);
        npm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Our own settings may contain secrets, and npm does not need them.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FOUNDRY_") {
                npm.env_remove(name);
            }
        }
        if let Some(first) = &run.path_first {
            let mut path = OsString::from(first);
            if let Some(rest) = std::env::var_os("PATH") {
                path.push(":");
                path.push(rest);
            }
            npm.env("PATH", path);
        }
        npm
    }
}

fn failed(name: &str, status: ExitStatus, words: &Words) -> ToolError {
    let said = words.last();
    if words.mentions("ENOSPC") {
        return ToolError::disk_full(&format!("installing {name}"));
    }
    if words.mentions("EINTEGRITY") {
        let message = format!(
            "npm installed something other than the pinned packages of {name}; it is not used: {said}"
        );
        return ToolError::new(Cause::Image, "TOOL_CORRUPT", message);
    }
    let message = format!("npm could not install {name} ({status}): {said}");
    ToolError::new(Cause::Image, "NPM_INSTALL_FAILED", message).retryable()
}

/// The part of npm's output that may be needed.
#[derive(Default)]
struct Words {
    lines: VecDeque<String>,
    fetched: usize,
}

impl Words {
    fn hear(&mut self, line: &str) {
        if let Some(fetch) = line.strip_prefix("npm http fetch ") {
            let archive = fetch.split(' ').any(|word| word.ends_with(".tgz"));
            self.fetched += usize::from(archive && fetch.starts_with("GET 200"));
            if fetch.starts_with("GET 200") || fetch.starts_with("GET 304") {
                return;
            }
        }
        let noise = line.is_empty()
            || line.starts_with("npm http cache")
            || line.contains("A complete log of this run")
            || line.contains("EBADENGINE");
        if !noise {
            self.lines.push_back(line.to_owned());
            if self.lines.len() > 200 {
                self.lines.pop_front();
            }
        }
    }

    fn mentions(&self, code: &str) -> bool {
        self.lines.iter().any(|line| line.contains(code))
    }

    /// The errors, or the last output: whole lines, as many as fit, of the errors the first ones, since those name the
    /// cause.
    fn last(&self) -> String {
        let errors: Vec<&str> = self.lines.iter().filter_map(|line| error(line)).collect();
        let all = self.lines.iter().map(String::as_str);
        let (lines, from_end): (Vec<&str>, bool) =
            if errors.is_empty() { (all.rev().collect(), true) } else { (errors, false) };
        let (mut kept, mut room) = (Vec::new(), LAST_WORDS);
        for line in lines {
            let size = line.len() + 3;
            if size > room && !kept.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            kept.push(line);
        }
        if from_end {
            kept.reverse();
        }
        if kept.is_empty() { "nothing".to_owned() } else { kept.join(" | ") }
    }
}

/// The text of an error line; npm before version 9 wrote `ERR!`.
fn error(line: &str) -> Option<&str> {
    let text = line.strip_prefix("npm error").or_else(|| line.strip_prefix("npm ERR!"))?.trim();
    (!text.is_empty()).then_some(text)
}

/// The bytes of all files below a directory, as far as they can be seen.
pub(crate) fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

pub(crate) fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Words {
        let mut words = Words::default();
        text.lines().for_each(|line| words.hear(line));
        words
    }

    #[test]
    fn keeps_whole_lines_of_the_errors() {
        let long = format!("npm error {}\n", "x".repeat(700));
        let words = words(&format!(
            "npm warn EBADENGINE whatever\nnpm http fetch GET 200 https://r.example/a/-/a-1.0.0.tgz 5ms\n\
             npm error code E404\nnpm error\nnpm error 404 no such thing\n{long}{long}\
             npm error A complete log of this run can be found in: /x\n"
        ));
        let last = words.last();
        assert!(last.starts_with("code E404 | 404 no such thing | xxx"), "{last}");
        assert_eq!(last.matches(" | ").count(), 2, "the second long line did not fit: {last}");
        assert_eq!(words.fetched, 1);
    }

    #[test]
    fn gives_what_was_said_last_when_nothing_is_marked_as_an_error() {
        let words =
            words("env: 'node': No such file or directory\nnpm http fetch GET 404 https://r.example/b\n");
        let last = words.last();
        assert_eq!(
            last,
            "env: 'node': No such file or directory | npm http fetch GET 404 https://r.example/b"
        );
        assert_eq!(Words::default().last(), "nothing");
    }
}
