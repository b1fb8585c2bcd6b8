//! Pushing one branch of a mirror to its remote, and why a remote refuses that.

use std::collections::HashMap;

use super::Mirror;
use super::fetch::remote_command;
use crate::{BranchName, CommitId, GitError, RemoteUrl, Result, RunLimits};

/// Most bytes of the remote's own words that are kept.
const MAX_WORDS: usize = 2_000;

/// The tip of a branch at the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTip {
    /// None when the remote has no such branch.
    pub commit: Option<CommitId>,
    /// Whether it is the branch that the remote's `HEAD` names.
    pub is_default: bool,
}

/// How a push ended at the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The branch is at the new commit. With the remote's own words, such as where to open a pull request: at most 2,000 bytes
    /// without control characters other than line breaks.
    Accepted(String),
    /// The remote has refused it; nothing has changed there.
    Refused(Refusal),
}

/// One of the branches of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchPush {
    /// The branch at the remote.
    pub branch: BranchName,
    /// The commit to bring it to, which the mirror has.
    pub commit: CommitId,
    /// Where it must be; `None` means that it must not exist.
    pub expected: Option<CommitId>,
}

/// How a push of several branches ended at the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushedAll {
    /// All branches are at their new commits. With the remote's own words, as for one branch.
    Accepted(String),
    /// The remote has refused one, and nothing has changed there.
    Refused {
        /// Which one, if that is known.
        nth: Option<usize>,
        /// Why, with the remote's own words.
        refusal: Refusal,
    },
    /// The remote cannot do all or nothing; nothing has changed there.
    NotAtomic,
}

/// Why a remote refuses a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason.
    pub reason: &'static str,
    /// The remote's own words, at most 2,000 bytes without control characters other than line breaks.
    pub words: String,
}

impl Mirror {
    /// Asks the remote where a branch is.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub async fn remote_tip(&self, remote: &RemoteUrl, branch: &BranchName) -> Result<RemoteTip> {
        let mut tips = self.remote_tips(remote, std::slice::from_ref(branch)).await?;
        Ok(tips.pop().unwrap_or(RemoteTip { commit: None, is_default: false }))
    }

    /// Asks the remote where branches are, in their order.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub async fn remote_tips(&self, remote: &RemoteUrl, branches: &[BranchName]) -> Result<Vec<RemoteTip>> {
        let endpoint = remote.pin().await?;
        let stdout = (1 << 16) + 400 * branches.len() as u64;
        let limits = self.limits.listing(stdout);
        let full: Vec<String> = branches.iter().map(BranchName::to_ref).collect();
        let listed = remote_command(self.git.command("ls-remote"), &endpoint, limits)
            .args(["--quiet", "--symref"])
            .operands([endpoint.operand.as_os_str()])
            .operands(["HEAD"])
            .operands(&full)
            .run()
            .await
            .map_err(|e| endpoint.explain(e))?;
        endpoint.check_protocol().await?;
        let text = String::from_utf8_lossy(&listed.stdout);
        let (mut default, mut at) = ("", HashMap::new());
        for (left, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            match left.strip_prefix("ref: ") {
                Some(target) if name == "HEAD" => default = target,
                Some(_) => {}
                None => {
                    at.insert(name, left);
                }
            }
        }
        let tip = |name: &String| {
            let commit = at.get(name.as_str()).map(|id| CommitId::parse(id)).transpose()?;
            Ok(RemoteTip { commit, is_default: name == default })
        };
        full.iter().map(tip).collect()
    }

    /// Pushes a commit of the mirror to a branch, if the branch is still where it is expected; `None` means that it must
    /// not exist. Nothing else is pushed, and no hook or setting of this host takes part.
    ///
    /// # Errors
    /// When it is not known whether the push has arrived: ask [`Mirror::remote_tip`] before the next attempt.
    pub async fn push_branch(
        &self,
        remote: &RemoteUrl,
        branch: &BranchName,
        commit: &CommitId,
        expected: Option<&CommitId>,
    ) -> Result<Pushed> {
        let push = BranchPush { branch: branch.clone(), commit: commit.clone(), expected: expected.cloned() };
        match self.push(remote, std::slice::from_ref(&push), false).await? {
            PushedAll::Refused { refusal, .. } => Ok(Pushed::Refused(refusal)),
            PushedAll::Accepted(words) => Ok(Pushed::Accepted(words)),
            PushedAll::NotAtomic => Ok(Pushed::Accepted(String::new())),
        }
    }

    /// Pushes several branches, all of them or none, each if it is still where it is expected.
    ///
    /// # Errors
    /// As [`Mirror::push_branch`].
    pub async fn push_all(&self, remote: &RemoteUrl, pushes: &[BranchPush]) -> Result<PushedAll> {
        self.push(remote, pushes, true).await
    }

    async fn push(&self, remote: &RemoteUrl, pushes: &[BranchPush], atomic: bool) -> Result<PushedAll> {
        let endpoint = remote.pin().await?;
        let memory = Some(self.limits.fetch_memory);
        let limits = RunLimits { wall: self.limits.fetch_wall, stdout: 1 << 20, file: None, memory };
        let leases = pushes.iter().map(|p| {
            let expected = p.expected.as_ref().map(CommitId::as_str).unwrap_or_default();
            format!("--force-with-lease={}:{expected}", p.branch.to_ref())
        });
        let pushed = remote_command(self.command("push"), &endpoint, limits)
            // Hooks of the remote may take their time.
            .config("http.lowSpeedTime", "90")
            .args(["--porcelain", "--no-progress", "--no-verify", "--no-follow-tags", "--no-signed"])
            .args(["--recurse-submodules=no"])
            .args(atomic.then_some("--atomic"))
            .args(leases)
            .operands([endpoint.operand.as_os_str()])
            .operands(pushes.iter().map(|p| format!("{}:{}", p.commit, p.branch.to_ref())))
            .run_any()
            .await
            .map_err(|e| endpoint.explain(e))?;
        if pushed.code == 0 {
            return Ok(PushedAll::Accepted(own_words(&endpoint.redact(&pushed.stderr))));
        }
        let report = endpoint.redact(&String::from_utf8_lossy(&pushed.stdout));
        let failed = GitError::from_exit("push", &format!("exit {}", pushed.code), pushed.stderr);
        let failed = endpoint.explain(failed);
        if atomic && failed.stderr().contains("does not support --atomic") {
            return Ok(PushedAll::NotAtomic);
        }
        // With one branch refused, git reports all others as refused too, for that.
        let rejected: Vec<&str> = report.lines().filter(|line| line.starts_with('!')).collect();
        let cause = rejected.iter().find(|line| !line.contains("(atomic ")).or(rejected.first());
        let cause = cause.map_or("", |line| line);
        let words = words(cause, failed.stderr());
        match refusal_reason(cause, &words).or_else(|| forbidden_reason(failed.stderr())) {
            Some(reason) => {
                let to = cause.split('\t').nth(1).and_then(|refs| refs.split_once(':'));
                let nth = pushes.iter().position(|p| to.is_some_and(|(_, to)| to == p.branch.to_ref()));
                Ok(PushedAll::Refused { nth, refusal: Refusal { reason, words } })
            }
            None => Err(failed),
        }
    }
}

/// The reason by the words of the host, in lower case. All words of a line must occur. The first match wins: special causes
/// come first.
fn said_reason(words: &str) -> &'static str {
    const CAUSES: &[(&[&str], &str)] = &[
        (&["cannot contain secrets"], "PUSH_SECRET_FOUND"),
        (&["secret", "detected"], "PUSH_SECRET_FOUND"),
        (&["secret scanning"], "PUSH_SECRET_FOUND"),
        (&["unknown git lfs object"], "PUSH_LFS_OBJECTS_MISSING"),
        (&["lfs objects are missing"], "PUSH_LFS_OBJECTS_MISSING"),
        (&["verified signature"], "PUSH_UNSIGNED"),
        (&["must be signed"], "PUSH_UNSIGNED"),
        (&["unsigned commit"], "PUSH_UNSIGNED"),
        (&["create or update workflow"], "PUSH_WORKFLOW_REFUSED"),
        (&["file size limit"], "PUSH_TOO_LARGE"),
        (&["quota"], "PUSH_TOO_LARGE"),
        (&["storage limit"], "PUSH_TOO_LARGE"),
        (&["exceeds maximum allowed size"], "PUSH_TOO_LARGE"),
        (&["no space left"], "PUSH_TOO_LARGE"),
        (&["gh006"], "BRANCH_PROTECTED"),
        (&["protected branch"], "BRANCH_PROTECTED"),
        (&["gh013"], "BRANCH_PROTECTED"),
        (&["rule violation"], "BRANCH_PROTECTED"),
        (&["permission to", "denied"], "PUSH_FORBIDDEN"),
        (&["write access", "not granted"], "PUSH_FORBIDDEN"),
        (&["not allowed to push"], "PUSH_FORBIDDEN"),
        (&["read-only"], "PUSH_FORBIDDEN"),
        (&["insufficient permission"], "PUSH_FORBIDDEN"),
        (&["unable to create temporary object directory"], "PUSH_FORBIDDEN"),
        (&["denying non-fast-forward"], "PUSH_NOT_FAST_FORWARD"),
    ];
    let all_said = |all: &[&str]| all.iter().all(|word| words.contains(word));
    CAUSES.iter().find(|(all, _)| all_said(all)).map_or("PUSH_DECLINED", |(_, reason)| *reason)
}

/// The reason that git itself reports of a rejected ref.
fn reported_reason(rejected: &str) -> Option<&'static str> {
    const REPORTED: &[(&str, &str)] = &[
        ("stale info", "BRANCH_MOVED"),
        ("but expected", "BRANCH_MOVED"),
        ("incorrect old value", "BRANCH_MOVED"),
        ("reference already exists", "BRANCH_MOVED"),
        ("non-fast-forward", "PUSH_NOT_FAST_FORWARD"),
        ("fetch first", "PUSH_NOT_FAST_FORWARD"),
        ("directory file conflict", "BRANCH_CONFLICT"),
        ("there are still refs under", "BRANCH_CONFLICT"),
    ];
    REPORTED.iter().find(|(text, _)| rejected.contains(text)).map(|(_, reason)| *reason)
}

/// The reason of a refusal by the remote; none if the remote has not answered.
fn refusal_reason(report: &str, words: &str) -> Option<&'static str> {
    let rejected = report.lines().find(|line| line.starts_with('!'))?;
    if rejected.contains("[remote failure]") {
        return None;
    }
    let words = words.to_lowercase();
    if let Some(reported) = reported_reason(rejected) {
        return Some(reported);
    }
    if words.contains("cannot lock ref") {
        // Another push has the branch just now, perhaps one of ours that was cut off.
        if words.contains(".lock': file exists") {
            return None;
        }
        if words.contains("' exists") {
            return Some("BRANCH_CONFLICT");
        }
        // Somebody was faster, after the remote had listed its branches.
        if ["but expected", "reference already exists", "unable to resolve"].iter().any(|w| words.contains(w))
        {
            return Some("BRANCH_MOVED");
        }
    }
    Some(said_reason(&words))
}

/// The reason when the remote knows the caller but lets it only read, or nobody write.
fn forbidden_reason(stderr: &str) -> Option<&'static str> {
    let said = ["returned error: 403", "denied to", "not granted", "marked as read only"];
    said.iter().any(|w| stderr.contains(w)).then_some("PUSH_FORBIDDEN")
}

/// What the remote has said and git's own word for it.
fn words(report: &str, stderr: &str) -> String {
    let rejected = report.lines().find(|line| line.starts_with('!')).unwrap_or_default();
    let reason =
        rejected.rsplit_once(" (").map(|(_, reason)| reason.trim_end_matches(')')).unwrap_or_default();
    let mut said = own_words(stderr);
    let reason = plain(reason);
    if !reason.is_empty() && !said.contains(&reason) {
        if !said.is_empty() {
            said.push('\n');
        }
        said.push_str(&reason);
    }
    shortened(said)
}

/// The lines that come from the remote; over ssh, hosts write some before git is there to mark them.
fn own_words(stderr: &str) -> String {
    let of_remote = |line: &'_ str| {
        line.strip_prefix("remote:").or_else(|| line.strip_prefix("ERROR:")).map(str::to_owned)
    };
    let lines = stderr.split(['\n', '\r']).filter_map(of_remote);
    let lines: Vec<String> = lines.map(|line| plain(&line)).filter(|line| !line.is_empty()).collect();
    shortened(lines.join("\n"))
}

/// Words of a host, as people are shown them.
pub(crate) fn harmless(said: &str) -> String {
    let lines: Vec<String> = said.lines().map(plain).filter(|line| !line.is_empty()).collect();
    shortened(lines.join("\n"))
}

/// A line without colours and control characters.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
        } else if c == '\t' {
            out.push(' ');
        } else if !c.is_control() && !is_invisible(c) {
            out.push(c);
        }
    }
    out.trim().to_owned()
}

/// Characters that change the direction of a text, or cannot be seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The beginning and the end, within the limit: hosts say the cause first, hooks last.
fn shortened(text: String) -> String {
    if text.len() <= MAX_WORDS {
        return text;
    }
    let (mut first, mut last) = (MAX_WORDS / 3, text.len() - MAX_WORDS / 2);
    while !text.is_char_boundary(first) {
        first -= 1;
    }
    while !text.is_char_boundary(last) {
        last += 1;
    }
    format!("{}\n…\n{}", &text[..first], &text[last..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLINED: &str = "!\tabc:refs/heads/x\t[remote rejected] (pre-receive hook declined)\nDone\n";

    #[test]
    fn a_refusal_is_typed_by_the_words_of_the_host() {
        for (said, reason) in [
            ("error: GH006: Protected branch update failed for refs/heads/x.", "BRANCH_PROTECTED"),
            (
                "error: GH006: Protected branch update failed\nCommits must have verified signatures.",
                "PUSH_UNSIGNED",
            ),
            (
                "error: GH013: Repository rule violations found\n- Push cannot contain secrets",
                "PUSH_SECRET_FOUND",
            ),
            ("error: GH013: Repository rule violations found for refs/heads/x", "BRANCH_PROTECTED"),
            (
                "refusing to allow an OAuth App to create or update workflow `.github/workflows/x.yml` without `workflow` scope",
                "PUSH_WORKFLOW_REFUSED",
            ),
            (
                "error: File a is 120.00 MB; this exceeds GitHub's file size limit of 100.00 MB",
                "PUSH_TOO_LARGE",
            ),
            (
                "GitLab: You are not allowed to push code to protected branches on this project.",
                "BRANCH_PROTECTED",
            ),
            ("GitLab: You are not allowed to push code to this project.", "PUSH_FORBIDDEN"),
            (
                "error: GH008: Your push referenced at least 1 unknown Git LFS object:\n    abc\nTry to push them with 'git lfs push --all'.",
                "PUSH_LFS_OBJECTS_MISSING",
            ),
            (
                "GitLab: LFS objects are missing. Ensure LFS is properly set up or try a manual \"git lfs push --all\".",
                "PUSH_LFS_OBJECTS_MISSING",
            ),
            ("no ticket number in the message", "PUSH_DECLINED"),
        ] {
            let stderr: String = said.lines().map(|line| format!("remote: {line}\n")).collect();
            let words = words(DECLINED, &stderr);
            assert_eq!(refusal_reason(DECLINED, &words), Some(reason), "{said}");
            assert!(words.contains(said.lines().next().unwrap()), "{words}");
        }
    }

    #[test]
    fn what_is_not_a_refusal_of_the_remote_is_none() {
        assert_eq!(refusal_reason("", ""), None);
        let lost = "!\ta:refs/heads/x\t[remote failure] (remote failed to report status)\n";
        assert_eq!(refusal_reason(lost, ""), None);
        let locked = "error: cannot lock ref 'refs/heads/x': Unable to create '/r.git/./refs/heads/x.lock': File exists.";
        assert_eq!(
            refusal_reason("!\ta:refs/heads/x\t[remote rejected] (failed to update ref)\n", locked),
            None
        );
        let stale = "!\ta:refs/heads/x\t[rejected] (stale info)\n";
        assert_eq!(refusal_reason(stale, "GH006: Protected branch"), Some("BRANCH_MOVED"));
    }

    #[test]
    fn words_of_a_remote_are_bounded_and_harmless() {
        let stderr = "remote: \u{1b}[31mno\u{1b}[0m \u{7}way\u{202e}\r\nremote:   \nfatal: /data/mirrors\n";
        assert_eq!(words(DECLINED, stderr), "no way\npre-receive hook declined");
        let long = format!("remote: first\n{}remote: last\n", "remote: é noise\n".repeat(5_000));
        let long = words(DECLINED, &long);
        assert!(long.len() <= MAX_WORDS, "{}", long.len());
        assert!(long.starts_with("first\n") && long.ends_with("last\npre-receive hook declined"), "{long}");
    }
}
