//! `internal exec` and `internal screen`: parent and subreaper of one command, which kills the command's
//! orphans when the command has exited.

use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Command;

use foundry_sandbox::process::descendants;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::tied::tie;

/// `internal exec PARENT -- COMMAND…`: runs the command in a process group of its own, so that `kill 0`
/// hits neither this process nor the runtime. Exit code of the command, 128 + n after signal n.
pub(crate) fn run(arguments: &[String]) -> i32 {
    keep(arguments, |command| {
        command.process_group(0);
        Ok(())
    })
}

/// `internal screen PARENT -- COMMAND…`: the same on a terminal. The command shares the process group of
/// this process, because that is the terminal's foreground group.
pub(crate) fn run_on_terminal(arguments: &[String]) -> i32 {
    keep(arguments, |_| catch_signals())
}

fn keep<T>(arguments: &[String], prepare: impl FnOnce(&mut Command) -> io::Result<T>) -> i32 {
    let Some((program, rest)) = tie(arguments) else { return 64 };
    let run = || {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut command = Command::new(program);
        let _kept = prepare(command.args(rest))?;
        let status = command.spawn()?.wait();
        end_descendants();
        status
    };
    match run() {
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(e) => {
            let _ = writeln!(io::stderr(), "cannot run {program}: {e}");
            126
        }
    }
}

/// Catches the signals of the interrupt keys while the returned value lives. The command starts with
/// default handlers.
fn catch_signals() -> io::Result<(tokio::runtime::Runtime, Vec<Signal>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let kinds = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
    let signals = kinds.into_iter().map(signal).collect::<io::Result<_>>()?;
    drop(entered);
    Ok((runtime, signals))
}

/// Kills all descendants; orphans are reparented to this process and found in the next round.
fn end_descendants() {
    let own = rustix::process::getpid();
    loop {
        let left = descendants(own.as_raw_nonzero().get());
        if left.is_empty() {
            return;
        }
        for process in left {
            // It may have exited in the meantime.
            let _ = process.kill();
        }
        // Zombies do not count, and go away with this process.
        std::thread::yield_now();
    }
}
