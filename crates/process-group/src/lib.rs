//! A child process with all its descendants: a process group that is killed when its holder is dropped. Programs are
//! often scripts around the real one, and a kill of the child alone would leave that one running.

use std::io;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// The process group of a child. Dropping it kills every process that is in the group by then; one that has left the
/// group is out of its reach.
#[derive(Debug)]
pub struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// Starts the command as the leader of a new group.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        Ok((child, group))
    }

    /// The leader's id, which is the group's; `None` once the group was let go.
    pub fn id(&self) -> Option<Pid> {
        self.0
    }

    /// Sends a signal to every process of the group. A group that has ended by itself is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // ESRCH: it has just ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Gives up the group without killing it: for a group known to be empty, whose id may soon be reused.
    pub fn let_go(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Stdio;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;

    #[tokio::test]
    async fn what_the_child_has_started_ends_with_the_group() {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(Stdio::piped());
        let (mut child, group) = ProcessGroup::spawn(&mut shell).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let started = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let started = pidfd_open(started, PidfdFlags::empty()).unwrap();
        drop(group);
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&started, PollFlags::IN)], Some(&limit)).unwrap(), 1);
    }
}
