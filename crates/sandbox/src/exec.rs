//! `internal exec`: runs one command inside the sandbox so that the caller always gets an answer. The
//! runtime's own one-shot call waits for as long as anything holds the command's output open; here the
//! command's end, or its limit, ends everything it started.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;

use crate::process::descendants;

/// How long output is read on after the command and all it started have ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// `internal exec LIMIT_MILLIS MAX_OUTPUT STDIN_FILE -- COMMAND…` (STDIN_FILE `-` = none): ends with the
/// command's exit code, 128 + n when signal n ended it, and is itself killed when the limit passed.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let [limit, max, stdin, dashes, program, rest @ ..] = arguments else { return 64 };
    let (Ok(limit), Ok(max), "--") = (limit.parse(), max.parse(), dashes.as_str()) else { return 64 };
    match exec(Duration::from_millis(limit), max, stdin, program, rest) {
        Ok(Some(code)) => code,
        Ok(None) => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
            137
        }
        Err(e) => {
            let _ = writeln!(io::stderr(), "cannot run {program}: {e}");
            126
        }
    }
}

fn exec(limit: Duration, max: u64, stdin: &str, program: &str, rest: &[String]) -> io::Result<Option<i32>> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let input = if stdin == "-" {
        Stdio::null()
    } else {
        let file = File::open(stdin)?;
        std::fs::remove_file(stdin)?;
        file.into()
    };
    let mut child = Command::new(program)
        .args(rest)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (said, words) = mpsc::channel();
    let mut streams = 0;
    if let Some(out) = child.stdout.take() {
        copy_bounded(out, io::stdout(), max, said.clone());
        streams += 1;
    }
    if let Some(err) = child.stderr.take() {
        copy_bounded(err, io::stderr(), max, said);
        streams += 1;
    }
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = ended.send(child.wait());
    });
    let status = end.recv_timeout(limit);
    end_descendants();
    for _ in 0..streams {
        let _ = words.recv_timeout(LAST_WORDS);
    }
    match status {
        Ok(status) => {
            let status = status?;
            Ok(Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))))
        }
        Err(_) => Ok(None),
    }
}

/// Passes on so many bytes and one more, by which the runtime sees that there was more; the rest is read
/// and dropped, so that the command is never blocked.
fn copy_bounded(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    max: u64,
    done: mpsc::Sender<()>,
) {
    std::thread::spawn(move || {
        let _ = io::copy(&mut (&mut from).take(max.saturating_add(1)), &mut to).and_then(|_| to.flush());
        let _ = io::copy(&mut from, &mut io::sink());
        let _ = done.send(());
    });
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
