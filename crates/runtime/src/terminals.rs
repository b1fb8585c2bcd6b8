//! Terminals: commands on a pseudo-terminal, with the last 1 MiB of output kept for readers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foundry_core::Tasks;
use foundry_sandbox::process::ProcessRef;
use foundry_sandbox::wire::TerminalStart;
use pty_process::{Command, OwnedReadPty, OwnedWritePty, Size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Failure, Kind};
use crate::exec::{end, exit_code};
use crate::logs::MAX_WAIT;
use crate::program::{self, Places};

/// Terminals that may be open at once.
const MAX_TERMINALS: usize = 8;
/// Bytes of output that are kept of each.
const MAX_OUTPUT: usize = 1 << 20;
/// Largest side of a screen.
const MAX_SIDE: u16 = 1_000;
/// How long an input may wait for the program to read it.
const INPUT_LIMIT: Duration = Duration::from_secs(10);
/// How long output is still read after the command has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(crate) struct Terminals {
    places: Places,
    tasks: Tasks,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    started: u64,
    terminals: BTreeMap<u64, Arc<Terminal>>,
}

struct Terminal {
    /// Locked during one write, so that two inputs do not mix.
    input: tokio::sync::Mutex<OwnedWritePty>,
    output: Mutex<Output>,
    grew: watch::Sender<()>,
    close: CancellationToken,
}

#[derive(Default)]
struct Output {
    /// Offset of the first byte that is kept.
    from: u64,
    kept: VecDeque<u8>,
    /// Exit code, 128 + n after signal n; none = running.
    ended: Option<i32>,
}

/// A stretch of output.
pub(crate) struct Stretch {
    /// Offset of the first byte: later than requested when older output was dropped.
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// Exit code; `bytes` are then the last ones.
    pub ended: Option<i32>,
}

impl Terminals {
    pub fn new(places: Places, tasks: Tasks) -> Self {
        Self { places, tasks, all: Mutex::default() }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        foundry_core::lock(&self.all)
    }

    /// Starts a command on a terminal of its own.
    pub fn start(&self, start: &TerminalStart) -> Result<String, Failure> {
        let size = size(start.rows, start.cols)?;
        let (argv, env) = self.places.expand_all(&start.argv, &start.env)?;
        let directory = self.places.directory(start.cwd.as_deref())?;
        program::check(&argv, &env, &directory)?;
        let mut all = self.all();
        if all.terminals.len() >= MAX_TERMINALS {
            // Ended terminals are kept only for readers of their last output.
            all.terminals.retain(|_, t| t.output().ended.is_none());
        }
        if all.terminals.len() >= MAX_TERMINALS {
            return Err(Failure::new(Kind::Busy, format!("{MAX_TERMINALS} terminals are already open")));
        }
        let failed = |e: pty_process::Error| Failure::io("opening a terminal", e);
        let (pty, screen) = pty_process::open().map_err(failed)?;
        pty.resize(size).map_err(failed)?;
        let child = Command::new(program::OWN)
            .arg0(program::NAME)
            .args(["internal", "screen", &std::process::id().to_string(), "--"])
            .args(&argv)
            .env("TERM", "xterm-256color")
            .envs(&env)
            .current_dir(&directory)
            .spawn(screen)
            .map_err(failed)?;
        let parent = ProcessRef::of(child.id().map_or(0, u32::cast_signed))
            .map_err(|e| Failure::io("opening a terminal", e))?;
        let (output, input) = pty.into_split();
        let terminal = Arc::new(Terminal {
            input: tokio::sync::Mutex::new(input),
            output: Mutex::default(),
            grew: watch::channel(()).0,
            close: self.tasks.cancellation().child_token(),
        });
        self.tasks.spawn("terminal", Arc::clone(&terminal).run(child, parent, output));
        all.started += 1;
        let number = all.started;
        all.terminals.insert(number, terminal);
        Ok(format!("t{number}"))
    }

    fn get(&self, name: &str) -> Result<Arc<Terminal>, Failure> {
        let number = name.strip_prefix('t').and_then(|n| n.parse::<u64>().ok());
        let found = number.and_then(|n| self.all().terminals.get(&n).cloned());
        found.ok_or_else(|| Failure::new(Kind::NotFound, format!("there is no terminal {name}")))
    }

    /// Output from `offset` on; waits up to `wait` for some while the command runs.
    pub async fn output(&self, name: &str, offset: u64, wait: Duration) -> Result<Stretch, Failure> {
        let terminal = self.get(name)?;
        let mut grew = terminal.grew.subscribe();
        let waited = tokio::time::sleep(wait.min(MAX_WAIT));
        tokio::pin!(waited);
        loop {
            let stretch = terminal.output().since(offset)?;
            let nothing = stretch.bytes.is_empty() && stretch.ended.is_none();
            if !nothing || wait.is_zero() || waited.is_elapsed() {
                return Ok(stretch);
            }
            tokio::select! {
                // The sender lives as long as the terminal, so this cannot fail.
                _ = grew.changed() => {}
                () = &mut waited => {}
            }
        }
    }

    /// Writes to the command's input.
    pub async fn input(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let terminal = self.get(name)?;
        if terminal.output().ended.is_some() {
            return Err(Failure::new(Kind::AgentEnded, format!("the command of terminal {name} has ended")));
        }
        let written =
            tokio::time::timeout(INPUT_LIMIT, async { terminal.input.lock().await.write_all(bytes).await });
        match written.await {
            Ok(written) => written.map_err(|e| Failure::io("writing to the terminal", e)),
            Err(_) => Err(Failure::new(Kind::Busy, "the command does not read its input")),
        }
    }

    /// Changes the size of the screen.
    pub async fn resize(&self, name: &str, rows: u16, cols: u16) -> Result<(), Failure> {
        let (terminal, size) = (self.get(name)?, size(rows, cols)?);
        let input = terminal.input.lock().await;
        input.resize(size).map_err(|e| Failure::io("changing the size", e))
    }

    /// Ends the command's process tree and removes the terminal.
    pub async fn close(&self, name: &str) -> Result<(), Failure> {
        let Ok(terminal) = self.get(name) else { return Ok(()) };
        terminal.close.cancel();
        let mut grew = terminal.grew.subscribe();
        while terminal.output().ended.is_none() {
            // The sender lives as long as the terminal, so this cannot fail.
            let _ = grew.changed().await;
        }
        self.all().terminals.retain(|_, t| !Arc::ptr_eq(t, &terminal));
        Ok(())
    }
}

impl Terminal {
    fn output(&self) -> MutexGuard<'_, Output> {
        foundry_core::lock(&self.output)
    }

    async fn run(self: Arc<Self>, mut child: Child, parent: ProcessRef, mut screen: OwnedReadPty) {
        let mut read = std::pin::pin!(async {
            let mut buffer = vec![0; 1 << 14];
            // Reading fails when the last process closes the terminal.
            while let Ok(read @ 1..) = screen.read(&mut buffer).await {
                self.output().add(&buffer[..read]);
                self.grew.send_replace(());
            }
        });
        let mut ended = std::pin::pin!(async {
            tokio::select! {
                status = child.wait() => return exit_code(status),
                () = self.close.cancelled() => {}
            }
            end(&mut child, &parent).await;
            exit_code(child.wait().await)
        });
        let mut read_all = false;
        let code = loop {
            tokio::select! {
                code = &mut ended => break code,
                () = &mut read, if !read_all => read_all = true,
            }
        };
        if !read_all {
            let _ = tokio::time::timeout(LAST_WORDS, read).await;
        }
        self.output().ended = Some(code);
        self.grew.send_replace(());
    }
}

impl Output {
    fn add(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let over = self.kept.len().saturating_sub(MAX_OUTPUT);
        self.kept.drain(..over);
        self.from += over as u64;
    }

    fn since(&self, offset: u64) -> Result<Stretch, Failure> {
        let end = self.from + self.kept.len() as u64;
        if offset > end {
            return Err(Failure::invalid(format!("offset is beyond the end of the output, {end}")));
        }
        let offset = offset.max(self.from);
        let skipped = usize::try_from(offset - self.from).unwrap_or(usize::MAX);
        let bytes = self.kept.iter().skip(skipped).copied().collect();
        Ok(Stretch { offset, bytes, ended: self.ended })
    }
}

fn size(rows: u16, cols: u16) -> Result<Size, Failure> {
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&rows) || !sides.contains(&cols) {
        return Err(Failure::invalid(format!("rows and cols must be 1 to {MAX_SIDE}")));
    }
    Ok(Size::new(rows, cols))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_of_the_output_and_says_where_it_begins() {
        let mut output = Output::default();
        output.add(b"abc");
        assert_eq!(output.since(1).unwrap().bytes, b"bc");
        assert!(output.since(3).unwrap().bytes.is_empty());
        assert_eq!(output.since(4).err().unwrap().kind, Kind::Invalid);
        output.add(&vec![b'x'; MAX_OUTPUT]);
        let kept = output.since(0).unwrap();
        assert_eq!((kept.offset, kept.bytes.len()), (3, MAX_OUTPUT));
    }
}
