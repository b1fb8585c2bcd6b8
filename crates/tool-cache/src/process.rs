//! A child process with its process group.

use std::process::ExitStatus;
use std::time::Duration;

use foundry_core::Env;
use foundry_process_group::ProcessGroup;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStderr, Command};

/// Longer lines are cut.
const LINE: usize = 2_000;
/// How long output is read after the child has exited, in case another process holds the pipe open.
const LATE_OUTPUT: Duration = Duration::from_secs(2);

/// A running child with its group.
pub(crate) struct Running {
    child: Child,
    group: ProcessGroup,
}

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let (child, group) = ProcessGroup::spawn(command)?;
        Ok(Self { child, group })
    }

    /// Waits for the end, and calls back with each line of standard error and, every `every`, with the result of
    /// `measure`, which may walk a large tree and runs on another thread. None after `limit`; the group is killed then,
    /// and its last output is still delivered.
    pub(crate) async fn run(
        mut self,
        env: &Env,
        limit: Duration,
        every: Duration,
        measure: impl Fn() -> u64 + Clone + Send + 'static,
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
                    event(Event::Measured(tokio::task::spawn_blocking(measure.clone()).await?));
                    tick = env.clock.sleep(every);
                }
                () = &mut end => {
                    if status.is_some() {
                        break;
                    }
                    // Already killed, but hanging in the kernel, where it cannot be ended.
                    if !in_time {
                        break;
                    }
                    in_time = false;
                    self.group.signal(Signal::KILL);
                    end = env.clock.sleep(LATE_OUTPUT);
                }
            }
        }
        if status.is_some() && lines.is_none() {
            self.group.let_go();
        }
        Ok(status.filter(|_| in_time))
    }
}

/// An event while a child runs.
pub(crate) enum Event<'a> {
    Line(&'a str),
    Measured(u64),
}

/// Lines of standard error. A partly read line stays here when the reader is interrupted.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(output: R) -> Self {
        Self { reader: BufReader::new(output), line: Vec::new() }
    }

    /// The next line, cut at the limit: a line may never end.
    async fn next(&mut self) -> std::io::Result<Option<String>> {
        loop {
            let read = self.reader.fill_buf().await?;
            let end = read.iter().position(|byte| *byte == b'\n');
            let (part, used) = match end {
                Some(end) => (&read[..end], end + 1),
                None => (read, read.len()),
            };
            let room = LINE.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..room]);
            self.reader.consume(used);
            if used == 0 && self.line.is_empty() {
                return Ok(None);
            }
            if end.is_some() || used == 0 {
                let line = std::mem::take(&mut self.line);
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
        }
    }
}

async fn next_line(lines: &mut Option<Lines<ChildStderr>>) -> std::io::Result<Option<String>> {
    match lines {
        Some(lines) => lines.next().await,
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_does_not_end_takes_no_more_than_its_limit() {
        let mut text = vec![b'x'; 10 << 20];
        text.extend_from_slice(b"\n\nlast");
        let mut lines = Lines::new(text.as_slice());
        assert_eq!(lines.next().await.unwrap().map(|l| l.len()), Some(LINE));
        assert!(lines.line.capacity() <= 2 * LINE, "{}", lines.line.capacity());
        assert_eq!(lines.next().await.unwrap().as_deref(), Some(""));
        assert_eq!(lines.next().await.unwrap().as_deref(), Some("last"));
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
