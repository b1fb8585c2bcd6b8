//! Runs one command until it exits or its limit passes, then ends every process it started.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use foundry_core::Tasks;
use foundry_sandbox::process::{ProcessRef, descendants};
use foundry_sandbox::wire::{Exec, ExecDone};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Failure, Kind};
use crate::program::{self, Places};

/// Commands that run at once.
const MAX_AT_ONCE: usize = 16;
/// A request for more time is refused.
const MAX_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of each output stream that are kept, and of standard input.
const MAX_STREAM: usize = 1 << 20;
/// How long output is still read after the command's tree has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Interval between two rounds of killing.
const LOOK: Duration = Duration::from_millis(10);
/// After this time the command's parent process is killed too.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// Runs commands, a limited number at a time.
pub(crate) struct Commands {
    places: Places,
    tasks: Tasks,
    room: Arc<Semaphore>,
}

impl Commands {
    pub fn new(places: Places, tasks: Tasks) -> Self {
        Self { places, tasks, room: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }

    /// Runs a command. Dropping the future ends the command.
    pub async fn run(&self, exec: Exec) -> Result<ExecDone, Failure> {
        let limit = Duration::from_millis(exec.limit_ms);
        if limit.is_zero() || limit > MAX_LIMIT || exec.max_output > MAX_STREAM {
            return Err(Failure::invalid(format!(
                "limit_ms must be 1 to {}, max_output at most {MAX_STREAM}",
                MAX_LIMIT.as_millis()
            )));
        }
        let input = BASE64_STANDARD
            .decode(&exec.stdin)
            .map_err(|e| Failure::invalid(format!("stdin is not base64: {e}")))?;
        if input.len() > MAX_STREAM {
            return Err(Failure::new(Kind::TooLarge, format!("stdin is more than {MAX_STREAM} bytes")));
        }
        let room = Arc::clone(&self.room)
            .try_acquire_owned()
            .map_err(|_| Failure::new(Kind::Busy, format!("{MAX_AT_ONCE} commands are already running")))?;
        let mut running = self.start(&exec, room)?;
        let (out, err) = (Kept::new(exec.max_output), Kept::new(exec.max_output));
        let (stdin, stdout, stderr) = running.streams();
        let mut streams = pin!(async {
            tokio::join!(feed(stdin, input), out.fill(stdout), err.fill(stderr));
        });
        let mut streams_ended = false;
        let exit_code = {
            let mut ended = pin!(running.ended(limit));
            loop {
                tokio::select! {
                    ended = &mut ended => break ended,
                    // Output during the shutdown counts as well.
                    () = &mut streams, if !streams_ended => streams_ended = true,
                }
            }
        };
        if !streams_ended {
            // A process outside the command's tree, or one that cannot be killed, holds the output open.
            let _ = tokio::time::timeout(LAST_WORDS, streams).await;
        }
        let ((stdout, stdout_truncated), (stderr, stderr_truncated)) = (out.take(), err.take());
        Ok(ExecDone {
            exit_code,
            timed_out: exit_code.is_none(),
            stdout: BASE64_STANDARD.encode(stdout),
            stderr: BASE64_STANDARD.encode(stderr),
            stdout_truncated,
            stderr_truncated,
        })
    }

    fn start(&self, exec: &Exec, room: OwnedSemaphorePermit) -> Result<Running, Failure> {
        let (argv, env) = self.places.expand_all(&exec.argv, &exec.env)?;
        let directory = self.places.directory(exec.cwd.as_deref())?;
        program::check(&argv, &env, &directory)?;
        let child = Command::new(program::OWN)
            .arg0(program::NAME)
            .args(["internal", "exec", &std::process::id().to_string(), "--"])
            .args(&argv)
            .envs(&env)
            .current_dir(&directory)
            .stdin(if exec.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Failure::io("starting the command", e))?;
        let parent = ProcessRef::of(child.id().map_or(0, u32::cast_signed))
            .map_err(|e| Failure::io("starting the command", e))?;
        Ok(Running { child: Some(child), parent, tasks: self.tasks.clone(), room: Some(room) })
    }
}

/// A running command. Dropping it ends the command.
struct Running {
    child: Option<Child>,
    /// The `internal exec` process: parent of the command, exits after the command's whole tree.
    parent: ProcessRef,
    tasks: Tasks,
    room: Option<OwnedSemaphorePermit>,
}

impl Running {
    fn streams(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        let Some(child) = &mut self.child else { return (None, None, None) };
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    }

    /// Waits for the exit code; none = the limit passed and the command was ended.
    async fn ended(&mut self, limit: Duration) -> Option<i32> {
        let child = self.child.as_mut()?;
        if let Ok(status) = tokio::time::timeout(limit, child.wait()).await {
            self.child = None;
            return Some(exit_code(status));
        }
        if let Some(gone) = self.end() {
            // A dropped sender means the same: the task has finished.
            let _ = gone.await;
        }
        None
    }

    /// Ends it in a task of its own, which continues after a disconnect of the caller.
    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        let (mut child, parent, room) = (self.child.take()?, self.parent.clone(), self.room.take());
        let (done, gone) = oneshot::channel();
        self.tasks.spawn("end command", async move {
            end(&mut child, &parent).await;
            drop(room);
            let _ = done.send(());
        });
        Some(gone)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Exit code of a command, 128 + n when signal n ended it.
pub(crate) fn exit_code(status: io::Result<ExitStatus>) -> i32 {
    // Waiting fails only for a child that was reaped elsewhere; this process does not do that.
    status.map_or(-1, |s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)))
}

/// Kills the command's tree; its parent process kills any orphans and exits.
pub(crate) async fn end(child: &mut Child, parent: &ProcessRef) {
    let killed = tokio::time::timeout(KILL_GRACE, async {
        loop {
            for process in descendants(parent.pid) {
                // It may have exited in the meantime.
                let _ = process.kill();
            }
            if tokio::time::timeout(LOOK, child.wait()).await.is_ok() {
                return;
            }
        }
    });
    if killed.await.is_err() {
        let _ = child.kill().await;
    }
}

/// The first bytes of a stream.
struct Kept {
    max: usize,
    bytes: Mutex<(Vec<u8>, bool)>,
}

impl Kept {
    fn new(max: usize) -> Self {
        Self { max, bytes: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        foundry_core::lock(&self.bytes)
    }

    /// Reads to the end, beyond the limit too, so that the command never blocks.
    async fn fill(&self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 1 << 15];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let mut kept = self.lock();
            let fits = read.min(self.max - kept.0.len());
            kept.0.extend_from_slice(&buffer[..fits]);
            kept.1 |= fits < read;
        }
    }

    fn take(&self) -> (Vec<u8>, bool) {
        std::mem::take(&mut *self.lock())
    }
}

async fn feed(to: Option<ChildStdin>, input: Vec<u8>) {
    let Some(mut to) = to else { return };
    // A command need not read its input.
    let _ = to.write_all(&input).await;
}
