//! `internal tied`: starts an agent so that it dies with the runtime.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Signal;

/// Counts as if half of all memory were used in addition, so that the kernel kills it first.
const OOM_SCORE: &str = "500";

/// `internal tied PARENT -- COMMAND…`: replaces itself by the command, in a new session. The kernel kills it
/// when the thread that started it ends.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let Some((program, rest)) = tie(arguments) else { return 64 };
    // Fails only for a process group leader, which has its own session or group already.
    let _ = rustix::process::setsid();
    let e = Command::new(program).args(rest).exec();
    let _ = writeln!(io::stderr(), "cannot run {program}: {e}");
    126
}

/// Sets the parent death signal, and makes the kernel prefer this process over the runtime when memory is short; both
/// also apply to the command. Returns the command; none when the arguments are wrong or the parent has ended.
pub(crate) fn tie(arguments: &[String]) -> Option<(&String, &[String])> {
    let [parent, dashes, program, rest @ ..] = arguments else { return None };
    if dashes != "--" || rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return None;
    }
    // Refused to a process that is not dumpable; nothing depends on it.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    // The parent may have exited before the signal was set.
    let now = rustix::process::getppid().map(|p| p.as_raw_nonzero().get().to_string());
    (now.as_deref() == Some(parent)).then_some((program, rest))
}
