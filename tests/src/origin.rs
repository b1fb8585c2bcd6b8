//! A real Git repository for tasks to work on.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository in a directory of its own.
pub struct Origin {
    path: PathBuf,
}

/// Runs git and returns its trimmed output.
///
/// # Panics
/// When git fails.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args([
            "-c",
            "user.name=story",
            "-c",
            "user.email=story@example.invalid",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .current_dir(dir)
        .output()
        .expect("git runs");
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

impl Origin {
    /// Creates a repository with a README and a source file on `main`.
    ///
    /// # Panics
    /// When git fails.
    pub fn create(parent: &Path) -> Self {
        let path = parent.join("origin");
        std::fs::create_dir(&path).expect("directory");
        git(&path, &["init", "-q"]);
        std::fs::write(path.join("README.md"), "# Origin\n").expect("file");
        std::fs::create_dir(path.join("src")).expect("directory");
        std::fs::write(path.join("src/lib.rs"), "pub fn one() -> u32 {\n    1\n}\n").expect("file");
        git(&path, &["add", "."]);
        git(&path, &["commit", "-q", "-m", "first"]);
        Self { path }
    }

    /// Directory of the repository.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Applies a patch in a fresh clone and returns the clone.
    ///
    /// # Panics
    /// When the patch does not apply.
    pub fn apply(&self, patch: &[u8]) -> tempfile::TempDir {
        let clone = tempfile::tempdir().expect("directory");
        git(clone.path(), &["clone", "-q", &self.path.display().to_string(), "."]);
        let file = clone.path().join(".git/work.patch");
        std::fs::write(&file, patch).expect("file");
        git(clone.path(), &["apply", "--index", &file.display().to_string()]);
        clone
    }
}
