//! Serving `git fetch` from a mirror.
//!
//! `upload-pack` never sees the mirror itself: it gets a directory made for one request, whose `packed-refs` holds
//! exactly what the caller may see and whose objects are the mirror's (ADR 0018).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;

use super::wants::{self, Asked};
use super::{Mirror, blocking};
use crate::{BranchName, CommitId, GitError, GitErrorKind, ObjectId, Piped, Result, RunLimits, WorkName};

/// Wanted commits that are no advertised tip and are looked up one by one; a client that is not in a race has none.
const MAX_OTHER_WANTS: usize = 64;
/// Bytes of the ids of commits that no tip reaches; more fail the request.
const MAX_UNREACHED: u64 = 64 << 20;
/// Wants that are named in an error.
const SHOWN: usize = 12;

/// The tips that publications have replaced, each by the name of its job.
const REPLACED: &str = "refs/foundry/replaced/";

/// Given to every `upload-pack`. No object may be wanted that was not advertised: in protocol 2 this is not enough, so
/// [`wants`] checks too. A filter would make clients want single files later, by ids that no ref names.
const CONFIG: [(&str, &str); 14] = [
    ("core.packedGitWindowSize", "16m"),
    ("pack.deltaCacheSize", "32m"),
    ("pack.threads", "1"),
    ("pack.windowMemory", "128m"),
    ("transfer.advertiseObjectInfo", "false"),
    ("transfer.advertiseSID", "false"),
    ("transfer.bundleURI", "false"),
    ("uploadpack.advertiseBundleURIs", "false"),
    ("uploadpack.allowAnySHA1InWant", "false"),
    ("uploadpack.allowFilter", "false"),
    ("uploadpack.allowReachableSHA1InWant", "false"),
    ("uploadpack.allowRefInWant", "false"),
    ("uploadpack.allowTipSHA1InWant", "false"),
    ("uploadpack.keepAlive", "5"),
];

/// The version of git's protocol that a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchProtocol {
    /// The first one, without a version number.
    #[default]
    V0,
    /// The first one, which says its number.
    V1,
    /// Protocol 2.
    V2,
}

impl FetchProtocol {
    /// The newest version that a client offers, from its `Git-Protocol` header. What else the header says is ignored.
    pub fn offered(header: &str) -> Self {
        let offers = |version: &str| header.split(':').any(|part| part == version);
        match () {
            () if offers("version=2") => Self::V2,
            () if offers("version=1") => Self::V1,
            () => Self::V0,
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::V0 => "version=0",
            Self::V1 => "version=1",
            Self::V2 => "version=2",
        }
    }
}

/// The work of a task, to be served.
#[derive(Clone, Debug)]
pub struct ServedWork {
    /// The task's name in the mirror.
    pub name: WorkName,
    /// The task's branch, if it is known.
    pub branch: Option<BranchName>,
    /// The commit that holds the work; it is not served if the mirror does not have it.
    pub head: CommitId,
}

/// The refs that a caller may see, as of one moment.
#[derive(Clone, Debug)]
pub struct ServedRefs {
    /// What `HEAD` stands for; its ref may not exist in an empty repository.
    head: String,
    refs: BTreeMap<String, ObjectId>,
    sha256: bool,
}

impl Mirror {
    /// The branches and tags of the mirror under their own names, and the work of each task as
    /// `refs/foundry/tasks/<task>`. With `branches`, also as a branch: under its own name, or, where a branch or another
    /// task has that name, as `foundry/<task>`. Without, the branches are exactly those of the remote, and what publications
    /// have replaced there (`refs/foundry/replaced/<job>`) is not served.
    ///
    /// # Errors
    /// When the refs cannot be read.
    pub async fn served_refs(&self, works: &[ServedWork], branches: bool) -> Result<ServedRefs> {
        let out = self
            .command("for-each-ref")
            .args(["--format=%(objectname) %(refname)", "refs/heads/", "refs/tags/", "refs/foundry/work/"])
            .args(branches.then_some(REPLACED))
            .limits(self.local(64 << 20))
            .run()
            .await?;
        let (mut refs, mut known) = (BTreeMap::new(), BTreeSet::new());
        for line in out.stdout.split(|b| *b == b'\n') {
            // A name that is not UTF-8 cannot be shown in any of Foundry's lists either.
            let Some((id, name)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            let id = ObjectId::parse(id)?;
            known.insert(id.clone());
            if !name.starts_with("refs/foundry/") || name.starts_with(REPLACED) {
                refs.insert(name.to_owned(), id);
            }
        }
        let names = if branches { branch_names(&refs, works) } else { vec![None; works.len()] };
        let missing = self.missing(works.iter().map(|w| w.head.to_object()).filter(|id| !known.contains(id)));
        let missing = missing.await?;
        for (work, branch) in works.iter().zip(names) {
            let id = work.head.to_object();
            if missing.contains(&id) {
                continue;
            }
            refs.insert(format!("refs/foundry/tasks/{}", work.name.as_str()), id.clone());
            if let Some(branch) = branch {
                refs.insert(branch, id);
            }
        }
        let head = tokio::fs::read_to_string(self.dir.join("HEAD"))
            .await
            .map_err(|e| GitError::io("cannot read the mirror's HEAD", &e))?;
        let head = head.trim().strip_prefix("ref: ").unwrap_or("refs/heads/main").to_owned();
        let sha256 = match refs.values().next() {
            Some(id) => id.as_str().len() == 64,
            None => self.is_sha256().await?,
        };
        Ok(ServedRefs { head, refs, sha256 })
    }

    /// Those of the ids that are no commit of the mirror.
    pub(super) async fn missing(&self, ids: impl Iterator<Item = ObjectId>) -> Result<BTreeSet<ObjectId>> {
        let ids: BTreeSet<ObjectId> = ids.collect();
        if ids.is_empty() {
            return Ok(ids);
        }
        let kinds = self.kinds(ids.iter()).await?;
        let kinds = kinds.split(|b| *b == b'\n');
        Ok(ids.into_iter().zip(kinds).filter(|(_, kind)| *kind != b"commit").map(|(id, _)| id).collect())
    }

    /// The kind of each object, one on a line.
    async fn kinds(&self, ids: impl Iterator<Item = &ObjectId>) -> Result<Bytes> {
        let asked: String = ids.map(|id| format!("{id}\n")).collect();
        let command = self.command("cat-file").args(["--batch-check=%(objecttype)"]);
        Ok(command.stdin(asked).run().await?.stdout)
    }

    async fn is_sha256(&self) -> Result<bool> {
        let out = self.command("rev-parse").args(["--show-object-format"]).run().await?;
        Ok(out.stdout.starts_with(b"sha256"))
    }

    /// Starts `upload-pack` for the first request of a fetch, which lists what there is. Of the limits, the wall clock
    /// is the caller's to keep. `scratch` is a directory for files that last as long as the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn advertise(
        &self,
        served: &ServedRefs,
        protocol: FetchProtocol,
        scratch: &Path,
        limits: RunLimits,
    ) -> Result<Piped> {
        let facade = self.facade(served, scratch).await?;
        self.upload_pack(facade, &["--http-backend-info-refs"], protocol, &[], limits)
    }

    /// Starts `upload-pack` for any later request of a fetch, with its body. As [`Mirror::advertise`].
    ///
    /// # Errors
    /// `FETCH_MALFORMED` for a body that no client of git sends, `OBJECT_NOT_ADVERTISED` where it wants an object that
    /// is neither a tip of what is served nor reachable from one.
    pub async fn answer_fetch(
        &self,
        served: &ServedRefs,
        protocol: FetchProtocol,
        body: &Bytes,
        scratch: &Path,
        limits: RunLimits,
    ) -> Result<Piped> {
        let mut body = body.clone();
        if let Asked::Objects(wanted) = wants::read(&body, protocol)? {
            self.check_wants(served, wanted.wants).await?;
            let hidden = self.unreached(served, &wanted.deepened).await?;
            body = wants::without(&body, &hidden);
        }
        let facade = self.facade(served, scratch).await?;
        self.upload_pack(facade, &[], protocol, &body, limits)
    }

    fn upload_pack(
        &self,
        facade: tempfile::TempDir,
        args: &[&str],
        protocol: FetchProtocol,
        body: &[u8],
        limits: RunLimits,
    ) -> Result<Piped> {
        let command = self.git.command("upload-pack").args(["--strict", "--stateless-rpc"]).args(args);
        CONFIG
            .iter()
            .fold(command, |command, (key, value)| command.config(*key, *value))
            .env("GIT_PROTOCOL", protocol.variable())
            .operands([facade.path()])
            .limits(limits)
            .pipe(body, Some(facade))
    }

    /// The directory that `upload-pack` reads: a bare repository with these refs and the mirror's objects.
    async fn facade(&self, served: &ServedRefs, scratch: &Path) -> Result<tempfile::TempDir> {
        let (files, scratch) = (served.files(&self.dir.join("objects")), scratch.to_owned());
        let shallow = self.dir.join("shallow");
        let made = blocking(move || {
            let dir = tempfile::Builder::new().prefix("fetch-").tempdir_in(scratch)?;
            std::fs::create_dir_all(dir.path().join("objects/info"))?;
            std::fs::create_dir(dir.path().join("refs"))?;
            for (name, text) in files {
                std::fs::write(dir.path().join(name), text)?;
            }
            // Alternates lend objects only, not where a shallow history begins.
            match std::fs::copy(shallow, dir.path().join("shallow")) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(dir),
            }
        });
        made.await?.map_err(|e| GitError::io("cannot prepare a fetch", &e))
    }

    /// Allows the tips of what is served, and commits that they reach: a client wants those when a branch has moved
    /// since it was listed.
    async fn check_wants(&self, served: &ServedRefs, wanted: BTreeSet<ObjectId>) -> Result<()> {
        let tips: BTreeSet<&ObjectId> = served.refs.values().collect();
        let others: Vec<ObjectId> = wanted.into_iter().filter(|id| !tips.contains(id)).collect();
        if others.is_empty() {
            return Ok(());
        }
        if others.len() > MAX_OTHER_WANTS || !self.reaches(&tips, &others).await? {
            return Err(not_advertised(&others));
        }
        Ok(())
    }

    /// Those of the commits that no tip reaches; what the mirror does not have is left out.
    async fn unreached(
        &self,
        served: &ServedRefs,
        commits: &BTreeSet<ObjectId>,
    ) -> Result<BTreeSet<ObjectId>> {
        let missing = self.missing(commits.iter().cloned()).await?;
        let mut script = String::new();
        for id in commits.difference(&missing) {
            script.push_str(&format!("{id}\n"));
        }
        if script.is_empty() {
            return Ok(BTreeSet::new());
        }
        for id in served.refs.values() {
            script.push_str(&format!("^{id}\n"));
        }
        let limits = self.local(MAX_UNREACHED);
        let out = self.command("rev-list").args(["--stdin"]).stdin(script).limits(limits).run().await?;
        let unreached = String::from_utf8_lossy(&out.stdout).into_owned();
        let unreached: BTreeSet<&str> = unreached.lines().collect();
        Ok(commits.iter().filter(|id| unreached.contains(id.as_str())).cloned().collect())
    }

    /// Whether all of these are commits that the tips reach. One that does not exist is no different from one that is
    /// not reached.
    async fn reaches(&self, tips: &BTreeSet<&ObjectId>, others: &[ObjectId]) -> Result<bool> {
        let kinds = self.kinds(others.iter()).await?;
        if kinds.split(|b| *b == b'\n').any(|kind| !matches!(kind, b"commit" | b"")) {
            return Ok(false);
        }
        let wanted = others.iter().map(|id| format!("{id}\n"));
        let script: String = wanted.chain(tips.iter().map(|id| format!("^{id}\n"))).collect();
        let unreached =
            self.command("rev-list").args(["--max-count=1", "--stdin"]).stdin(script).run().await?;
        Ok(unreached.stdout.is_empty())
    }
}

impl ServedRefs {
    /// How many refs there are.
    pub fn len(&self) -> usize {
        self.refs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }

    /// The names of the refs, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.refs.keys().map(String::as_str)
    }

    fn files(&self, objects: &Path) -> [(&'static str, Vec<u8>); 4] {
        use std::os::unix::ffi::OsStrExt as _;
        let format = if self.sha256 { "1\n[extensions]\n\tobjectFormat = sha256\n" } else { "0\n" };
        let config = format!("[core]\n\tbare = true\n\trepositoryFormatVersion = {format}");
        let mut packed = "# pack-refs with: sorted \n".to_owned();
        for (name, id) in &self.refs {
            packed.push_str(&format!("{id} {name}\n"));
        }
        [
            ("HEAD", format!("ref: {}\n", self.head).into_bytes()),
            ("config", config.into_bytes()),
            ("packed-refs", packed.into_bytes()),
            ("objects/info/alternates", [objects.as_os_str().as_bytes(), b"\n"].concat()),
        ]
    }
}

/// The full name of each work's branch; none where even the name by its task cannot exist beside the others.
fn branch_names(refs: &BTreeMap<String, ObjectId>, works: &[ServedWork]) -> Vec<Option<String>> {
    let own = |work: &ServedWork| work.branch.as_ref().map(BranchName::to_ref);
    let mut taken: BTreeSet<String> = refs.keys().cloned().collect();
    let by_task: Vec<Option<String>> = works
        .iter()
        .map(|work| Some(format!("refs/heads/foundry/{}", work.name.as_str())))
        .map(|name| name.filter(|name| fits(&taken, name)))
        .collect();
    // So that a branch cannot take the place of one that is named by its task.
    taken.extend(by_task.iter().flatten().cloned());
    let mut claims: BTreeMap<String, u32> = BTreeMap::new();
    for name in works.iter().filter_map(own) {
        *claims.entry(name).or_default() += 1;
    }
    works
        .iter()
        .zip(by_task)
        .map(|(work, by_task)| {
            let name = own(work).filter(|name| claims.get(name) == Some(&1) && fits(&taken, name));
            if let Some(name) = &name {
                taken.insert(name.clone());
            }
            name.or(by_task)
        })
        .collect()
}

/// Whether a ref of this name can exist beside the others: a client keeps refs as files, so `a` excludes `a/b`.
fn fits(taken: &BTreeSet<String>, name: &str) -> bool {
    let below = format!("{name}/");
    let is_above = taken.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below));
    let is_below = name.match_indices('/').any(|(at, _)| taken.contains(&name[..at]));
    !taken.contains(name) && !is_above && !is_below
}

fn not_advertised(ids: &[ObjectId]) -> GitError {
    let shown = ids.iter().take(3).map(|id| &id.as_str()[..SHOWN]).collect::<Vec<_>>().join(", ");
    let text = format!("the fetch wants objects that are no part of what is served: {shown}");
    GitError::new(GitErrorKind::Invalid, "OBJECT_NOT_ADVERTISED", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(branches: &[&str], works: &[(&str, &str)]) -> Vec<Option<String>> {
        let id = ObjectId::parse(&"1".repeat(40)).unwrap();
        let refs: BTreeMap<_, _> =
            branches.iter().map(|name| (format!("refs/heads/{name}"), id.clone())).collect();
        let works: Vec<_> = works
            .iter()
            .map(|(task, branch)| ServedWork {
                name: WorkName::parse(task).unwrap(),
                branch: BranchName::parse(branch).ok(),
                head: CommitId::parse(id.as_str()).unwrap(),
            })
            .collect();
        let names = branch_names(&refs, &works);
        names.into_iter().map(|n| n.map(|n| n.trim_start_matches("refs/heads/").to_owned())).collect()
    }

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|n| Some((*n).to_owned())).collect()
    }

    #[test]
    fn a_task_has_its_own_branch_unless_that_name_is_taken() {
        let got = names(&["main", "feat"], &[("t1", "fix/a"), ("t2", "main"), ("t3", "feat/x"), ("t4", "")]);
        assert_eq!(got, some(&["fix/a", "foundry/t2", "foundry/t3", "foundry/t4"]));
    }

    #[test]
    fn of_two_tasks_with_one_name_neither_has_it() {
        assert_eq!(names(&[], &[("t1", "a"), ("t2", "a")]), some(&["foundry/t1", "foundry/t2"]));
        assert_eq!(names(&[], &[("t1", "a"), ("t2", "a/b")]), some(&["a", "foundry/t2"]));
    }

    #[test]
    fn no_name_can_stand_in_the_way_of_another() {
        assert_eq!(names(&["foundry"], &[("t1", "foundry/x")]), [None]);
        assert_eq!(names(&[], &[("t1", "foundry/t2"), ("t2", "a")]), some(&["foundry/t1", "a"]));
        assert_eq!(names(&["x/y/z"], &[("t1", "x/y")]), some(&["foundry/t1"]));
    }

    #[test]
    fn takes_the_newest_protocol_that_is_offered() {
        assert_eq!(FetchProtocol::offered("version=2"), FetchProtocol::V2);
        assert_eq!(FetchProtocol::offered("version=1:x=y:version=2"), FetchProtocol::V2);
        assert_eq!(FetchProtocol::offered("version=1"), FetchProtocol::V1);
        for other in ["", "version=3", "version=22", "x version=2"] {
            assert_eq!(FetchProtocol::offered(other), FetchProtocol::V0, "{other}");
        }
    }
}
