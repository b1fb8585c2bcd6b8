//! The tap as a process: two pumps and the agent's end.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use foundry_core::{Clock as _, SystemClock};
use serde_json::Value;

use super::filter::{Filter, Introduction, Verdict, take_introduction};
use super::lines::{Line, next_line};
use super::log::{self, Sink};
use super::record::Entry;
use super::{DIRECTORY, MAX_MESSAGE};
use crate::AcpId;
use crate::local::INSTANCE;
use crate::process::ProcessRef;

/// How long the agent may take to end by itself once its input is closed.
const AGENT_GRACE: Duration = Duration::from_secs(5);
/// How long the agent's last words are waited for when something it started keeps the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// `internal tap --agent NAME -- COMMAND…`: ends with the agent's exit code.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let [flag, agent, dashes, command @ ..] = arguments else { return 64 };
    if flag != "--agent" || dashes != "--" || command.is_empty() {
        return 64;
    }
    match tap(agent, command) {
        Ok(code) => code,
        Err(e) => {
            // The runtime keeps the agent's standard error in its log.
            let _ = writeln!(io::stderr(), "foundry tap: {e}");
            70
        }
    }
}

fn tap(agent: &str, command: &[String]) -> io::Result<i32> {
    let mut input = BufReader::new(io::stdin());
    // The agent is started with the first message: only that one says whose conversation this is, and
    // it brings the agent's credentials.
    let first = match next_line(&mut input, MAX_MESSAGE)? {
        None => return Ok(0),
        Some(Line::Whole(first)) => first,
        Some(Line::TooLong(_)) => return Err(io::Error::other("the first message is too long")),
    };
    let introduction =
        serde_json::from_slice::<Value>(&first).map(|mut m| take_introduction(&mut m)).unwrap_or_default();
    let filter = Arc::new(Mutex::new(open_log(agent, &introduction)?));
    let mut child = start(command, &introduction)?;
    let agent_process = ProcessRef::of(child.id().cast_signed())?;
    let (Some(agent_input), Some(agent_output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the agent has no pipes"));
    };

    let to_agent = Arc::clone(&filter);
    std::thread::spawn(move || {
        let ended = pump_in(&to_agent, &first, &mut input, agent_input);
        // We or the runtime are done with the agent, or it closed its input: it has little time left.
        #[allow(clippy::disallowed_methods)] // the tap is a process of plain threads
        std::thread::sleep(AGENT_GRACE);
        let _ = agent_process.kill();
        ended
    });
    let from_agent = Arc::clone(&filter);
    let (done, last_word) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = pump_out(&from_agent, agent_output);
        let _ = done.send(());
    });

    let status = child.wait()?;
    let _ = last_word.recv_timeout(LAST_WORDS);
    lock(&filter).log.append(Entry::Exit { code: status.code(), signal: status.signal() });
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn open_log(agent: &str, introduction: &Introduction) -> io::Result<Filter<std::fs::File>> {
    let home =
        std::env::var_os("HOME").map(PathBuf::from).ok_or_else(|| io::Error::other("HOME is not set"))?;
    let directory = DIRECTORY.iter().fold(home, |path, part| path.join(part));
    // Whoever did not introduce the conversation gets a log under a name of its own.
    let name = match introduction.session.parse::<AcpId>() {
        Ok(id) => id.to_string(),
        Err(_) => format!("unnamed-{}-{}", SystemClock.now().as_micros(), std::process::id()),
    };
    let (mut log, prompts) = log::open(&directory, &name, Box::new(SystemClock))?;
    log.append(Entry::Instance {
        runtime_instance: std::env::var(INSTANCE).unwrap_or_default(),
        agent: agent.to_owned(),
        pid: std::process::id(),
    });
    Ok(Filter::new(log, prompts))
}

/// The agent, tied to this process: it must not go on unrecorded when the tap is killed.
fn start(command: &[String], introduction: &Introduction) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["internal", "tied", &std::process::id().to_string(), "--"])
        .args(command)
        .envs(&introduction.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

fn pump_in<S: Sink>(
    filter: &Mutex<Filter<S>>,
    first: &[u8],
    input: &mut BufReader<impl Read>,
    mut agent: impl Write,
) -> io::Result<()> {
    let mut next = Some(Line::Whole(first.to_vec()));
    while let Some(line) = next {
        let verdict = match line {
            Line::Whole(line) => lock(filter).runtime_said(&line),
            Line::TooLong(bytes) => {
                lock(filter).too_long(bytes);
                Verdict::Drop
            }
        };
        match verdict {
            Verdict::Pass(line) => agent.write_all(&line).and_then(|()| agent.flush())?,
            Verdict::Answer(line) => say(&line)?,
            Verdict::Drop => {}
            Verdict::End => return Ok(()),
        }
        next = next_line(input, MAX_MESSAGE)?;
    }
    Ok(())
}

fn pump_out<S: Sink>(filter: &Mutex<Filter<S>>, agent: impl Read) -> io::Result<()> {
    let mut output = BufReader::with_capacity(1 << 16, agent);
    let mut runtime_listens = true;
    while let Some(line) = next_line(&mut output, MAX_MESSAGE)? {
        let verdict = match line {
            Line::Whole(line) => lock(filter).agent_said(&line),
            Line::TooLong(bytes) => {
                lock(filter).too_long(bytes);
                Verdict::Drop
            }
        };
        if let (Verdict::Pass(line), true) = (verdict, runtime_listens) {
            // What is said when nobody listens any more is still recorded.
            runtime_listens = say(&line).is_ok();
        }
    }
    Ok(())
}

/// Writes to the runtime; both pumps do, one line at a time.
fn say(line: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.flush()
}

/// A pump that panicked left a log that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
