//! A task's work as git has it: a local branch, a bundle, or one patch, complete whatever the size.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_proto::repo::v1::{
    GetRepositoryRequest, StreamWorkPatchRequest, stream_work_patch_response::Part,
};
use foundry_proto::task::v1::{GetTaskRequest, Task};
use tokio::process::Command;

use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// Most commits that are listed after a fetch.
const LISTED: &str = "--max-count=20";
/// The beginning of the refs that keep what publications have replaced.
const REPLACED: &str = "refs/foundry/replaced/";

/// The person's own git, with the address of a task's repository and the token for it. The token is in the environment
/// only: neither in arguments, which others can list, nor in a file.
struct Remote {
    task: Task,
    /// The ref that is fetched.
    name: String,
    url: String,
    env: Vec<(String, String)>,
}

impl Remote {
    async fn of(gateway: &Gateway, task_id: &str) -> Result<Self, Failure> {
        let request = GetTaskRequest { task_id: task_id.to_owned() };
        let task = gateway.task().get_task(request).await?.into_inner().task.unwrap_or_default();
        repository_is_there(gateway, &task).await?;
        let url = gateway.git_url(&task.organization_id, &task.repository_id);
        let basic = STANDARD.encode(format!("foundry:{}", gateway.token()));
        let mut settings = vec![
            (format!("http.{url}.extraHeader"), format!("Authorization: Basic {basic}")),
            (format!("http.{url}.followRedirects"), "false".to_owned()),
        ];
        // For the mesh alone, git trusts what this program does.
        if let Some(authorities) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
            // Git runs in other directories.
            let path = std::path::absolute(authorities)?.display().to_string();
            settings.push((format!("http.{url}.sslCAInfo"), path));
        }
        let given: usize =
            std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
        let mut env = vec![
            ("GIT_CONFIG_COUNT".to_owned(), (given + settings.len()).to_string()),
            ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
        ];
        for (at, (key, value)) in settings.into_iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{}", given + at), key));
            env.push((format!("GIT_CONFIG_VALUE_{}", given + at), value));
        }
        let name = format!("refs/foundry/tasks/{}", task.task_id);
        Ok(Self { task, name, url, env })
    }

    /// The commit of the work, in hex.
    async fn listed(&self, dir: &Path) -> Result<String, Failure> {
        let listed = self.git(dir, ["ls-remote", "--exit-code", &self.url, &self.name]).output().await?;
        if listed.status.code() == Some(2) {
            let text = match self.name.starts_with(REPLACED) {
                true => "the job has replaced nothing at the remote, or is none of this repository",
                false => "the task has no work yet",
            };
            return Err(Failure::new(text).exit(4));
        }
        if !listed.status.success() {
            return Err(failed("git ls-remote", listed.status, &listed.stderr));
        }
        let line = String::from_utf8_lossy(&listed.stdout);
        Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Fetches the work into a ref of the repository in `dir`; what that ref was is replaced.
    async fn fetch_into(&self, dir: &Path, to: &str) -> Result<(), Failure> {
        let refspec = format!("+{}:{to}", self.name);
        // Its own lines about refs would be internal names.
        let silent = if has_porcelain(dir).await? { "--porcelain" } else { "--quiet" };
        let args = ["fetch", silent, "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        // A repository that was registered from a shallow clone has only a part of its history.
        let args = args.into_iter().chain(["--update-shallow", self.url.as_str(), &refspec]);
        let mut fetch = self.git(dir, args);
        // Its progress is for the person.
        let status = fetch.stdout(Stdio::null()).stderr(Stdio::inherit()).status().await?;
        if status.success() { Ok(()) } else { Err(failed("git fetch", status, b"")) }
    }

    fn git<A: AsRef<OsStr>>(&self, dir: &Path, args: impl IntoIterator<Item = A>) -> Command {
        let mut git = git(dir, args);
        git.envs(self.env.iter().map(|(key, value)| (key, value)));
        git
    }
}

/// Whether this git can print what became of refs for programs, and so keep it out of its progress: 2.41 and newer.
async fn has_porcelain(dir: &Path) -> Result<bool, Failure> {
    let said = said(dir, &["version"]).await?;
    let mut numbers = said.split(' ').nth(2).unwrap_or_default().split('.').map(str::parse::<u32>);
    Ok(
        matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (2, 41)),
    )
}

/// A task outlives its repository, and git has only an internal id for that.
async fn repository_is_there(gateway: &Gateway, task: &Task) -> Result<(), Failure> {
    let request = GetRepositoryRequest { repository_id: task.repository_id.clone() };
    match gateway.repo().get_repository(request).await {
        Err(status) if status.code() == tonic::Code::NotFound => {
            let text =
                "the repository of the task was removed, and the stored work with it (REPOSITORY_REMOVED)";
            let next = "if its sandbox is still there, ask the agent to show what you need";
            Err(Failure::new(text).next(next).exit(4))
        }
        answer => answer.map(drop).map_err(Failure::from),
    }
}

/// Fetches the work of a task, or what a publication has replaced, into a branch of the clone in the current directory.
///
/// # Errors
/// The service's or git's error; outside a clone; where the branch has commits that the fetch would drop.
pub async fn fetch(
    gateway: &Gateway,
    output: Output,
    task_id: &str,
    (into, replaced): (Option<String>, Option<String>),
) -> Result<(), Failure> {
    let here = std::env::current_dir()?;
    if !git(&here, ["rev-parse", "--git-dir"]).output().await?.status.success() {
        return Err(Failure::new("this directory is in no clone of the repository")
            .next("change to a clone, or save the work with `foundry task bundle` or `foundry task diff --patch`")
            .exit(2));
    }
    let mut remote = Remote::of(gateway, task_id).await?;
    let branch = into.unwrap_or_else(|| match &replaced {
        Some(job) => format!("replaced/{job}"),
        None => remote.task.branch.clone(),
    });
    if let Some(job) = replaced {
        remote.name = format!("{REPLACED}{job}");
    }
    said(&here, &["check-ref-format", "--branch", &branch]).await?;
    let full = format!("refs/heads/{branch}");
    let (taken, local) = (commit(&here, &remote.name).await?, commit(&here, &full).await?);
    remote.listed(&here).await?;
    remote.fetch_into(&here, &remote.name).await?;
    let new = commit(&here, &remote.name).await?.ok_or_else(|| Failure::new("git fetched nothing"))?;
    if let Some(local) = &local {
        let ahead = git(&here, ["merge-base", "--is-ancestor", local, &new]).output().await?;
        // Work that is handed over again replaces its last commit, so what was taken before may be dropped.
        if !ahead.status.success() && taken.as_ref() != Some(local) {
            let text = format!("branch {branch} has commits that are no part of the task's work");
            return Err(Failure::new(text).next("choose another branch with --into"));
        }
    }
    move_branch(&here, &full, local.as_deref(), &new).await?;
    let without = format!("--exclude={branch}");
    let mut args = vec!["log", "--format=%h %s", LISTED, new.as_str(), "--not", "--remotes"];
    args.extend([without.as_str(), "--branches"]);
    let commits =
        if local.as_deref() == Some(new.as_str()) { String::new() } else { said(&here, &args).await? };
    if output == Output::Json {
        let shown = serde_json::json!({
            "branch": branch, "commit": new, "previous_commit": local, "url": remote.url,
        });
        output::line(&shown.to_string());
        return Ok(());
    }
    let how = match &local {
        None => "new branch".to_owned(),
        Some(local) if *local == new => "up to date".to_owned(),
        Some(local) => format!("was {}", short(local)),
    };
    output::line(&format!("{}  {}  {how}", output::inert(&branch), short(&new)));
    for line in commits.lines() {
        output::line(&format!("  {}", output::inert(line)));
    }
    Ok(())
}

/// Moves a branch to a commit, with the files if it is checked out here. git refuses to overwrite changed files, and
/// to move a branch that is checked out elsewhere.
async fn move_branch(here: &Path, full: &str, local: Option<&str>, new: &str) -> Result<(), Failure> {
    let head = git(here, ["symbolic-ref", "--quiet", "HEAD"]).output().await?;
    let is_here = String::from_utf8_lossy(&head.stdout).trim() == full;
    let name = full.trim_start_matches("refs/heads/");
    match local {
        Some(local) if local == new => Ok(()),
        Some(_) if is_here => said(here, &["reset", "--quiet", "--keep", new]).await.map(drop),
        Some(_) => said(here, &["branch", "--quiet", "--no-track", "--force", name, new]).await.map(drop),
        // `reset` needs a commit to start from.
        None if is_here => said(here, &["merge", "--quiet", "--ff-only", new]).await.map(drop),
        None => said(here, &["branch", "--quiet", "--no-track", name, new]).await.map(drop),
    }
}

/// Saves the work of a task, with its whole history, as a bundle that git has verified.
///
/// # Errors
/// The service's or git's error; nothing is left in place of the file then.
pub async fn bundle(gateway: &Gateway, task_id: &str, file: &Path) -> Result<(), Failure> {
    let remote = Remote::of(gateway, task_id).await?;
    let scratch = tempfile::Builder::new().prefix("foundry-bundle-").tempdir()?;
    let dir = scratch.path();
    init(dir, &remote.listed(dir).await?).await?;
    let full = format!("refs/heads/{}", remote.task.branch);
    remote.fetch_into(dir, &full).await?;
    if said(dir, &["rev-parse", "--is-shallow-repository"]).await? == "true" {
        let text =
            "the repository was registered from a shallow clone, so a bundle would lack the older history";
        return Err(Failure::new(text)
            .next("fetch the work with `foundry task fetch`, or save it with `foundry task diff --patch`"));
    }
    said(dir, &["symbolic-ref", "HEAD", &full]).await?;
    let part = Unfinished::beside(file)?;
    let path = part.0.as_os_str();
    let args = ["bundle", "create", "--quiet"].map(OsStr::new);
    run(git(dir, args.into_iter().chain([path, "HEAD".as_ref(), full.as_ref()]))).await?;
    run(git(dir, ["bundle", "verify", "--quiet"].map(OsStr::new).into_iter().chain([path]))).await?;
    std::fs::rename(&part.0, file)?;
    output::line(&format!(
        "{}  {}",
        output::inert(&remote.task.branch),
        output::inert(&file.display().to_string())
    ));
    Ok(())
}

/// Makes a bare repository for commits whose ids are as long as this one.
async fn init(dir: &Path, commit: &str) -> Result<(), Failure> {
    let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    said(dir, &["init", "--quiet", "--bare", "--template=", format, "."]).await.map(drop)
}

/// An unfinished file beside the one to make; removed unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(file: &Path) -> Result<Self, Failure> {
        let mut name: OsString = std::path::absolute(file)?.into();
        name.push(".part");
        Ok(Self(name.into()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Prints the patch of a task as it is made; `whole`: with what was merged from other branches.
///
/// # Errors
/// The service's error, also in the middle of the patch.
pub async fn print_patch(gateway: &Gateway, task_id: String, whole: bool) -> Result<(), Failure> {
    let request = StreamWorkPatchRequest { task_id, version: 0, whole };
    let mut parts = gateway.repo().stream_work_patch(request).await?.into_inner();
    let mut out = std::io::stdout();
    while let Some(answer) = parts.message().await? {
        if let Some(Part::Chunk(piece)) = answer.part {
            out.write_all(&piece)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn git<A: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut git = Command::new("git");
    git.args(args).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    git
}

/// What git printed.
async fn said(dir: &Path, args: &[&str]) -> Result<String, Failure> {
    run(git(dir, args)).await
}

async fn run(mut git: Command) -> Result<String, Failure> {
    let out = git.output().await.map_err(|e| Failure::new(format!("git cannot be started: {e}")))?;
    if !out.status.success() {
        return Err(failed("git", out.status, &out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The commit of a ref, if there is one.
async fn commit(dir: &Path, name: &str) -> Result<Option<String>, Failure> {
    let args = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
    let out = git(dir, args.into_iter().chain([format!("{name}^{{commit}}").as_str()])).output().await?;
    Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned()))
}

fn failed(what: &str, status: ExitStatus, stderr: &[u8]) -> Failure {
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Failure::new(last.map_or_else(|| format!("{what} failed ({status})"), |line| format!("{what}: {line}")))
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(dir: &Path, args: &[&str]) -> String {
        said(dir, args).await.unwrap()
    }

    /// A repository on a branch without a commit, and a commit in it with one file.
    async fn unborn() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        sh(at, &["init", "--quiet", "--initial-branch=other", "."]).await;
        std::fs::write(at.join("file"), "theirs").unwrap();
        sh(at, &["add", "file"]).await;
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        sh(at, &[&who[..], &["commit", "--quiet", "-m", "work"]].concat()).await;
        let new = sh(at, &["rev-parse", "HEAD"]).await;
        sh(at, &["symbolic-ref", "HEAD", "refs/heads/main"]).await;
        sh(at, &["rm", "--quiet", "--cached", "file"]).await;
        std::fs::remove_file(at.join("file")).unwrap();
        (dir, new)
    }

    #[tokio::test]
    async fn a_branch_without_a_commit_that_is_checked_out_gets_the_work_with_its_files() {
        let (dir, new) = unborn().await;
        move_branch(dir.path(), "refs/heads/main", None, &new).await.unwrap();
        assert_eq!(sh(dir.path(), &["rev-parse", "main"]).await, new);
        assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "theirs");
        assert_eq!(sh(dir.path(), &["status", "--porcelain"]).await, "");
    }

    #[tokio::test]
    async fn a_file_that_git_does_not_know_is_not_overwritten_by_the_work() {
        let (dir, new) = unborn().await;
        std::fs::write(dir.path().join("file"), "mine").unwrap();
        move_branch(dir.path(), "refs/heads/main", None, &new).await.err().unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "mine");
        assert_eq!(commit(dir.path(), "refs/heads/main").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_bundle_is_made_in_a_repository_of_the_tasks_object_format() {
        for (length, format) in [(40, "sha1"), (64, "sha256")] {
            let dir = tempfile::tempdir().unwrap();
            init(dir.path(), &"a".repeat(length)).await.unwrap();
            assert_eq!(sh(dir.path(), &["rev-parse", "--show-object-format"]).await, format);
        }
    }
}
