//! Running a shell command in its own process group, with its output as it comes. However it ends (its own exit,
//! cancel, the time limit, a dropped future), no process of the group is left.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Clock;
use foundry_process_group::ProcessGroup;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    Exited(ExitStatus),
    TimedOut,
    Cancelled,
}

/// When a command is stopped, and how.
pub(crate) struct Bounds {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limit: Duration,
    pub(crate) grace: Duration,
    pub(crate) cancel: CancellationToken,
}

/// The next event of a running command.
pub(crate) enum Event {
    /// This many bytes of output.
    Output(usize),
    Ended(CommandEnd),
}

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A started command.
pub(crate) struct Running {
    child: Child,
    group: ProcessGroup,
    output: pipe::Receiver,
    open: bool,
    /// Its status once the shell has exited, while output may still come.
    exited: Option<ExitStatus>,
    /// The time limit; after the shell's exit, the grace period.
    timer: Timer,
    bounds: Bounds,
}

/// Starts `/bin/sh -c command`; standard output and error share one pipe, so that their order is kept.
pub(crate) fn start(command: &str, directory: &Path, bounds: Bounds) -> io::Result<Running> {
    let (reader, writer) = io::pipe()?;
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(command)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let (child, group) = ProcessGroup::spawn(&mut shell)?;
    // The command holds the write ends: without this drop the pipe would never end.
    drop(shell);
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let timer = timer(&bounds, bounds.limit);
    Ok(Running { child, group, output, open: true, exited: None, timer, bounds })
}

fn timer(bounds: &Bounds, time: Duration) -> Timer {
    let clock = bounds.clock.clone();
    Box::pin(async move { clock.sleep(time).await })
}

impl Running {
    /// Waits for the next output, written to the start of `buffer`, or for the end.
    pub(crate) async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Event> {
        loop {
            if let Some(status) = self.exited.filter(|_| !self.open) {
                return Ok(Event::Ended(CommandEnd::Exited(status)));
            }
            tokio::select! {
                biased;
                () = self.bounds.cancel.cancelled() => {
                    self.stop().await;
                    return Ok(Event::Ended(CommandEnd::Cancelled));
                }
                read = self.output.read(buffer), if self.open => match read? {
                    0 => self.open = false,
                    n => return Ok(Event::Output(n)),
                },
                status = self.child.wait(), if self.exited.is_none() => {
                    self.exited = Some(status?);
                    // What the command left in the background is killed, which closes its end of the pipe; processes
                    // that left the group have the grace period.
                    self.group.signal(Signal::KILL);
                    self.timer = timer(&self.bounds, self.bounds.grace);
                }
                () = &mut self.timer => match self.exited {
                    Some(status) => return Ok(Event::Ended(CommandEnd::Exited(status))),
                    None => {
                        self.stop().await;
                        return Ok(Event::Ended(CommandEnd::TimedOut));
                    }
                },
            }
        }
    }

    /// Stops the group: SIGTERM, then SIGKILL after the grace period.
    pub(crate) async fn stop(&mut self) {
        self.group.signal(Signal::TERM);
        tokio::select! {
            biased;
            _ = self.child.wait() => {}
            () = self.bounds.clock.sleep(self.bounds.grace) => {}
        }
        self.group.signal(Signal::KILL);
        // The shell has exited or was already reaped: this returns at once.
        let _ = self.child.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[tokio::test]
    async fn kills_the_group_when_nobody_waits_for_its_end_any_more() {
        let hour = Duration::from_secs(3600);
        let bounds = Bounds {
            clock: Arc::new(foundry_core::SystemClock),
            limit: hour,
            grace: hour,
            cancel: CancellationToken::new(),
        };
        let mut running = start("sleep 1000 & echo $!; wait", Path::new("/"), bounds).unwrap();
        let mut buffer = [0; 64];
        let Event::Output(size) = running.next(&mut buffer).await.unwrap() else { panic!("no output") };
        let pid = std::str::from_utf8(&buffer[..size]).unwrap().trim().parse().unwrap();
        let child = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        drop(running);
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&limit)).unwrap(), 1);
    }
}
