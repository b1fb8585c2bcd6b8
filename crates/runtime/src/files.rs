//! Files below HOME, the work tree and /tmp. Every path component is opened relative to its parent's handle,
//! and no link is followed.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use foundry_core::Env;
use foundry_sandbox::beneath::open_file;
use foundry_sandbox::key::nonce;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat};

use crate::error::{Failure, Kind};
use crate::reply::{self, Body};

/// Largest file that is written.
const MAX_WRITTEN: u64 = 64 << 20;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// The directories in which files may be read and written.
pub(crate) struct Files {
    roots: Vec<PathBuf>,
    env: Env,
}

impl Files {
    pub fn new(roots: Vec<PathBuf>, env: Env) -> Self {
        Self { roots, env }
    }

    /// The longest root that contains the path, and the components below it.
    fn place<'p>(&self, path: &'p Path) -> Result<(PathBuf, Vec<&'p str>), Failure> {
        let refused = |why: &str| Failure::new(Kind::Refused, format!("{}: {why}", path.display()));
        let fitting = self.roots.iter().filter(|root| path.starts_with(root));
        let root = fitting
            .max_by_key(|root| root.as_os_str().len())
            .ok_or_else(|| refused("only files below HOME, the work tree and /tmp can be used"))?;
        let below = path.strip_prefix(root).map_err(|_| refused("it is outside"))?;
        let step = |component: Component<'p>| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        };
        let steps: Option<Vec<&str>> = below.components().map(step).collect();
        let steps = steps
            .filter(|s| !s.is_empty())
            .ok_or_else(|| refused("the path must not contain . or .. and must name a file"))?;
        Ok((root.clone(), steps))
    }

    /// The content of a file, as a stream.
    pub async fn read(&self, path: &Path, max: u64) -> Result<Body, Failure> {
        let (root, steps) = self.place(path)?;
        let file = open_file(&root, &steps).map_err(|e| failure(path, &e))?;
        let length = file.metadata().map_err(|e| failure(path, &e))?.len();
        if length > max {
            let detail = format!("{} has {length} bytes, more than {max}", path.display());
            return Err(Failure::new(Kind::TooLarge, detail));
        }
        Ok(stream(file, length))
    }

    fn prepare(&self, path: &Path) -> Result<(Part, String), Failure> {
        let (root, steps) = self.place(path)?;
        let [directories @ .., name] = steps.as_slice() else {
            return Err(Failure::invalid("the path has no name"));
        };
        let part =
            Part::create(&root, directories, &nonce(&self.env)[..16]).map_err(|e| failure(path, &e))?;
        Ok((part, (*name).to_owned()))
    }

    /// Writes a temporary file and renames it; creates missing directories.
    pub async fn write(&self, path: &Path, mode: u32, mut body: Incoming) -> Result<(), Failure> {
        let (mut part, name) = match self.prepare(path) {
            Ok(prepared) => prepared,
            Err(failure) => {
                reply::drain(body).await;
                return Err(failure);
            }
        };
        let mut length = 0;
        while let Some(bytes) = reply::next(&mut body).await? {
            length += bytes.len() as u64;
            if length > MAX_WRITTEN {
                reply::drain(body).await;
                let detail = format!("the file is more than {MAX_WRITTEN} bytes");
                return Err(Failure::new(Kind::TooLarge, detail));
            }
            part.file.write_all(&bytes).map_err(|e| failure(path, &e))?;
        }
        part.place(&name, mode).map_err(|e| failure(path, &e))
    }

    /// The same with content that is here already.
    pub fn put(&self, path: &Path, mode: u32, content: &[u8]) -> Result<(), Failure> {
        let (mut part, name) = self.prepare(path)?;
        part.file.write_all(content).map_err(|e| failure(path, &e))?;
        part.place(&name, mode).map_err(|e| failure(path, &e))
    }
}

fn failure(path: &Path, e: &io::Error) -> Failure {
    let kind = match e.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Io,
        // ELOOP, ENOTDIR, ENXIO and others: a link or a special file.
        _ => Kind::Refused,
    };
    Failure::new(kind, format!("{}: {e}", path.display()))
}

/// A temporary file; removed unless it is moved to its place.
struct Part {
    directory: OwnedFd,
    name: String,
    file: File,
    placed: bool,
}

impl Part {
    fn create(root: &Path, directories: &[&str], number: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = rustix::fs::open(root, flags, Mode::empty())?;
        for step in directories {
            directory = match openat(&directory, *step, flags, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) => {
                    match mkdirat(&directory, *step, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                    openat(&directory, *step, flags, Mode::empty())?
                }
                other => other?,
            };
        }
        let name = format!(".foundry-{number}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&directory, &name, flags, Mode::from_raw_mode(0o600))?);
        Ok(Self { directory, name, file, placed: false })
    }

    fn place(mut self, name: &str, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))?;
        renameat(&self.directory, &self.name, &self.directory, name)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            // Best effort: the name marks it as left over.
            let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// The first `length` bytes of a file. A file that has shrunk ends the response with an error.
fn stream(file: File, length: u64) -> Body {
    let steps = futures::stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let work = move || {
            let mut bytes = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
            let read = file.read(&mut bytes)?;
            bytes.truncate(read);
            if read == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) } else { Ok((bytes, file)) }
        };
        let (bytes, file) = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
        let left = left - bytes.len() as u64;
        Ok::<_, io::Error>(Some((Frame::data(Bytes::from(bytes)), (file, left))))
    });
    StreamBody::new(steps).boxed_unsync()
}
