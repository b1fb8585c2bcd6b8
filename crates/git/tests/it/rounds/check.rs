//! Compares what was imported with what is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use foundry_git::{Mirror, Notice, NoticeKind};
use sha1::{Digest as _, Sha1};

use super::HandedOver;
use super::agent::git_in;

/// Mode and blob of each path.
type Tree = BTreeMap<Vec<u8>, (u32, String)>;
const LINK: u32 = 0o160_000;

/// What must not change in the agent's repository.
pub fn state(tree: &Path) -> Vec<Option<Vec<u8>>> {
    ["index", "HEAD", "config", "logs/HEAD"]
        .map(|name| std::fs::read(tree.join(".git").join(name)).ok())
        .to_vec()
}

/// Differences that no notice names, and losses that none names. `saved`: there was a hand-over with history before.
pub fn problems(mirror: &Mirror, tree: &Path, handed: &HandedOver, saved: bool) -> Vec<String> {
    let imported = listed(mirror, handed.output.head.as_str());
    let mut on_disk = Tree::new();
    disk(tree, b"", &mut on_disk);
    let mut named = Named { tree, handed, saved, mirror, known: None, ignored_by_work: 0 };
    let mut problems = Vec::new();
    let paths: BTreeSet<_> = imported.keys().chain(on_disk.keys()).collect();
    let below = |path: &[u8]| {
        imported
            .iter()
            .find(|(link, (mode, _))| *mode == LINK && is_below(path, link))
            .map(|(link, _)| link.clone())
    };
    for path in paths {
        let (there, here) = (imported.get(path), on_disk.get(path));
        if there == here {
            continue;
        }
        let fine = match (there, here) {
            _ if named.by_notice(path) => true,
            (Some((LINK, _)), None) => tree.join(OsStr::from_bytes(path)).is_dir(),
            (None, Some(_)) => {
                below(path).is_some_and(|link| named.clean_submodule(&link)) || named.ignored(path)
            }
            (Some(_), None) => named.absent_by_index(path),
            _ => named.absent_by_index(path),
        };
        if !fine {
            problems.push(format!("{}: imported {there:?}, on disk {here:?}", String::from_utf8_lossy(path)));
        }
    }
    problems.extend(unnamed_losses(tree, handed));
    let counted =
        handed.output.notices.iter().filter(|n| n.kind == NoticeKind::IgnoredByWork).map(|n| n.count);
    let counted = counted.sum::<i64>();
    if counted < named.ignored_by_work && !handed.output.notices.iter().any(|n| n.kind == NoticeKind::More) {
        let files = named.ignored_by_work;
        problems.push(format!("{files} files are ignored by rules of the work, and {counted} are named"));
    }
    if !problems.is_empty() {
        problems.push(format!("notices: {:?}", handed.output.notices));
    }
    problems
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Branches and stashes of the agent that are in no other place.
fn unnamed_losses(tree: &Path, handed: &HandedOver) -> Vec<String> {
    let notices = &handed.output.notices;
    let has = |kind| notices.iter().any(|n| n.kind == kind);
    if has(NoticeKind::RepositoryLost) || has(NoticeKind::More) {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let base = format!("--no-merged={}", handed.base);
    let refs = [
        "for-each-ref",
        "--format=%(refname)",
        "--no-merged=HEAD",
        base.as_str(),
        "refs/heads",
        "refs/stash",
    ];
    for name in String::from_utf8_lossy(&git_in(tree, &refs)).lines() {
        if name == "refs/stash" {
            problems.extend((!has(NoticeKind::Stash)).then(|| "the stash is not named".to_owned()));
            continue;
        }
        let branch = name.trim_start_matches("refs/heads/");
        let new = git_in(tree, &["rev-list", "--count", name, "--not", "HEAD", "--remotes"]);
        let named = notices.iter().any(|n| n.branch == branch) || has(NoticeKind::Operation);
        if String::from_utf8_lossy(&new).trim() != "0" && !named {
            problems.push(format!("branch {branch} is not named"));
        }
    }
    problems
}

/// The reasons for which a path may differ.
struct Named<'a> {
    tree: &'a Path,
    handed: &'a HandedOver,
    saved: bool,
    mirror: &'a Mirror,
    known: Option<Known>,
    /// Files that are ignored, and not by a rule of the base: a notice counts them.
    ignored_by_work: i64,
}

/// What git says about paths, asked only when something differs.
struct Known {
    tracked: BTreeSet<Vec<u8>>,
    absent: BTreeSet<Vec<u8>>,
    /// A repository with nothing but the `.gitignore` files of the base.
    rules: tempfile::TempDir,
}

impl Named<'_> {
    fn by_notice(&self, path: &[u8]) -> bool {
        let path = shown(path);
        self.handed.output.notices.iter().any(|Notice { kind, path: named, .. }| match kind {
            NoticeKind::More => true,
            NoticeKind::TooLarge => *named == path,
            NoticeKind::LinkedWorktree
            | NoticeKind::Unreadable
            | NoticeKind::SubmoduleChanged
            | NoticeKind::SubmoduleAbsent => {
                *named == path || path.strip_prefix(named).is_some_and(|rest| rest.starts_with('/'))
            }
            _ => false,
        })
    }

    fn lost(&self) -> bool {
        self.handed.output.notices.iter().any(|n| n.kind == NoticeKind::RepositoryLost)
    }

    fn known(&mut self) -> &Known {
        let (lost, saved) = (self.lost(), self.saved);
        let (tree, mirror, base) = (self.tree, self.mirror, self.handed.base.as_str());
        self.known.get_or_insert_with(|| {
            let mut tracked = BTreeSet::new();
            let mut absent = BTreeSet::new();
            if !lost {
                for entry in git_in(tree, &["ls-files", "-z", "-t"]).split(|b| *b == 0) {
                    let (tag, path) = entry.split_at(entry.len().min(2));
                    if tag == b"S " {
                        absent.insert(path.to_vec());
                    }
                    tracked.insert(path.to_vec());
                }
            }
            // Without history, an earlier run must have left a list. A history with the base may have taken a file out.
            let with_base = || git_in(tree, &["rev-list", "--max-count=1", base, "--not", "HEAD"]).is_empty();
            let of_base = if lost { saved } else { !with_base() };
            if of_base {
                tracked.extend(listed(mirror, base).into_keys());
            }
            Known { tracked, absent, rules: rules(mirror, base) }
        })
    }

    /// The index says that the file is not in the tree.
    fn absent_by_index(&mut self, path: &[u8]) -> bool {
        let absent = self.known().absent.contains(path) || self.outside_sparse_checkout(path);
        absent && std::fs::symlink_metadata(self.tree.join(OsStr::from_bytes(path))).is_err()
    }

    /// Without an index, the rules of a sparse checkout alone say that a file is absent on purpose.
    fn outside_sparse_checkout(&self, path: &[u8]) -> bool {
        let dot_git = self.tree.join(".git");
        let has_index = std::fs::read(dot_git.join("index")).is_ok_and(|index| index.starts_with(b"DIRC"));
        let sparse = git_in(self.tree, &["config", "--type=bool", "--get", "core.sparseCheckout"]);
        if has_index || sparse.trim_ascii_end() != b"true" {
            return false;
        }
        let mut git = Command::new("git")
            .args(["sparse-checkout", "check-rules", "-z", "--no-cone", "--rules-file"])
            .arg(dot_git.join("info/sparse-checkout"))
            .current_dir(self.tree)
            .env("GIT_INDEX_FILE", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = git.stdin.take().unwrap().write_all(&[path, b"\0"].concat());
        let out = git.wait_with_output().unwrap();
        out.status.success() && out.stdout.is_empty()
    }

    /// Ignored, and nobody has added it; by the base, or counted.
    fn ignored(&mut self, path: &[u8]) -> bool {
        if self.known().tracked.contains(path) || !self.git_ignores(path) {
            return false;
        }
        let rules = self.known().rules.path().to_owned();
        self.ignored_by_work += i64::from(!asked(&rules, &[], &["--no-index"], path));
        true
    }

    /// As the agent's git sees it, which reads a `.gitignore` that a sparse checkout leaves out from the index; or as one
    /// that knows nothing but the tree.
    fn git_ignores(&self, path: &[u8]) -> bool {
        let place = |name: &str, place: &Path| [OsStr::new(name), place.as_os_str()].map(ToOwned::to_owned);
        let mirror = [place("--git-dir", self.mirror.dir()), place("--work-tree", self.tree)].concat();
        asked(self.tree, &[], &[], path) || asked(self.tree, &mirror, &["--no-index"], path)
    }

    /// Nobody has changed anything below the submodule.
    fn clean_submodule(&self, link: &[u8]) -> bool {
        let inside = self.tree.join(OsStr::from_bytes(link));
        inside.join(".git").exists() && git_in(&inside, &["status", "--porcelain"]).is_empty()
    }
}

/// Whether git ignores a path of a tree.
fn asked(tree: &Path, of: &[OsString], how: &[&str], path: &[u8]) -> bool {
    let mut git = Command::new("git")
        .args(["-c", "core.bare=false", "-c", "core.excludesFile=/dev/null"])
        .args(of)
        .args(["check-ignore", "-q", "-z", "--stdin"])
        .args(how)
        .current_dir(tree)
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _ = git.stdin.take().unwrap().write_all(&[b"./", path, b"\0"].concat());
    git.wait().unwrap().success()
}

/// A repository with nothing but the rules of a commit.
fn rules(mirror: &Mirror, commit: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    git_in(dir.path(), &["init", "-q", "."]);
    for (path, (mode, blob)) in listed(mirror, commit) {
        let is_rules = path == b".gitignore" || path.ends_with(b"/.gitignore");
        if is_rules && mode != LINK && mode != 0o120_000 {
            let file = dir.path().join(OsStr::from_bytes(&path));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, git_in(mirror.dir(), &["cat-file", "blob", &blob])).unwrap();
        }
    }
    dir
}

/// A path as notices show it.
fn shown(path: &[u8]) -> String {
    let text: Vec<u8> = path.iter().map(|b| if *b < 32 || *b == 127 { b'?' } else { *b }).collect();
    String::from_utf8_lossy(&text).into_owned()
}

/// The tree of a commit.
fn listed(mirror: &Mirror, commit: &str) -> Tree {
    let entries = git_in(mirror.dir(), &["ls-tree", "-r", "-z", "--full-tree", commit]);
    let mut tree = Tree::new();
    for entry in entries.split(|b| *b == 0).filter(|entry| !entry.is_empty()) {
        let tab = entry.iter().position(|b| *b == b'\t').unwrap();
        let words = std::str::from_utf8(&entry[..tab]).unwrap();
        let mut words = words.split(' ');
        let mode = u32::from_str_radix(words.next().unwrap(), 8).unwrap();
        tree.insert(entry[tab + 1..].to_vec(), (mode, words.nth(1).unwrap().to_owned()));
    }
    tree
}

/// What is on disk, without repositories' own files.
fn disk(dir: &Path, prefix: &[u8], tree: &mut Tree) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let full = if prefix.is_empty() {
            name.as_bytes().to_vec()
        } else {
            [prefix, b"/", name.as_bytes()].concat()
        };
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if name == ".git" {
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            tree.insert(full, (0o120_000, blob(target.as_os_str().as_bytes())));
        } else if meta.is_dir() {
            disk(&path, &full, tree);
        } else {
            let mode = if meta.permissions().mode() & 0o100 == 0 { 0o100_644 } else { 0o100_755 };
            tree.insert(full, (mode, blob(&std::fs::read(&path).unwrap())));
        }
    }
}

fn blob(content: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(format!("blob {}\0", content.len()));
    sha1.update(content);
    sha1.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
