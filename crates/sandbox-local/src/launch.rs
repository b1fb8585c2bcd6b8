//! The launcher: starts a runtime so that it outlives the mesh, without leaving zombies.
//!
//! ```text
//! mesh ── internal launch ── internal supervise ── internal enter → bwrap ── [pid 1] ── internal runtime …
//!         (ends at once)     (own session; waits)  (takes the limits)        (or the runtime itself)
//! ```
//!
//! The mesh waits for `launch` only. `supervise` has a session of its own, holds the sandbox's lock, listens
//! for the runtime, writes the facts, reaps, watches the limits, records how the runtime ended, and ends every
//! process that is left.
//!
//! The runtime inherits the listening socket as its standard output: nothing inside the sandbox can choose the address,
//! so no other process can take it. Its key comes on its standard input and appears in no argument and no environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use foundry_core::{Clock as _, SystemClock, Timestamp};
use foundry_sandbox::RuntimeFacts;
use foundry_sandbox::process::{ProcessRef, descendants};
use foundry_sandbox::wire::Start;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{WaitOptions, wait};
use serde::{Deserialize, Serialize};

use crate::limits::family::{Family, pause};
use crate::limits::watch::Watch;
use crate::limits::{Bounds, Group};
use crate::place::{Address, Listen, Place};
use foundry_sandbox::beneath::beside;

/// The launcher's input, as JSON on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LaunchSpec {
    /// The command, already wrapped in bwrap where that is used; `--json-status-fd` is added here.
    pub argv: Vec<String>,
    /// Whether `argv[0]` is bwrap.
    pub bubblewrap: bool,
    /// The whole environment of the command.
    pub env: BTreeMap<String, String>,
    /// The command's working directory.
    pub cwd: PathBuf,
    /// The file to which standard output and error are appended.
    pub log: PathBuf,
    /// The file for the facts.
    pub facts_file: PathBuf,
    /// The file for the exit record.
    pub exit_file: PathBuf,
    /// Locked for as long as the runtime lives.
    pub lock_file: PathBuf,
    /// The address at which the runtime listens.
    pub listen: Listen,
    /// The line that the runtime reads from its standard input.
    pub start: Start,
    /// The facts without the place.
    pub facts: RuntimeFacts,
    /// The sandbox's limits.
    pub bounds: Bounds,
}

/// How a runtime has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub runtime_instance: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Whether it was killed because the sandbox had no memory left.
    #[serde(default)]
    pub out_of_memory: bool,
    pub time: Timestamp,
}

/// The launcher's answer, in one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LaunchAnswer {
    Started(Box<RuntimeFacts>),
    /// Another supervisor of this sandbox holds the lock.
    Busy,
    Failed(String),
}

/// The file that names the supervisor holding the lock, beside the lock.
pub(crate) fn supervisor_file(lock_file: &Path) -> PathBuf {
    lock_file.with_extension("supervisor.json")
}

/// `internal launch`: starts the supervisor, passes on its answer and exits.
pub(crate) fn launch() -> i32 {
    match relay() {
        Ok(line) => {
            let _ = io::stdout().write_all(line.as_bytes());
            0
        }
        Err(e) => {
            answer(&LaunchAnswer::Failed(format!("the launcher failed: {e}")));
            1
        }
    }
}

fn relay() -> io::Result<String> {
    // Descriptors left open by the starter of the mesh must not reach a sandbox: only the standard streams are
    // inherited.
    close_fds::set_fds_cloexec(3, &[]);
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let spec: LaunchSpec = serde_json::from_str(&text)?;
    let log = fs::File::options().create(true).append(true).open(&spec.log)?;
    let mut supervisor = Command::new(std::env::current_exe()?)
        .args(["internal", "supervise"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    if let Some(mut stdin) = supervisor.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let mut line = String::new();
    if let Some(stdout) = supervisor.stdout.take() {
        io::BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() {
        return Err(io::Error::other("the supervisor exited without output"));
    }
    Ok(line)
}

/// `internal supervise`: runs the command until it has ended.
pub(crate) fn supervise() -> i32 {
    match run() {
        Ok(()) => 0,
        Err(e) => {
            answer(&LaunchAnswer::Failed(e.to_string()));
            1
        }
    }
}

/// Writes one line; it does not matter if the reader is gone.
fn answer(answer: &LaunchAnswer) {
    if let Ok(mut line) = serde_json::to_string(answer) {
        line.push('\n');
        let mut out = io::stdout();
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    }
}

fn run() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let spec: LaunchSpec = serde_json::from_str(&text)?;
    // Fails only when this process already leads a session, which is as good.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

    let lock = fs::File::options().create(true).truncate(false).write(true).open(&spec.lock_file)?;
    // A process that only checks the lock holds it for a moment, and is not a supervisor.
    let mut tries = 0;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if tries >= 10 {
            answer(&LaunchAnswer::Busy);
            return Ok(());
        }
        tries += 1;
        pause(Duration::from_millis(20));
    }
    let own = ProcessRef::of(rustix::process::getpid().as_raw_nonzero().get())?;
    write_json(&supervisor_file(&spec.lock_file), &own)?;

    let (listener, address) = listen(&spec.listen)?;
    let (group, words) = spec.bounds.set_up();
    let (mut child, pid, status) = start(&spec, group.clone(), listener)?;
    let family = Family {
        own: own.pid,
        child: i32::try_from(child.id()).map_err(io::Error::other)?,
        main: pid,
        bubblewrap: spec.bubblewrap,
        group: group.clone(),
    };
    let (places, report) = (spec.bounds.places.clone(), spec.bounds.report_file.clone());
    let watch = Watch::new(&spec.bounds.limits, family, places, report, words).start();
    let started = watch.and_then(|watch| {
        let process = ProcessRef::of(pid)?;
        let place = serde_json::to_value(Place { process, address })?;
        let facts = RuntimeFacts { place, ..spec.facts.clone() };
        write_json(&spec.facts_file, &facts)?;
        answer(&LaunchAnswer::Started(Box::new(facts)));
        Ok(watch)
    });
    let (watch, pulse) = match started {
        Ok(watch) => watch,
        Err(e) => {
            // A runtime without recorded facts must not run.
            let _ = child.kill();
            end_the_rest(group.as_ref());
            return Err(e);
        }
    };

    let ended = wait_reaping(&mut child)?;
    drop(status);
    let killed = ended.signal() == Some(9) || ended.code() == Some(128 + 9);
    let out_of_memory = killed && pulse.memory_ended(group.as_ref());
    last_look(&watch);
    end_the_rest(group.as_ref());
    let record = ExitRecord {
        runtime_instance: spec.facts.runtime_instance,
        code: ended.code(),
        signal: ended.signal(),
        out_of_memory,
        time: SystemClock.now(),
    };
    write_json(&spec.exit_file, &record)
}

/// Opens the socket on which the runtime will listen; the runtime inherits it.
fn listen(at: &Listen) -> io::Result<(OwnedFd, Address)> {
    match at {
        Listen::Socket(path) => {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let listener = beside(path, |short| UnixListener::bind(short))?;
            Ok((listener.into(), Address::Socket(path.clone())))
        }
        Listen::Loopback => {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let address = listener.local_addr()?;
            Ok((listener.into(), Address::Tcp(address)))
        }
    }
}

/// Starts the command. The returned pid is that of the process whose end ends everything: with bwrap the first process
/// of the pid namespace, without it the command itself.
fn start(
    spec: &LaunchSpec,
    group: Option<Group>,
    listener: OwnedFd,
) -> io::Result<(Child, i32, Option<io::PipeReader>)> {
    let log = fs::File::options().create(true).append(true).open(&spec.log)?;
    let (program, args) = spec.argv.split_first().ok_or_else(|| io::Error::other("no command"))?;
    let entry = serde_json::to_string(&spec.bounds.entry(group))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["internal", "enter", &entry, "--", program])
        .env_clear()
        .envs(&spec.env)
        .current_dir(&spec.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::from(listener))
        .stderr(log);
    if !spec.bubblewrap {
        let mut child = command.args(args).spawn()?;
        send_start(&mut child, &spec.start)?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        return Ok((child, pid, None));
    }
    let (reader, writer) = io::pipe()?;
    // bwrap inherits this one descriptor, and closes it before it runs the command.
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty())?;
    let mut child = command.arg("--json-status-fd").arg(writer.as_raw_fd().to_string()).args(args).spawn()?;
    drop(writer);
    let mut lines = io::BufReader::new(reader);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let pid = serde_json::from_str::<serde_json::Value>(&line)
        .ok()
        .and_then(|v| i32::try_from(v.get("child-pid")?.as_i64()?).ok())
        .ok_or_else(|| {
            io::Error::other("bwrap did not start anything; its output is in the sandbox's log")
        })?;
    send_start(&mut child, &spec.start)?;
    // Kept open: bwrap writes the exit code to it at the end.
    Ok((child, pid, Some(lines.into_inner())))
}

/// Sends the runtime its key; it reads one line only.
fn send_start(child: &mut Child, start: &Start) -> io::Result<()> {
    let mut line = serde_json::to_vec(start)?;
    line.push(b'\n');
    match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(&line),
        None => Err(io::Error::other("the runtime has no standard input")),
    }
}

/// Waits for the command, and reaps orphans that are reparented to this subreaper.
fn wait_reaping(child: &mut Child) -> io::Result<ExitStatus> {
    let main = i32::try_from(child.id()).map_err(io::Error::other)?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == main => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Reports limits reached at the very end; does not wait for a measurement in progress.
fn last_look(watch: &Mutex<Watch>) {
    if let Ok(mut watch) = watch.try_lock() {
        watch.evaluate();
    }
}

/// Kills and reaps every descendant, and removes their group. They cannot escape: orphans are reparented to the
/// subreaper.
fn end_the_rest(group: Option<&Group>) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    loop {
        let _ = group.map(Group::kill);
        for process in descendants(own) {
            // It may have exited in the meantime.
            let _ = process.kill();
        }
        // Blocks until one of them has exited; an error means that none is left.
        if !matches!(wait(WaitOptions::empty()), Ok(Some(_)) | Err(rustix::io::Errno::INTR)) {
            // If this fails, the group is removed with the sandbox.
            let _ = group.map(Group::remove);
            return;
        }
        // Reaps all that have exited, which saves further scans of all processes.
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
    }
}

/// Writes a file whole or not at all, readable by its owner only.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// `internal become UID GID -- COMMAND…`: gives up root for good and runs the command in its place.
pub(crate) fn become_user(args: &[String]) -> i32 {
    let [uid, gid, dashes, program, rest @ ..] = args else { return 64 };
    let (Ok(uid), Ok(gid), "--") = (uid.parse::<u32>(), gid.parse::<u32>(), dashes.as_str()) else {
        return 64;
    };
    // Supplementary groups are dropped by the standard library when it sets the user as root.
    let e = Command::new(program).args(rest).uid(uid).gid(gid).exec();
    let _ = writeln!(io::stderr(), "cannot run {program}: {e}");
    126
}
