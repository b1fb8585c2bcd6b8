//! `internal exec` and `internal screen`: the parent of one command. Orphans of the command come back to
//! it, so that the command's end ends everything that it started.

use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Command;

use foundry_sandbox::process::descendants;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::tied::tie;

/// `internal exec PARENT -- COMMAND…`: runs the command in a process group of its own, so that a signal to
/// its group reaches neither its parent nor the runtime. Ends with the command's exit code, 128 + n when
/// signal n ended it.
pub(crate) fn run(arguments: &[String]) -> i32 {
    keep(arguments, |command| {
        command.process_group(0);
        Ok(())
    })
}

/// `internal screen PARENT -- COMMAND…`: the same for the command of a terminal, which shares its group
/// with this process, as it must to be in the foreground.
pub(crate) fn run_on_terminal(arguments: &[String]) -> i32 {
    keep(arguments, |_| unmoved())
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

/// Keys that end or interrupt the command on the terminal leave this process alone for as long as the
/// returned value lives. The command itself begins without handlers.
fn unmoved() -> io::Result<(tokio::runtime::Runtime, Vec<Signal>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let kinds = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
    let signals = kinds.into_iter().map(signal).collect::<io::Result<_>>()?;
    drop(entered);
    Ok((runtime, signals))
}

/// Kills everything that is left; orphans come back to this process and are seen in the next round.
fn end_descendants() {
    let own = rustix::process::getpid();
    loop {
        let left = descendants(own.as_raw_nonzero().get());
        if left.is_empty() {
            return;
        }
        for process in left {
            // One that ended meanwhile is just as well.
            let _ = process.kill();
        }
        // Zombies are not counted as left, so nothing needs to be reaped here; they end with this process.
        std::thread::yield_now();
    }
}
