//! What agents do to a work tree and its repository, at random. A step that git refuses is a step without effect.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::dice::Dice;

/// Largest file that a hand-over takes here, so that larger ones are cheap.
pub const MAX_FILE: usize = 8192;

const NAMES: [&[u8]; 29] = [
    b"a",
    b"b",
    b"c",
    b"text",
    b"dir",
    b"src",
    b"lib",
    b"x y",
    b"-dash",
    b"\xc3\xbc",
    b"u\xcc\x88",
    b"tab\tname",
    b"line\nbreak",
    b"q\"uote",
    b"back\\slash",
    b"*",
    b"[ab]",
    b"#hash",
    b"!bang",
    b" lead",
    b"trail ",
    b"\xff\xfe",
    b".hidden",
    b"ignored",
    b"a.log",
    b"$HOME",
    b"`x`",
    b":(top)",
    b"\x7f",
];

/// Commands of git, some more often than others; `N` is one of three numbers.
const COMMANDS: [&str; 40] = [
    "add -A",
    "add -A",
    "add -A; commit -q -m some",
    "add -A; commit -q -m some",
    "add -A; commit -q -m some",
    "add -A; commit -q -m some",
    "commit -q -a -m tracked",
    "commit -q -a -m tracked",
    "commit -q -a --amend -m amended",
    "reset -q --hard HEAD~1",
    "reset -q --soft HEAD~1",
    "reset -q --mixed HEAD~1",
    "reset -q --hard origin/main",
    "checkout -q -b otherN",
    "checkout -q -b otherN; add -A; commit -q -m other",
    "checkout -q -f otherN",
    "checkout -q -f foundry/work",
    "checkout -q --detach",
    "checkout -q --orphan orphanN",
    "stash push -q -u",
    "stash push -q",
    "stash pop -q",
    "merge -q --no-edit origin/develop",
    "merge -q --no-edit origin/clash",
    "merge -q --no-edit -X ours origin/clash",
    "rebase -q origin/develop",
    "rebase -q origin/clash",
    "cherry-pick origin/clash",
    "revert --no-edit HEAD",
    "rm -q -r --cached --ignore-unmatch dir text",
    "rm -q -r -f --ignore-unmatch dir sub",
    "add -f ignored a.log",
    "mv text moved",
    "gc -q --prune=now",
    "clean -q -f -d -x",
    "sparse-checkout set --no-cone /dir/ /text",
    "sparse-checkout disable",
    "update-index --skip-worktree text dir/inner",
    "update-index --assume-unchanged text .gitignore",
    "update-ref -d HEAD",
];

pub struct Agent<'a> {
    pub tree: &'a Path,
    pub dice: &'a mut Dice,
    /// What it did, for a round that fails.
    pub journal: Vec<String>,
}

impl Agent<'_> {
    /// One random step: mostly on files.
    pub fn step(&mut self) {
        if self.dice.chance(55) { self.on_files() } else { self.on_repository() }
    }

    pub fn on_files(&mut self) {
        let path = self.path();
        let done = match self.dice.below(12) {
            0..=3 => self.write(&path),
            4 => self.existing(|agent, file| agent.write(file)),
            5 | 6 => self.existing(|_, file| std::fs::remove_file(file)),
            7 => self.existing(|agent, file| {
                make_parent(&path)?;
                agent.say("rename to", &path);
                std::fs::rename(file, &path)
            }),
            8 => self.existing(|_, file| {
                let mode = if std::fs::symlink_metadata(file)?.permissions().mode() & 0o100 == 0 {
                    0o755
                } else {
                    0o644
                };
                if file.is_symlink() {
                    Ok(())
                } else {
                    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode))
                }
            }),
            9 => {
                let target = self.dice.pick(&["text", "../outside", "/etc/hostname", "dir", ".", "no such"]);
                let _ = std::fs::remove_file(&path);
                make_parent(&path).and_then(|()| symlink(target, &path))
            }
            // A file becomes a directory, or a directory a file.
            10 => self.existing(|agent, file| {
                std::fs::remove_file(file)?;
                std::fs::create_dir(file)?;
                agent.write(&file.join("inside"))
            }),
            _ => match path.parent().filter(|dir| *dir != self.tree) {
                Some(dir) => std::fs::remove_dir_all(dir).and_then(|()| self.write(dir)),
                None => Ok(()),
            },
        };
        let _ = done;
    }

    fn say(&mut self, what: &str, path: &Path) {
        let path = path.strip_prefix(self.tree).unwrap_or(path);
        self.journal.push(format!("{what} {path:?}"));
    }

    /// A path of one to three names.
    fn path(&mut self) -> PathBuf {
        let mut path = self.tree.to_owned();
        for _ in 0..=self.dice.below(3) {
            // One that git refuses makes it refuse the whole command, so it is rare.
            let name = if self.dice.chance(1) { b"git~1" } else { self.dice.pick(&NAMES) };
            path.push(OsStr::from_bytes(name));
        }
        path
    }

    fn write(&mut self, path: &Path) -> std::io::Result<()> {
        self.say("write", path);
        let text = match self.dice.below(10) {
            0 => Vec::new(),
            1 => b"no newline".to_vec(),
            2 => b"crlf\r\nlines\r\n".to_vec(),
            3 => vec![0, 159, 146, 150],
            4 => vec![b'x'; MAX_FILE + 512 * self.dice.below(8)],
            n => format!("{}\n", self.dice.below(3)).repeat(n).into_bytes(),
        };
        make_parent(path)?;
        if path.is_symlink() {
            std::fs::remove_file(path)?;
        }
        std::fs::write(path, text)
    }

    /// Does something to a file that is there.
    fn existing(&mut self, act: impl FnOnce(&mut Self, &Path) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut files = Vec::new();
        list(self.tree, &mut files);
        if files.is_empty() {
            return Ok(());
        }
        files.sort();
        let file = files.swap_remove(self.dice.below(files.len()));
        self.say("change, move or remove", &file);
        act(self, &file)
    }

    fn on_repository(&mut self) {
        match self.dice.below(100) {
            0..=69 => {
                let number = self.dice.below(3).to_string();
                for command in self.dice.pick(&COMMANDS).split("; ") {
                    let words: Vec<_> = command.split(' ').map(|word| word.replace('N', &number)).collect();
                    self.git(&words.iter().map(String::as_str).collect::<Vec<_>>());
                }
            }
            70..=75 => {
                let (place, number) =
                    (self.dice.pick(&["trees/one", "dir/two", "../beside"]), self.dice.below(3));
                self.git(&["worktree", "add", "-q", "-f", place, "-b", &format!("tree{number}")]);
                let _ = std::fs::write(self.tree.join(place).join("new in worktree"), "x");
            }
            76..=82 => self.nest(),
            83..=86 => self.below_submodule(),
            87..=90 => self.configure(),
            91..=94 => self.ignore(),
            _ => self.break_repository(),
        }
    }

    fn git(&mut self, args: &[&str]) {
        self.journal.push(format!("git {}", args.join(" ")));
        git_in(self.tree, args);
    }

    /// A repository inside the tree, perhaps committed by accident.
    fn nest(&mut self) {
        let inside = self.tree.join(self.dice.pick(&["nested", "dir/nested", "ignored/nested", "x y"]));
        self.say("nest", &inside);
        if inside.is_symlink() || std::fs::create_dir_all(&inside).is_err() {
            return;
        }
        git_in(&inside, &["init", "-q"]);
        let _ = std::fs::write(inside.join("file"), "nested\n");
        let _ = std::fs::write(inside.join(".gitignore"), "*.o\n");
        let _ = std::fs::write(inside.join("out.o"), "o");
        if self.dice.chance(60) {
            git_in(&inside, &["add", "-A"]);
            git_in(&inside, &["commit", "-q", "-m", "nested"]);
        }
        if self.dice.chance(30) {
            self.git(&["add", "-A"]);
            self.git(&["commit", "-q", "-m", "with nested"]);
        }
    }

    /// Rules of its own, and files that they are about.
    fn ignore(&mut self) {
        let rule = self.dice.pick(&["*.o", "secret*", "build/", "/dir", "*.log", "!a.log", "ignored"]);
        let place =
            self.dice.pick(&[".git/info/exclude", ".gitignore", "dir/.gitignore", "build/.gitignore"]);
        let file = self.tree.join(place);
        self.journal.push(format!("ignore {rule} in {place}"));
        let before = if self.dice.chance(30) { Vec::new() } else { std::fs::read(&file).unwrap_or_default() };
        let _ = make_parent(&file)
            .and_then(|()| std::fs::write(&file, [&before, rule.as_bytes(), b"\n"].concat()));
        for name in ["secret", "build/out.o", "dir/secret", "dir/z.log"] {
            let path = self.tree.join(name);
            if self.dice.chance(50) && !path.is_symlink() {
                let _ = make_parent(&path).and_then(|()| std::fs::write(&path, name));
            }
        }
    }

    fn below_submodule(&mut self) {
        let sub = self.tree.join("sub");
        self.say("change", &sub);
        if !sub.is_dir() {
            return;
        }
        if self.dice.chance(50) {
            git_in(&sub, &["init", "-q"]);
        }
        let _ = std::fs::write(sub.join("below"), "x");
        if self.dice.chance(50) && sub.join(".git").exists() {
            git_in(&sub, &["add", "-A"]);
            git_in(&sub, &["commit", "-q", "-m", "below"]);
        }
    }

    fn configure(&mut self) {
        let settings = [
            ["core.autocrlf", "true"],
            ["core.fileMode", "false"],
            ["core.ignoreCase", "true"],
            ["core.symlinks", "false"],
            ["core.bare", "true"],
            ["core.excludesFile", "/dev/null"],
            ["status.showUntrackedFiles", "no"],
            ["core.worktree", "/nowhere"],
            ["extensions.worktreeConfig", "true"],
            ["core.splitIndex", "true"],
            ["core.untrackedCache", "true"],
            ["index.version", "4"],
            ["feature.manyFiles", "true"],
        ];
        let [key, value] = settings[self.dice.below(settings.len())];
        self.git(&["config", key, value]);
    }

    fn break_repository(&mut self) {
        let dot_git = self.tree.join(".git");
        let how = self.dice.below(8);
        self.journal.push(format!("break {how}"));
        let _ = match how {
            0 => std::fs::remove_dir_all(&dot_git),
            1 => std::fs::remove_file(dot_git.join("index")),
            2 => std::fs::write(dot_git.join("index"), "no index"),
            3 => std::fs::write(dot_git.join("HEAD"), "no head"),
            4 => std::fs::remove_dir_all(dot_git.join("objects")),
            5 => std::fs::remove_dir_all(&dot_git).map(|()| drop(git_in(self.tree, &["init", "-q"]))),
            6 => std::fs::rename(&dot_git, self.tree.with_extension("git"))
                .and_then(|()| symlink(self.tree.with_extension("git"), &dot_git)),
            _ => std::fs::write(dot_git.join("index.lock"), ""),
        };
    }
}

fn make_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// Files and links of a tree, without those in repositories.
fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let kind = entry.file_type().unwrap();
        if entry.file_name() == ".git" {
        } else if kind.is_dir() {
            list(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

/// Runs git as an agent does; returns what it printed.
pub fn git_in(dir: &Path, args: &[&str]) -> Vec<u8> {
    let out = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap())
        .env("GIT_EDITOR", "true")
        // No process that collects garbage after a commit.
        .envs([
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "maintenance.auto"),
            ("GIT_CONFIG_VALUE_0", "false"),
        ])
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Agent")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), foundry_git::AGENT_EMAIL)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    out.stdout
}
