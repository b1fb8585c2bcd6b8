//! `internal tied`: how agents are started.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Signal;

/// `internal tied PARENT -- COMMAND…`: runs the command in its place, in a session of its own, to be killed
/// when the thread of the parent that started it ends.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let Some((program, rest)) = tie(arguments) else { return 64 };
    // Fails only for the leader of a process group, which a terminal has made of it.
    let _ = rustix::process::setsid();
    let e = Command::new(program).args(rest).exec();
    let _ = writeln!(io::stderr(), "cannot run {program}: {e}");
    126
}

/// Ties this process to the parent it was told. Returns the command; none when the arguments are wrong or
/// the parent has ended.
pub(crate) fn tie(arguments: &[String]) -> Option<(&String, &[String])> {
    let [parent, dashes, program, rest @ ..] = arguments else { return None };
    if dashes != "--" || rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return None;
    }
    // The parent may have ended before the line above: then nobody is left to wait for this one.
    let now = rustix::process::getppid().map(|p| p.as_raw_nonzero().get().to_string());
    (now.as_deref() == Some(parent)).then_some((program, rest))
}
