//! Settings for git inside the sandbox: who commits, and where `origin` is fetched from.
//!
//! They are in a file and not in the environment, which some agents do not pass on whole: a part of `GIT_CONFIG_COUNT` and
//! its companions would make every git command fail. The address of the forwarder is another one after each start, so
//! the file is written then, and the clone's own configuration holds only a URL that stands for it.

use std::io;
use std::path::Path;

use foundry_sandbox::GitSettings;
use foundry_sandbox::wire::Start;

use crate::error::Failure;
use crate::files::Files;

/// Our settings, below HOME; written at every start.
const OURS: &str = ".foundry/gitconfig";
/// The settings of the sandbox's user; made once, and then theirs.
const USERS: &str = ".gitconfig";
const INCLUDE: &str = "# The settings of this sandbox; what follows them takes precedence.\n\
    [include]\n\tpath = ~/.foundry/gitconfig\n";

/// What `git lfs install` writes. What cannot be downloaded stays a pointer: a sandbox has no credential for it, and git would
/// stop in the middle of a merge or checkout that brings such a file.
const LFS: &str = "[lfs]\n\tskipdownloaderrors = true\n[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\
    \tprocess = git-lfs filter-process\n\trequired = true\n";

/// Writes the settings. `forwarder` is its base URL; none = `origin` cannot be fetched from.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(
    start: &Start,
    home: &Path,
    forwarder: Option<&str>,
    files: &Files,
) -> Result<(), Failure> {
    let Some(settings) = &start.git else { return Ok(()) };
    let token = start.key.git_token(start.sandbox.as_str());
    files.put(&home.join(OURS), 0o600, text(settings, forwarder, &token).as_bytes())?;
    let users = home.join(USERS);
    // Git reads both of them.
    let has_own = [users.clone(), home.join(".config/git/config")];
    let absent =
        |path: &Path| path.symlink_metadata().is_err_and(|e| matches!(e.kind(), io::ErrorKind::NotFound));
    if has_own.iter().all(|path| absent(path)) {
        files.put(&users, 0o644, INCLUDE.as_bytes())?;
    }
    Ok(())
}

fn text(settings: &GitSettings, forwarder: Option<&str>, token: &str) -> String {
    let GitSettings { name, email, origin, repository, lfs } = settings;
    let mut text =
        "# Written at each start of the sandbox: put your own settings into ~/.gitconfig.\n".to_owned();
    text.push_str(&format!("[user]\n\tname = {}\n\temail = {}\n", quoted(name), quoted(email)));
    if *lfs {
        text.push_str(LFS);
    }
    if let Some(forwarder) = forwarder.filter(|_| !origin.is_empty()) {
        let address = quoted(&format!("{forwarder}/git/{repository}/"));
        text.push_str(&format!("[url {address}]\n\tinsteadOf = {}\n", quoted(origin)));
        if origin.starts_with("https://") {
            // Git LFS goes by the same rules, and its files are not served there.
            let lfs = quoted(&format!("{origin}info/lfs"));
            text.push_str(&format!("[url {lfs}]\n\tinsteadOf = {lfs}\n"));
        }
        let header = quoted(&format!("Authorization: Bearer {token}"));
        // The forwarder is in the sandbox, so its proxy has no part in this.
        text.push_str(&format!("[http {address}]\n\textraHeader = {header}\n\tproxy =\n"));
    }
    text
}

/// A value in quotes, on one line.
fn quoted(value: &str) -> String {
    let plain: String = value.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> GitSettings {
        GitSettings {
            name: "A \"quoted\" agent\nx".to_owned(),
            email: "a@b".to_owned(),
            origin: "https://example.com/a.git/".to_owned(),
            repository: "org_1/repo_1".to_owned(),
            lfs: true,
        }
    }

    /// What git reads in these settings.
    fn read(text: &str, args: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new("git");
        command.env("GIT_CONFIG_GLOBAL", &file).env("GIT_CONFIG_NOSYSTEM", "1").current_dir(dir.path());
        let out = command.args(args).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn git_reads_them_as_they_are_meant() {
        let text = text(&settings(), Some("http://127.0.0.1:7"), "secret");
        assert_eq!(read(&text, &["config", "user.name"]), "A \"quoted\" agentx");
        assert_eq!(read(&text, &["config", "filter.lfs.process"]), "git-lfs filter-process");
        assert_eq!(read(&text, &["config", "--bool", "lfs.skipdownloaderrors"]), "true");
        let listed = |url| read(&text, &["ls-remote", "--get-url", url]);
        assert_eq!(listed("https://example.com/a.git/"), "http://127.0.0.1:7/git/org_1/repo_1/");
        for other in ["https://example.com/a.git", "https://example.com/a.git/info/lfs"] {
            assert_eq!(listed(other), other, "no other URL stands for it");
        }
        let header = |url| read(&text, &["config", "--get-urlmatch", "http.extraHeader", url]);
        let address = "http://127.0.0.1:7/git/org_1/repo_1/info/refs";
        assert_eq!(header(address), "Authorization: Bearer secret");
        for other in [
            "http://127.0.0.1:8/git/org_1/repo_1/",
            "http://127.0.0.1:7/git/org_1/repo_2/",
            "http://127.0.0.1:7/git/org_1/repo_12/",
            "https://example.com/a.git/",
        ] {
            assert_eq!(header(other), "", "{other}");
        }
    }

    #[test]
    fn without_a_forwarder_there_is_only_the_identity() {
        let text = text(&settings(), None, "secret");
        assert!(text.contains("email") && !text.contains("secret") && !text.contains("url"), "{text}");
    }
}
