//! The mesh as real processes: one for everything, or one per service.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Caller;
use crate::services::{default_ports, services};

/// How the mesh runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All services in one process.
    Embedded,
    /// One process for each service.
    Separate,
}

/// Longest wait for a process to say that it is ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// A setting that keeps a busy machine from cutting off a stop; shorter than `PATIENCE`.
pub const LONG_STOP: &str = "drain.total=50s";

/// A running mesh with its own data directory and ports. Remaining sandboxes are destroyed when it is dropped.
pub struct Mesh {
    dir: tempfile::TempDir,
    shape: Shape,
    /// The address that its listeners bind.
    host: &'static str,
    /// Those of the services, in their order.
    ports: Vec<u16>,
    admin: u16,
    settings: Vec<String>,
    /// None = the plain product runs.
    faulty: Option<Faulty>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    processes: Vec<(&'static str, Child)>,
}

/// A program with the provider `fault`, and the directory that controls it.
struct Faulty {
    program: PathBuf,
    directory: PathBuf,
}

/// The binary under test.
///
/// # Panics
/// When it was not built.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("FOUNDRY_BIN").map_or_else(
        || {
            let exe = std::env::current_exe().expect("own path");
            exe.parent().and_then(Path::parent).expect("target directory").join("foundry")
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run `cargo build -p foundry` first", path.display());
    path
}

/// The binary with the provider `fault`, in the same directory as a binary of the product.
///
/// # Panics
/// When it was not built.
fn faulty_binary(plain: &Path) -> PathBuf {
    let path = plain.with_file_name("foundry-with-faults");
    assert!(path.exists(), "{} is missing: run `cargo build -p foundry-with-faults` first", path.display());
    path
}

/// Ports for meshes: below the ephemeral range, so that none is taken while a mesh restarts. Divided into parts, one
/// for each of the tests that nextest runs concurrently.
const PORTS: std::ops::Range<u16> = 10_000..18_000;
const PARTS: u16 = 8;

/// Ports that are free now.
fn free_ports(count: usize) -> Vec<u16> {
    let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|slot| slot.parse::<u16>().ok());
    let part = PORTS.len() as u16 / PARTS;
    let first = PORTS.start + slot.unwrap_or(PARTS - 1) % PARTS * part;
    let mut held: Vec<TcpListener> = Vec::new();
    for _ in 0..1_000 {
        let random = RandomState::new().build_hasher().finish();
        let port = first + (random % u64::from(part)) as u16;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
        if held.len() == count {
            return held.iter().map(|l| l.local_addr().expect("address").port()).collect();
        }
    }
    panic!("no {count} free ports in {PORTS:?}");
}

impl Mesh {
    /// Starts a mesh and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(shape: Shape, settings: &[&str]) -> Self {
        Self::start_all(shape, settings, &[], &[], None)
    }

    /// Starts a mesh that listens on all addresses of the host, on the default ports. Use it only in a network
    /// namespace of the test's own.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_everywhere(settings: &[&str]) -> Self {
        Self::start_at(("[::]", default_ports()), Shape::Embedded, settings, &[], &[], None)
    }

    /// Starts a mesh whose default provider is `fault`, controlled by a directory, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_faulty(shape: Shape, faults: &Path, settings: &[&str]) -> Self {
        Self::start_faulty_build(&binary(), shape, faults, settings)
    }

    /// As [`Mesh::start_faulty`], with the programs of another build: its `foundry`, and `foundry-with-faults` in the
    /// same directory.
    ///
    /// # Panics
    /// When it was not built, or does not become ready.
    pub fn start_faulty_build(foundry: &Path, shape: Shape, faults: &Path, settings: &[&str]) -> Self {
        let settings = [&crate::faults::settings(), settings].concat();
        let faulty = Faulty { program: faulty_binary(foundry), directory: faults.to_owned() };
        Self::start_all(shape, &settings, &[], &[], Some(faulty))
    }

    /// As [`Mesh::start`], with additional arguments and variables for its processes.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_with(
        shape: Shape,
        settings: &[&str],
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start_all(shape, settings, arguments, variables, None)
    }

    fn start_all(
        shape: Shape,
        settings: &[&str],
        arguments: &[&str],
        variables: &[(&str, &str)],
        faulty: Option<Faulty>,
    ) -> Self {
        let ports = free_ports(services().len() + 1);
        Self::start_at(("127.0.0.1", ports), shape, settings, arguments, variables, faulty)
    }

    fn start_at(
        (host, mut ports): (&'static str, Vec<u16>),
        shape: Shape,
        settings: &[&str],
        arguments: &[&str],
        variables: &[(&str, &str)],
        faulty: Option<Faulty>,
    ) -> Self {
        let admin = ports.pop().expect("a port for the admin listener");
        let mut mesh = Self {
            dir: tempfile::Builder::new().prefix("foundry-story").tempdir().expect("directory"),
            shape,
            host,
            ports,
            admin,
            settings: settings.iter().map(|s| (*s).to_owned()).collect(),
            faulty,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            variables: variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            processes: Vec::new(),
        };
        mesh.start_again();
        mesh
    }

    /// A temporary directory, removed with the mesh.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The mesh's data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// URL of a service.
    pub fn url(&self, service: &str) -> String {
        let at = services().iter().position(|(name, _)| name == service).expect("a service");
        format!("http://127.0.0.1:{}", self.ports[at])
    }

    /// URL of the admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    /// A command of the binary, configured for this mesh.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.faulty {
            Some(faulty) => {
                let mut command = Command::new(&faulty.program);
                command.env("FAULT_DIRECTORY", &faulty.directory);
                command
            }
            None => Command::new(binary()),
        };
        command
            .args(args)
            .env("FOUNDRY_DATA_DIR", self.data())
            .env("FOUNDRY_ADDRESS", self.url("gateway"))
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("FOUNDRY_DEMO_AGENT_SECOND_MS", "50")
            .env_remove("FOUNDRY_BENCH_SECONDS") // the benchmark's; unknown settings are refused
            .env_remove("FOUNDRY_CRASH_ROUNDS") // the crash tests'
            .stdin(Stdio::null());
        command
    }

    /// Runs a CLI command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the CLI runs")
    }

    /// Runs a CLI command that must succeed; returns its output.
    ///
    /// # Panics
    /// When it fails.
    pub fn cli_ok(&self, args: &[&str]) -> String {
        let out = self.cli(args);
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(
            out.status.success(),
            "foundry {args:?}: {}\n{stdout}\n{stderr}\n{}",
            out.status,
            self.log_tail()
        );
        stdout.into_owned()
    }

    /// Signs in at the gateway.
    ///
    /// # Panics
    /// When the sign-in fails.
    pub async fn sign_in(&self, login: &str) -> Caller {
        Caller::sign_in(&self.url("gateway"), &self.data(), login).await
    }

    /// Starts all processes that are not running.
    ///
    /// # Panics
    /// When one does not become ready.
    pub fn start_again(&mut self) {
        let names: Vec<&'static str> = match self.shape {
            Shape::Embedded => vec!["up"],
            Shape::Separate => service_names().collect(),
        };
        for name in names {
            if !self.processes.iter().any(|(running, _)| *running == name) {
                let child = self.spawn(name);
                self.processes.push((name, child));
            }
        }
    }

    fn spawn(&self, name: &'static str) -> Child {
        let log = self.dir.path().join(format!("{name}.log"));
        let out = self.dir.path().join(format!("{name}.out"));
        let args: &[&str] = if name == "up" { &["up"] } else { &["serve", name] };
        let mut command = self.command(args);
        command.args(&self.arguments).envs(self.variables.iter().cloned());
        for (service, port) in service_names().zip(&self.ports) {
            command.args(["--set", &format!("servers.{service}.listen={}:{port}", self.host)]);
        }
        command.args(["--set", &format!("admin.listen={}:{}", self.host, self.admin)]);
        if self.shape == Shape::Separate && name != "gateway" {
            command.args(["--set", "admin.enabled=false"]);
        }
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let append = File::options().create(true).append(true).open(&log).expect("log");
        command.stdout(File::create(&out).expect("output")).stderr(append).process_group(0);
        let mut child = command.spawn().expect("the mesh starts");
        let begun = Instant::now();
        loop {
            if std::fs::read_to_string(&out).is_ok_and(|text| text.lines().any(|l| l.starts_with("ready"))) {
                return child;
            }
            if let Some(status) = child.try_wait().expect("status") {
                panic!("{name} ended while starting: {status}\n{}", self.log_tail());
            }
            assert!(begun.elapsed() < PATIENCE, "{name} is not ready\n{}", self.log_tail());
            pause();
        }
    }

    /// Sends a signal to the process of a service, or of the whole mesh.
    ///
    /// # Panics
    /// When no such process runs.
    pub fn signal(&self, name: &str, signal: Signal) {
        let child =
            &self.processes.iter().find(|(running, _)| *running == name).expect("a running process").1;
        kill_process(Pid::from_child(child), signal).expect("signal");
    }

    /// Waits until a process has exited.
    ///
    /// # Panics
    /// When it does not exit in time.
    pub fn ended(&mut self, name: &str) -> ExitStatus {
        let at = self.processes.iter().position(|(running, _)| *running == name).expect("a running process");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.processes[at].1.try_wait().expect("status") {
                self.processes.swap_remove(at);
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{name} does not end\n{}", self.log_tail());
            pause();
        }
    }

    /// Kills all processes of the mesh as a crash would; sandboxes keep running.
    pub fn crash(&mut self) {
        for name in self.processes.iter().map(|(name, _)| *name).collect::<Vec<_>>() {
            self.signal(name, Signal::KILL);
            self.ended(name);
        }
    }

    /// Crashes the mesh and starts it again.
    pub fn crash_and_restart(&mut self) {
        self.crash();
        self.start_again();
    }

    /// Asks all processes to stop, one after the other; returns their exit statuses.
    pub fn stop(&mut self) -> Vec<ExitStatus> {
        let names: Vec<_> = self.processes.iter().map(|(name, _)| *name).rev().collect();
        names
            .into_iter()
            .map(|name| {
                self.signal(name, Signal::TERM);
                self.ended(name)
            })
            .collect()
    }

    /// Process ids of the mesh itself.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|(_, child)| child.id()).collect()
    }

    /// The last lines of every log, for the message of a failed assertion.
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        for name in service_names().chain(["up"]) {
            if let Ok(log) = std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))) {
                let lines: Vec<_> = log.lines().collect();
                text += &format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(25)..].join("\n"));
            }
        }
        text
    }

    /// The standard output of all processes since their last start.
    pub fn printed(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.path().join(format!("{name}.out"))).ok();
        service_names().chain(["up"]).filter_map(read).collect()
    }

    /// The complete logs of all processes.
    pub fn log(&self) -> String {
        service_names()
            .chain(["up"])
            .filter_map(|name| std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).ok())
            .collect()
    }

    fn destroy_sandboxes(&self) {
        let listed = self.cli(&["sandbox", "list", "--output", "json"]);
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            if let Ok(sandbox) = serde_json::from_str::<serde_json::Value>(line)
                && let Some(id) = sandbox["sandboxId"].as_str()
            {
                self.cli(&["sandbox", "destroy", id]);
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            let left = self.cli(&["sandbox", "list", "--output", "json"]);
            if !left.status.success() || left.stdout.is_empty() {
                return;
            }
            pause();
        }
    }
}

fn service_names() -> impl Iterator<Item = &'static str> {
    services().iter().map(|(name, _)| name.as_str())
}

/// Polls of real processes have no event to wait for.
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if !self.processes.is_empty() && self.data().join("auth").exists() {
            let logged_in = self.cli(&["login", "--login", "sweeper-of-stories"]);
            // Sees only this user's organization; the sandboxes of others are killed below.
            if logged_in.status.success() {
                self.destroy_sandboxes();
            }
        }
        for (_, child) in &mut self.processes {
            // An error means that it has already exited.
            let _ = child.kill();
            let _ = child.wait();
        }
        kill_left_over_sandboxes(&self.data());
    }
}

/// Kills sandboxes that a failed test left behind: only processes whose command line contains this mesh's own data
/// directory, which is a fresh temporary one.
fn kill_left_over_sandboxes(data: &Path) {
    let needle = data.display().to_string();
    assert!(needle.contains("foundry-story"), "not a directory of a story: {needle}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for pid in entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if String::from_utf8_lossy(&command).contains(&needle)
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
