//! A child process with all that it starts in its group.

use std::process::ExitStatus;
use std::time::Duration;

use foundry_core::Env;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

/// Longer lines are cut.
const LINE: usize = 2_000;
/// How long output is read after the child has ended, in case somebody else holds it open.
const LATE_OUTPUT: Duration = Duration::from_secs(2);

/// A running child. Dropping it kills the whole group: the program may be a script that has started the real one.
pub(crate) struct Group {
    child: Child,
    pid: Option<Pid>,
}

impl Group {
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, pid })
    }

    /// Waits for the end, giving each line of the error output and a tick every `every`. None after `limit`; the
    /// group is killed then, and what it had said is given all the same.
    pub(crate) async fn run(
        mut self,
        env: &Env,
        limit: Duration,
        every: Duration,
        mut event: impl FnMut(Event<'_>),
    ) -> std::io::Result<Option<ExitStatus>> {
        let mut lines = self.child.stderr.take().map(Lines::new);
        let mut end = env.clock.sleep(limit);
        let mut tick = env.clock.sleep(every);
        let (mut status, mut in_time) = (None, true);
        while status.is_none() || lines.is_some() {
            tokio::select! {
                line = next_line(&mut lines), if lines.is_some() => match line? {
                    Some(line) => event(Event::Line(&line)),
                    None => lines = None,
                },
                ended = self.child.wait(), if status.is_none() => {
                    status = Some(ended?);
                    end = env.clock.sleep(LATE_OUTPUT);
                }
                () = &mut tick, if status.is_none() => {
                    event(Event::Tick);
                    tick = env.clock.sleep(every);
                }
                () = &mut end => {
                    if status.is_some() {
                        break;
                    }
                    in_time = false;
                    self.kill();
                    end = env.clock.sleep(LATE_OUTPUT);
                    status = Some(self.child.wait().await?);
                }
            }
        }
        if lines.is_none() {
            self.pid = None; // the group is empty, and its number may soon be another's
        }
        Ok(status.filter(|_| in_time))
    }

    fn kill(&self) {
        if let Some(pid) = self.pid {
            // It may have ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// What happens while a child runs.
pub(crate) enum Event<'a> {
    Line(&'a str),
    Tick,
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lines of the error output. What was read of one stays here when the reader is interrupted.
struct Lines {
    reader: BufReader<ChildStderr>,
    line: Vec<u8>,
}

impl Lines {
    fn new(output: ChildStderr) -> Self {
        Self { reader: BufReader::new(output), line: Vec::new() }
    }
}

async fn next_line(lines: &mut Option<Lines>) -> std::io::Result<Option<String>> {
    let Some(lines) = lines else { return Ok(None) };
    lines.reader.read_until(b'\n', &mut lines.line).await?;
    if lines.line.is_empty() {
        return Ok(None);
    }
    let mut line = std::mem::take(&mut lines.line);
    line.truncate(LINE);
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}
