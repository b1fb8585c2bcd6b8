//! Objects of Git LFS beside a mirror, in `lfs/objects`: fetched for a commit, handed over with a bundle, and uploaded
//! before a push. Fetches and uploads do not hold the mirror's lock: an object appears whole, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, SeekFrom};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::import::{MAX_HEADER_BYTES, refused};
use super::push::Refusal;
use super::{Mirror, blocking};
use crate::lfs::{Answer, Asked, BATCH, Direction, POINTER_BYTES, Pointer, Server, Store};
use crate::{BranchName, CommitId, GitError, GitErrorKind, RemoteUrl, RepoPath, Result, RunLimits};

/// The first line of a file that has objects of LFS before its bundle.
const ENCLOSED: &[u8] = b"# foundry lfs objects\n";
/// Small files that are read in one go.
const AT_ONCE: usize = 10_000;
/// Bytes of so many.
const POINTERS_BYTES: u64 = POINTER_BYTES.end * AT_ONCE as u64;
/// Most small files of a tree that are looked at for pointers.
const MAX_CANDIDATES: usize = 1_000_000;
/// Most files with attributes that are read.
const MAX_ATTRIBUTES: usize = 500;
/// After so many bytes of them no other is read: they are read at once, for each commit, and small objects of git can
/// stand for gigabytes.
const MAX_ATTRIBUTES_BYTES: u64 = 8 << 20;
/// What `cat-file` says of each object.
const SIZES: &str = "--batch-check=%(objecttype) %(objectsize) %(objectname)";
/// A full store is looked through again after this time.
const COLLECTED_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// Most commits whose objects are known to be here.
const MAX_COMPLETE: usize = 200;
/// Most names of missing objects in a text.
const MAX_NAMED: usize = 3;

/// Which objects of a commit are in the mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LfsFetch {
    /// Objects that were fetched.
    pub fetched: u64,
    /// Objects of the commit that are not here.
    pub missing: u64,
    /// Why the first of those is missing; empty if none is.
    pub why: String,
}

/// How an upload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LfsUpload {
    /// The remote has all objects that the commit needs; so many were uploaded.
    Complete(u64),
    /// The remote lacks so many objects, which are not here either; all others are there. With a text that names some.
    Missing(u64, String),
    /// The remote has refused one, with its words.
    Refused(Refusal),
}

/// Objects of a hand-over that were not taken: they are not what they say, or there is no room for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LfsLeftOut {
    /// How many.
    pub count: u64,
    /// The file of one of them, in the text form of [`RepoPath`]; if none is found, its id.
    pub path: String,
}

impl Mirror {
    /// Whether all objects of LFS that a commit needs are known to be here. Reads one small file.
    pub async fn has_lfs_of(&self, commit: &CommitId) -> bool {
        let known = tokio::fs::read_to_string(self.complete_file()).await.unwrap_or_default();
        known.lines().any(|line| line == commit.as_str())
    }

    /// Whether a commit has files of LFS whose objects are not here; remembers a commit that has none.
    ///
    /// # Errors
    /// When git fails.
    pub async fn lacks_lfs_of(&self, commit: &CommitId) -> Result<bool> {
        if self.has_lfs_of(commit).await {
            return Ok(false);
        }
        let lacking = self.lacking(commit).await?;
        if lacking.is_empty() {
            self.remember_lfs_of(commit).await?;
        }
        Ok(!lacking.is_empty())
    }

    /// Fetches the objects of LFS that a commit needs and that are not here. One that cannot be had is left out.
    ///
    /// # Errors
    /// When the remote has no LFS server, cannot be reached, or lets nobody in.
    pub async fn fetch_lfs(
        &self,
        remote: &RemoteUrl,
        commit: &CommitId,
        within: Duration,
    ) -> Result<LfsFetch> {
        let lacking = self.lacking(commit).await?;
        let mut report = LfsFetch::default();
        if !lacking.is_empty() {
            let fetching = Box::pin(self.fetch_objects(remote, &lacking, &mut report));
            match tokio::time::timeout(within, fetching).await {
                Ok(fetched) => fetched?,
                Err(_) => report.why = format!("they were not there within {} s", within.as_secs()),
            }
            report.missing = self.lacking(commit).await?.len() as u64;
        }
        if report.missing == 0 {
            report.why.clear();
            self.remember_lfs_of(commit).await?;
        }
        Ok(report)
    }

    async fn fetch_objects(
        &self,
        remote: &RemoteUrl,
        lacking: &[Pointer],
        report: &mut LfsFetch,
    ) -> Result<()> {
        let mut server = Server::of(remote).await?;
        let store = self.lfs_store();
        let mut room = store.room().await?;
        for part in lacking.chunks(BATCH) {
            for Asked { pointer, answer } in server.ask(Direction::Download, None, part).await? {
                let failed = match answer {
                    Answer::Refused(words) => words,
                    Answer::Nothing => "the remote does not have it".to_owned(),
                    Answer::Transfer(_) if pointer.size > room => {
                        format!("it has {} bytes, and there is room for {room}", pointer.size)
                    }
                    Answer::Transfer(transfer) => match server.download(&pointer, transfer, &store).await {
                        Ok(()) => {
                            room -= pointer.size;
                            report.fetched += 1;
                            continue;
                        }
                        Err(e) if e.retryable() => return Err(e),
                        Err(e) => e.message().to_owned(),
                    },
                };
                if report.why.is_empty() {
                    report.why = format!("{}: {failed}", pointer.oid());
                }
            }
        }
        Ok(())
    }

    /// Uploads the objects of LFS that are new in a commit: those of files that no branch of the remote has. Asks the
    /// remote which of them it needs.
    ///
    /// # Errors
    /// When the remote cannot be asked; a repetition uploads what is missing then.
    pub async fn upload_lfs(
        &self,
        remote: &RemoteUrl,
        branch: &BranchName,
        commit: &CommitId,
    ) -> Result<LfsUpload> {
        Box::pin(self.asked_to_upload(remote, branch, commit, true)).await
    }

    /// What [`Mirror::upload_lfs`] would find to be missing; nothing is uploaded, and so nothing is refused.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub async fn lacks_lfs_upload(
        &self,
        remote: &RemoteUrl,
        branch: &BranchName,
        commit: &CommitId,
    ) -> Result<LfsUpload> {
        Box::pin(self.asked_to_upload(remote, branch, commit, false)).await
    }

    async fn asked_to_upload(
        &self,
        remote: &RemoteUrl,
        branch: &BranchName,
        commit: &CommitId,
        uploads: bool,
    ) -> Result<LfsUpload> {
        let mut new = self.new_pointers(commit).await?;
        if !uploads {
            // Those that are here can be uploaded.
            let store = self.lfs_store();
            new.retain(|pointer| !store.has(pointer));
        }
        if new.is_empty() {
            return Ok(LfsUpload::Complete(0));
        }
        let uploading = Box::pin(self.upload_objects(remote, branch, &new));
        match tokio::time::timeout(self.limits.fetch_wall, uploading).await {
            Ok(Err(e)) if matches!(e.reason(), "LFS_UPLOAD_REFUSED" | "LFS_HOST_NOT_ALLOWED") => {
                Ok(LfsUpload::Refused(Refusal { reason: e.reason(), words: e.message().to_owned() }))
            }
            // Where nothing can be uploaded, the objects are missing.
            Ok(Err(e)) if e.reason() == "LFS_NOT_SERVED" => {
                Ok(LfsUpload::Missing(new.len() as u64, e.message().to_owned()))
            }
            Ok(done) => done,
            Err(_) => {
                let text = "the files of LFS were not uploaded in time";
                Err(GitError::new(GitErrorKind::Timeout, "GIT_TIMEOUT", text))
            }
        }
    }

    async fn upload_objects(
        &self,
        remote: &RemoteUrl,
        branch: &BranchName,
        new: &[Pointer],
    ) -> Result<LfsUpload> {
        let mut server = Server::of(remote).await?;
        let store = self.lfs_store();
        let (mut uploaded, mut missing) = (0, Vec::new());
        for part in new.chunks(BATCH) {
            for Asked { pointer, answer } in
                server.ask(Direction::Upload, Some(&branch.to_ref()), part).await?
            {
                match answer {
                    Answer::Nothing => {}
                    Answer::Transfer(transfer) if store.has(&pointer) => {
                        server.upload(&pointer, transfer, &store).await?;
                        uploaded += 1;
                    }
                    Answer::Transfer(_) => missing.push(pointer.oid().to_owned()),
                    // Some servers refuse what they are not told to get.
                    Answer::Refused(_) if !store.has(&pointer) => missing.push(pointer.oid().to_owned()),
                    Answer::Refused(words) => {
                        let words = format!("{}: {words}", pointer.oid());
                        return Ok(LfsUpload::Refused(Refusal { reason: "LFS_UPLOAD_REFUSED", words }));
                    }
                }
            }
        }
        if missing.is_empty() {
            return Ok(LfsUpload::Complete(uploaded));
        }
        let named: Vec<&str> = missing.iter().take(MAX_NAMED).map(String::as_str).collect();
        Ok(LfsUpload::Missing(missing.len() as u64, named.join(", ")))
    }

    /// Takes the objects before a bundle. One that is not what it says is left out, since the work is whole without it; so
    /// is one for which there is no room. Returns what was left out.
    pub(super) async fn take_lfs(
        &self,
        file: File,
        enclosed: &Enclosed,
        head: &CommitId,
    ) -> Result<Option<LfsLeftOut>> {
        let store = self.lfs_store();
        let mut at = enclosed.start;
        let mut room = if enclosed.objects.is_empty() { 0 } else { store.room().await? };
        let mut file = tokio::fs::File::from_std(file);
        let mut left = BTreeSet::new();
        for object in &enclosed.objects {
            let begin = at;
            at += object.size;
            if store.has(object) {
                continue;
            }
            if object.size > room {
                left.insert(object.clone());
                continue;
            }
            let sought = file.seek(SeekFrom::Start(begin)).await;
            sought.map_err(|e| GitError::io("cannot read the bundle", &e))?;
            match store.take(object, &mut (&mut file).take(object.size)).await {
                Ok(()) => room -= object.size,
                Err(e) if e.kind() == GitErrorKind::Corrupt => {
                    tracing::warn!(object = object.oid(), error = %e, "an LFS object of a hand-over was left out");
                    left.insert(object.clone());
                }
                Err(e) => return Err(e),
            }
        }
        let Some(first) = left.first() else { return Ok(None) };
        let path = Box::pin(self.path_of_one(head, &left)).await?.unwrap_or_else(|| first.oid().to_owned());
        Ok(Some(LfsLeftOut { count: left.len() as u64, path }))
    }

    /// A file of a commit whose pointer is one of these. Looks at so many files as are read in one go.
    async fn path_of_one(&self, commit: &CommitId, sought: &BTreeSet<Pointer>) -> Result<Option<String>> {
        let (mut paths, mut rest) = (BTreeMap::new(), Vec::new());
        let mut sink = |piece: &[u8]| {
            rest.extend_from_slice(piece);
            let whole = rest.iter().rposition(|b| *b == 0).map_or(0, |end| end + 1);
            for (id, size, path) in rest[..whole].split(|b| *b == 0).filter_map(file) {
                if POINTER_BYTES.contains(&size) && paths.len() < AT_ONCE {
                    paths.insert(id, path.to_vec());
                }
            }
            rest.drain(..whole);
            Ok(())
        };
        self.command("ls-tree")
            .args(["-r", "-l", "-z", "--full-tree"])
            .operands([commit.as_str()])
            .limits(RunLimits { stdout: u64::MAX, ..self.local(0) })
            .stream(&mut sink)
            .await?;
        let ids: Vec<String> = paths.keys().cloned().collect();
        let mut found = None;
        self.read_blobs(&ids, POINTERS_BYTES, &mut |id, content| {
            if Pointer::parse(content).is_some_and(|pointer| sought.contains(&pointer)) {
                found = paths.get(id).and_then(|path| RepoPath::from_bytes(path.as_slice()).ok());
            }
        })
        .await?;
        Ok(found.map(|path| path.to_string()))
    }

    /// Whether the store is three quarters full, and was not collected within a day.
    pub(super) async fn wants_lfs_collection(&self) -> Result<bool> {
        let collected = tokio::fs::metadata(self.collected_file()).await.and_then(|meta| meta.modified());
        let age = collected.ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < COLLECTED_AGAIN) {
            return Ok(false);
        }
        Ok(self.lfs_store().room().await? < self.limits.max_lfs_bytes / 4)
    }

    /// Removes objects older than two weeks whose pointer git does not have: no branch, no work and no base reaches it. Only
    /// under the lock, after git's own collection.
    pub(super) async fn collect_lfs(&self) -> Result<()> {
        let store = self.lfs_store();
        if tokio::fs::metadata(store.objects()).await.is_err() {
            return Ok(());
        }
        // Also when this fails: it would fail again.
        let marked = tokio::fs::write(self.collected_file(), "").await;
        marked.map_err(|e| GitError::io("cannot record a collection", &e))?;
        let (mut small, mut rest) = (Vec::new(), Vec::new());
        let mut sink = |piece: &[u8]| {
            rest.extend_from_slice(piece);
            let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
            small.extend(String::from_utf8_lossy(&rest[..whole]).lines().filter_map(small_blob));
            rest.drain(..whole);
            match small.len() > MAX_CANDIDATES {
                true => Err(GitError::too_large("small files", small.len(), MAX_CANDIDATES as u64)),
                false => Ok(()),
            }
        };
        self.command("cat-file")
            .args(["--batch-all-objects", "--unordered", SIZES])
            .limits(RunLimits { stdout: u64::MAX, wall: self.limits.fetch_wall, ..self.local(0) })
            .stream(&mut sink)
            .await?;
        let known = self.pointers_in(&small).await?;
        // What is removed may be wanted again by a commit that comes back.
        let complete = self.complete_file();
        let forgotten = blocking(move || {
            let removed = store.forget_others(&known)?;
            if removed == 0 { Ok(()) } else { super::remove_if_there(&complete) }
        });
        forgotten.await?.map_err(|e| GitError::io("cannot remove files of LFS", &e))
    }

    fn collected_file(&self) -> std::path::PathBuf {
        self.dir.join(super::LFS).join("collected")
    }

    /// The store of objects, beside those of git.
    pub(crate) fn lfs_store(&self) -> Store {
        Store::new(self.dir.join(super::LFS), self.limits.max_lfs_bytes)
    }

    /// All pointers of a commit's tree, if it uses LFS, and how many files each stands for.
    pub(crate) async fn pointers(&self, commit: &CommitId) -> Result<BTreeMap<Pointer, u64>> {
        let (mut small, mut attributes, mut rest) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        let mut attributes_bytes = 0;
        let mut sink = |piece: &[u8]| {
            rest.extend_from_slice(piece);
            let whole = rest.iter().rposition(|b| *b == 0).map_or(0, |end| end + 1);
            for record in rest[..whole].split(|b| *b == 0) {
                let Some((id, size, path)) = file(record) else { continue };
                let is_attributes = path == b".gitattributes" || path.ends_with(b"/.gitattributes");
                let has_room = attributes.len() < MAX_ATTRIBUTES && attributes_bytes < MAX_ATTRIBUTES_BYTES;
                if is_attributes && size < 1 << 20 && has_room && attributes.insert(id.clone()) {
                    attributes_bytes += size;
                }
                if POINTER_BYTES.contains(&size) {
                    *small.entry(id).or_insert(0_u64) += 1;
                }
            }
            rest.drain(..whole);
            if small.len() > MAX_CANDIDATES {
                let found = small.len();
                return Err(GitError::too_large("small files of the tree", found, MAX_CANDIDATES as u64));
            }
            Ok(())
        };
        self.command("ls-tree")
            .args(["-r", "-l", "-z", "--full-tree"])
            .operands([commit.as_str()])
            .limits(RunLimits { stdout: u64::MAX, ..self.local(0) })
            .stream(&mut sink)
            .await?;
        let mut uses_lfs = false;
        let attributes: Vec<String> = attributes.into_iter().collect();
        self.read_blobs(&attributes, attributes_bytes, &mut |_, content| {
            uses_lfs |= content.windows(10).any(|at| at == b"filter=lfs");
        })
        .await?;
        if !uses_lfs {
            return Ok(BTreeMap::new());
        }
        let ids: Vec<String> = small.keys().cloned().collect();
        let mut found = BTreeMap::new();
        self.read_blobs(&ids, POINTERS_BYTES, &mut |id, content| {
            if let Some(pointer) = Pointer::parse(content) {
                *found.entry(pointer).or_insert(0) += small.get(id).copied().unwrap_or(1);
            }
        })
        .await?;
        Ok(found)
    }

    /// Pointers in the history of a commit that no branch of the remote has.
    async fn new_pointers(&self, commit: &CommitId) -> Result<Vec<Pointer>> {
        let limits = self.local(64 << 20);
        let listed = self
            .command("rev-list")
            .args(["--objects", "--no-object-names", commit.as_str(), "--not", "--branches"])
            .limits(limits)
            .run()
            .await?;
        let sizes = self.command("cat-file").args([SIZES]).stdin(listed.stdout).limits(limits).run().await?;
        let sizes = String::from_utf8_lossy(&sizes.stdout).into_owned();
        self.pointers_in(&sizes.lines().filter_map(small_blob).collect::<Vec<_>>()).await
    }

    async fn pointers_in(&self, ids: &[String]) -> Result<Vec<Pointer>> {
        let mut found = BTreeSet::new();
        self.read_blobs(ids, POINTERS_BYTES, &mut |_, content| found.extend(Pointer::parse(content))).await?;
        Ok(found.into_iter().collect())
    }

    /// Reads blobs, [`AT_ONCE`] at once, which have at most `most` bytes together; visits each with its id.
    async fn read_blobs(
        &self,
        ids: &[String],
        most: u64,
        visit: &mut (dyn FnMut(&str, &[u8]) + Send),
    ) -> Result<()> {
        for part in ids.chunks(AT_ONCE) {
            let out = self
                .command("cat-file")
                .args(["--batch"])
                .stdin(part.join("\n") + "\n")
                .limits(self.local(most.saturating_add(100 * part.len() as u64)))
                .run()
                .await?
                .stdout;
            let mut at = 0;
            while let Some(end) = out[at..].iter().position(|b| *b == b'\n') {
                let header = String::from_utf8_lossy(&out[at..at + end]).into_owned();
                at += end + 1;
                let Some(size) = header.split(' ').nth(2).and_then(|size| size.parse::<usize>().ok()) else {
                    continue;
                };
                let id = header.split(' ').next().unwrap_or_default();
                visit(id, out.get(at..at + size).unwrap_or_default());
                at = (at + size + 1).min(out.len());
            }
        }
        Ok(())
    }

    /// The pointers of a commit whose objects are not here.
    async fn lacking(&self, commit: &CommitId) -> Result<Vec<Pointer>> {
        let pointers = self.pointers(commit).await?;
        let store = self.lfs_store();
        blocking(move || pointers.into_keys().filter(|pointer| !store.has(pointer)).collect()).await
    }

    fn complete_file(&self) -> std::path::PathBuf {
        self.dir.join(super::LFS).join("complete")
    }

    /// Records that nothing of a commit is missing. Two that do so at once may forget one of them.
    async fn remember_lfs_of(&self, commit: &CommitId) -> Result<()> {
        let path = self.complete_file();
        let line = commit.to_string();
        let written = blocking(move || {
            let known = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines: Vec<&str> = known.lines().filter(|known| *known != line).collect();
            lines.push(&line);
            let from = lines.len().saturating_sub(MAX_COMPLETE);
            let dir = path.parent().unwrap_or(&path);
            std::fs::create_dir_all(dir)?;
            let temporary = tempfile::NamedTempFile::new_in(dir)?;
            std::fs::write(temporary.path(), lines[from..].join("\n") + "\n")?;
            temporary.persist(&path).map(drop).map_err(|e| e.error)
        });
        written.await?.map_err(|e| GitError::io("cannot record what is fetched", &e))
    }
}

/// The objects of LFS that stand before a bundle: a line that says so, lines of id and size, an empty line, and then their
/// contents one after another.
pub(super) struct Enclosed {
    objects: Vec<Pointer>,
    /// Where the first content begins.
    start: u64,
    /// Where the bundle begins.
    pub(super) end: u64,
}

impl Enclosed {
    /// Reads the list; a bundle without one has no objects.
    pub(super) fn read(file: File) -> Result<(Self, File)> {
        let unreadable = |e: std::io::Error| GitError::io("cannot read the bundle", &e);
        let length = file.metadata().map_err(unreadable)?.len();
        let mut reader = BufReader::new(file).take(MAX_HEADER_BYTES);
        let (mut line, mut at, mut objects) = (Vec::new(), 0_u64, Vec::new());
        let (mut end, mut is_first) = (0_u64, true);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(unreadable)? as u64;
            if is_first && line != ENCLOSED {
                let none = Self { objects, start: 0, end: 0 };
                return Ok((none, reader.into_inner().into_inner()));
            }
            at += read;
            match line.as_slice() {
                b"\n" => break,
                _ if is_first => is_first = false,
                other => {
                    let text = std::str::from_utf8(other).ok().and_then(|line| line.strip_suffix('\n'));
                    let parts = text.and_then(|line| line.split_once(' '));
                    let object = parts.and_then(|(oid, size)| Pointer::new(oid, size.parse().ok()?));
                    let object = object.ok_or_else(|| refused("has a malformed list of LFS objects"))?;
                    end = end.saturating_add(object.size);
                    objects.push(object);
                }
            }
        }
        end = end.saturating_add(at);
        if end > length {
            return Err(refused("is shorter than its list of LFS objects says"));
        }
        Ok((Self { objects, start: at, end }, reader.into_inner().into_inner()))
    }
}

/// The id of a blob that can be a pointer, in a line of [`SIZES`].
fn small_blob(line: &str) -> Option<String> {
    let (size, id) = line.strip_prefix("blob ")?.split_once(' ')?;
    POINTER_BYTES.contains(&size.parse().ok()?).then(|| id.to_owned())
}

/// Id, size and path of a regular file in a line of `ls-tree -l`.
fn file(record: &[u8]) -> Option<(String, u64, &[u8])> {
    let tab = record.iter().position(|b| *b == b'\t')?;
    let mut words = std::str::from_utf8(&record[..tab]).ok()?.split_ascii_whitespace();
    if !words.next()?.starts_with("100") {
        return None;
    }
    let id = words.nth(1)?.to_owned();
    Some((id, words.next()?.parse().ok()?, &record[tab + 1..]))
}
