//! A directory with a real repository, its mirror, and a sandbox's clone of it.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use foundry_core::Timestamp;
use foundry_git::{
    BranchName, CloneSpec, CommitId, Git, ImportLimits, ImportedWork, MAX_WORK_BUNDLE, Mirror, MirrorLimits,
    Notice, RemoteUrl, Result, Revision, UrlPolicy, WORK_BUNDLE_SCRIPT, WorkBundle, WorkBundleOutput,
    WorkName,
};

pub struct Lab {
    dir: tempfile::TempDir,
    pub git: Git,
}

impl Lab {
    /// A repository with one commit on `main`.
    pub async fn new() -> Self {
        let lab = Self {
            dir: tempfile::Builder::new().prefix("lab").tempdir().unwrap(),
            git: Git::detect().await.unwrap(),
        };
        std::fs::create_dir(lab.real()).unwrap();
        lab.sh(
            &lab.real(),
            "git init -q -b main .
             printf 'one\\ntwo\\nthree\\n' > text; printf 'no newline' > plain; mkdir dir; echo x > dir/inner
             printf '#!/bin/sh\\n' > run.sh; head -c 3000 /dev/urandom > blob; echo old > gone; seq 1 40 > moved
             echo 'ignored/' > .gitignore
             git add -A && git commit -q -m 'first commit'",
        );
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The real repository, as its owner has it.
    pub fn real(&self) -> PathBuf {
        self.path("real")
    }

    pub fn policy(&self) -> UrlPolicy {
        UrlPolicy::embedded(self.path("data"))
    }

    pub fn remote(&self) -> RemoteUrl {
        RemoteUrl::parse(self.real().to_str().unwrap(), &self.policy()).unwrap()
    }

    pub async fn try_mirror(&self, limits: MirrorLimits) -> Result<Mirror> {
        Mirror::create(&self.git, self.path("data/mirror"), &self.remote(), limits).await
    }

    pub async fn mirror(&self) -> Mirror {
        self.try_mirror(MirrorLimits::default()).await.unwrap()
    }

    /// Runs a script as the owner of a tree; panics when it fails.
    pub fn sh(&self, dir: &Path, script: &str) -> String {
        let out = self.try_sh(dir, script, &[]);
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    pub fn try_sh(&self, dir: &Path, script: &str, env: &[(&str, String)]) -> Output {
        Command::new("sh")
            .args(["-euc", script])
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Owner")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "owner@example.com")))
            .envs(env.iter().map(|(k, v)| (k, v)))
            .output()
            .unwrap()
    }

    pub fn rev(&self, dir: &Path, name: &str) -> CommitId {
        CommitId::parse(&self.sh(dir, &format!("git rev-parse '{name}'"))).unwrap()
    }

    /// A mirror, and a sandbox's clone of it at `main`.
    pub async fn sandbox(&self) -> Sandbox<'_> {
        let mirror = self.mirror().await;
        let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
        let spec = CloneSpec {
            base: base.clone(),
            branch: branch("foundry/work"),
            destination: self.path("sandbox"),
            origin: None,
            lfs: None,
            lfs_content: false,
            submodules_of: None,
            identity: ("Agent".into(), "agent@example.com".into()),
        };
        mirror.clone_into(&spec).await.unwrap();
        Sandbox { lab: self, mirror, base, tree: spec.destination }
    }
}

pub fn branch(name: &str) -> BranchName {
    BranchName::parse(name).unwrap()
}

pub fn work() -> WorkName {
    WorkName::parse("task_1").unwrap()
}

pub struct Sandbox<'a> {
    pub lab: &'a Lab,
    pub mirror: Mirror,
    pub base: CommitId,
    pub tree: PathBuf,
}

impl Sandbox<'_> {
    pub fn sh(&self, script: &str) -> String {
        self.lab.sh(&self.tree, script)
    }

    pub fn bundle(&self) -> PathBuf {
        self.lab.path("work.bundle")
    }

    pub fn run_script(&self) -> Output {
        self.run_script_with(&[])
    }

    /// The same with additional environment variables.
    pub fn run_script_with(&self, more: &[(&str, String)]) -> Output {
        let spec = WorkBundle {
            tree: self.tree.clone(),
            base: self.base.clone(),
            work: work(),
            bundle: self.bundle(),
            time: Timestamp::from_micros(1_700_000_000_000_000),
            max_bytes: MAX_WORK_BUNDLE,
        };
        self.lab.try_sh(self.lab.dir.path(), WORK_BUNDLE_SCRIPT, &[&spec.env(), more].concat())
    }

    /// Commits the tree as the sandbox does and returns the head.
    pub fn hand_over(&self) -> CommitId {
        self.output(&[]).head
    }

    /// The head and the notices of a hand-over, with additional environment variables.
    pub fn output(&self, more: &[(&str, String)]) -> WorkBundleOutput {
        let out = self.run_script_with(more);
        assert!(out.status.success(), "{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
        WorkBundleOutput::parse(&String::from_utf8_lossy(&out.stdout)).unwrap()
    }

    /// The notices of a hand-over, as `Kind count branch path detail` without what is empty.
    pub fn notices(&self) -> Vec<String> {
        self.output(&[]).notices.iter().map(in_words).collect()
    }

    pub async fn try_import(&self) -> Result<ImportedWork> {
        self.mirror.import_bundle(&work(), &self.bundle(), &self.base, &ImportLimits::default()).await
    }

    pub async fn import(&self) -> ImportedWork {
        let head = self.hand_over();
        let imported = self.try_import().await.unwrap();
        assert_eq!(imported.head, head);
        imported
    }

    /// Every ref of the mirror, to check that none moved.
    pub fn refs(&self) -> String {
        self.lab.sh(self.mirror.dir(), "git for-each-ref")
    }

    /// Number of packs and loose objects of the mirror.
    pub fn objects(&self) -> String {
        self.lab.sh(self.mirror.dir(), "git count-objects -v")
    }
}

/// What is on disk below a directory, except `.git`: path, whether executable, content or link target.
pub fn snapshot(dir: &Path) -> Vec<(Vec<u8>, u32, Vec<u8>)> {
    fn visit(root: &Path, dir: &Path, out: &mut Vec<(Vec<u8>, u32, Vec<u8>)>) {
        for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            if entry.file_name() == ".git" {
                continue;
            }
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            if meta.is_symlink() {
                out.push((name, 0, std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()));
            } else if meta.is_dir() {
                visit(root, &path, out);
            } else {
                out.push((name, meta.permissions().mode() & 0o100, std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    visit(dir, dir, &mut out);
    out.sort();
    out
}

fn in_words(notice: &Notice) -> String {
    let count = if notice.count == 0 { String::new() } else { notice.count.to_string() };
    let words = [format!("{:?}", notice.kind), count];
    let words = words.iter().chain([&notice.branch, &notice.path, &notice.detail]);
    words.filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}
