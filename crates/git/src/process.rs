//! One bounded child process: its own process group, a wall-clock limit, limits on what it may write, and no process
//! left when the future is dropped.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use foundry_process_group::ProcessGroup;
use rustix::process::{Resource, Rlimit, prlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::{GitError, GitErrorKind, Result};

/// How much of standard error is kept (its end).
const STDERR_TAIL: usize = 8 * 1024;
/// How much of the output is taken at once.
const PIECE: usize = 32 << 10;

/// The limits of one process.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    /// Wall clock; the whole process group is killed afterwards.
    pub wall: Duration,
    /// Bytes of standard output.
    pub stdout: u64,
    /// Largest file the process may write.
    pub file: Option<u64>,
    /// Memory of the process (heap and private writable maps).
    pub memory: Option<u64>,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { wall: Duration::from_secs(60), stdout: 16 << 20, file: None, memory: None }
    }
}

/// The output of a finished process.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 0 unless the command accepts others.
    pub code: i32,
    /// All of standard output, within [`RunLimits::stdout`].
    pub stdout: Bytes,
    /// The end of standard error.
    pub stderr: String,
}

/// The source of a process's standard input.
pub(crate) enum Input {
    Nothing,
    Bytes(Bytes),
    /// From the file's current offset on.
    File(File),
}

/// Receives standard output piece by piece; an error stops the process.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + Send + 'a;

/// Runs the command to its end within the limits.
pub(crate) async fn run(
    what: &str,
    mut command: Command,
    input: Input,
    limits: RunLimits,
    sink: &mut Sink<'_>,
) -> Result<Output> {
    let mut feed = Bytes::new();
    match input {
        Input::Nothing => command.stdin(Stdio::null()),
        Input::File(file) => command.stdin(Stdio::from(file)),
        Input::Bytes(bytes) => {
            feed = bytes;
            command.stdin(Stdio::piped())
        }
    };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Transports and `index-pack` are grandchildren.
    let (mut child, mut group) = ProcessGroup::spawn(&mut command).map_err(|e| {
        let failed = GitError::io("cannot start git", &e);
        let absent = e.kind() == std::io::ErrorKind::NotFound;
        if absent { failed.with_kind(GitErrorKind::Host, "GIT_NOT_INSTALLED") } else { failed }
    })?;
    confine(&group, limits);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        let fed = async {
            if let Some(mut stdin) = stdin {
                // A broken pipe means that git stopped reading; its exit status has the reason.
                let _ = stdin.write_all(&feed).await;
            }
            Ok(())
        };
        let read = read_bounded(what, stdout, limits.stdout, sink);
        let (_, (), tail) = tokio::try_join!(fed, read, read_tail(stderr))?;
        let status = child.wait().await.map_err(|e| GitError::io("cannot wait for git", &e))?;
        Ok::<_, GitError>((status, tail))
    };
    let (status, stderr) = tokio::time::timeout(limits.wall, work).await.map_err(|_| {
        GitError::new(
            GitErrorKind::Timeout,
            "GIT_TIMEOUT",
            format!("git {what} took longer than {} s", limits.wall.as_secs_f32()),
        )
    })??;
    group.let_go();
    match status.code() {
        Some(code) => Ok(Output { code, stdout: Bytes::new(), stderr }),
        None => Err(GitError::from_signal(what, status.signal().unwrap_or(0), stderr)),
    }
}

/// Sets resource limits right after the start. Grandchildren inherit them; the few microseconds
/// before do not matter, because nothing of the input has been read by then.
fn confine(group: &ProcessGroup, limits: RunLimits) {
    let Some(pid) = group.id() else { return };
    let hard = |n: u64| Rlimit { current: Some(n), maximum: Some(n) };
    for (resource, limit) in [(Resource::Fsize, limits.file), (Resource::Data, limits.memory)] {
        if let Some(n) = limit
            && let Err(e) = prlimit(Some(pid), resource, hard(n))
        {
            tracing::debug!(?resource, error = %e, "the git process ended before its limit was set");
        }
    }
}

async fn read_bounded(
    what: &str,
    from: Option<impl AsyncRead + Unpin>,
    maximum: u64,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buf = BytesMut::with_capacity(64 * 1024);
    let mut total = 0u64;
    loop {
        buf.clear();
        let n = from.read_buf(&mut buf).await.map_err(|e| GitError::io("cannot read from git", &e))?;
        if n == 0 {
            return Ok(());
        }
        total += n as u64;
        if total > maximum {
            return Err(GitError::too_large(&format!("output of git {what}"), "it", maximum));
        }
        sink(&buf)?;
    }
}

async fn read_tail(from: Option<impl AsyncRead + Unpin>) -> Result<String> {
    let Some(mut from) = from else { return Ok(String::new()) };
    let mut tail = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        let n = from.read(&mut buf).await.map_err(|e| GitError::io("cannot read from git", &e))?;
        if n == 0 {
            return Ok(String::from_utf8_lossy(&tail).into_owned());
        }
        tail.extend_from_slice(&buf[..n]);
        if tail.len() > STDERR_TAIL {
            tail.drain(..tail.len() - STDERR_TAIL);
        }
    }
}

/// A running process whose output is taken piece by piece, at the pace of its reader. Dropping it kills the
/// process and everything that it started.
pub struct Piped {
    what: &'static str,
    child: tokio::process::Child,
    group: ProcessGroup,
    stdout: tokio::process::ChildStdout,
    /// Standard error goes to a file without a name, so that nothing has to read along.
    stderr: File,
    left: u64,
    maximum: u64,
    /// A directory that the process reads; removed after it has ended.
    _keeps: Option<tempfile::TempDir>,
}

/// Starts a command. Of the limits, the wall clock is the caller's to keep.
pub(crate) fn pipe(
    what: &'static str,
    mut command: Command,
    input: &[u8],
    limits: RunLimits,
    keeps: Option<tempfile::TempDir>,
) -> Result<Piped> {
    let failed = |e: &std::io::Error| GitError::io("cannot start git", e);
    // Requests are small, and a file needs nobody who feeds it while the output is taken.
    let stdin = stored(input).map_err(|e| failed(&e))?;
    let stderr = tempfile::tempfile().map_err(|e| failed(&e))?;
    let errors = stderr.try_clone().map_err(|e| failed(&e))?;
    command.stdin(Stdio::from(stdin)).stdout(Stdio::piped()).stderr(Stdio::from(errors));
    let (mut child, group) = ProcessGroup::spawn(&mut command).map_err(|e| failed(&e))?;
    confine(&group, limits);
    let stdout = child.stdout.take().ok_or_else(|| GitError::failed("git has no output"))?;
    let (left, maximum) = (limits.stdout, limits.stdout);
    Ok(Piped { what, child, group, stdout, stderr, left, maximum, _keeps: keeps })
}

fn stored(input: &[u8]) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

impl Piped {
    /// The next piece of the output, at most 32 KiB; `None` at its end, when the process has succeeded.
    ///
    /// # Errors
    /// When the process failed, or wrote more than its limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = self.stdout.read_buf(&mut piece).await;
        let read = read.map_err(|e| GitError::io("cannot read from git", &e))? as u64;
        if read == 0 {
            return self.ended().await.map(|()| None);
        }
        self.left = self.left.checked_sub(read).ok_or_else(|| {
            GitError::too_large(&format!("output of git {}", self.what), "it", self.maximum)
        })?;
        Ok(Some(piece.freeze()))
    }

    async fn ended(&mut self) -> Result<()> {
        let status = self.child.wait().await.map_err(|e| GitError::io("cannot wait for git", &e))?;
        self.group.let_go();
        if status.success() {
            return Ok(());
        }
        let said = self.said();
        Err(match status.code() {
            Some(code) => GitError::from_exit(self.what, &format!("exit {code}"), said),
            None => GitError::from_signal(self.what, status.signal().unwrap_or(0), said),
        })
    }

    /// The end of what the process wrote to standard error.
    fn said(&mut self) -> String {
        let mut tail = Vec::new();
        let length = self.stderr.metadata().map_or(0, |m| m.len());
        let from = length.saturating_sub(STDERR_TAIL as u64);
        let read = self
            .stderr
            .seek(SeekFrom::Start(from))
            .and_then(|_| (&self.stderr).take(STDERR_TAIL as u64).read_to_end(&mut tail));
        match read {
            Ok(_) => String::from_utf8_lossy(&tail).into_owned(),
            Err(error) => format!("standard error cannot be read: {error}"),
        }
    }
}
