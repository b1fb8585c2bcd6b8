//! A temporary PostgreSQL: one cluster per run of tests, a fresh database per test.
//!
//! A run that passes its tests a cluster ([`PostgresCluster`]) shares it between all their processes; a test that is
//! run alone starts its own. The cluster is stopped by a small shell that waits for the end of a pipe held by the
//! process that started it: however that process ends (also in a panic or a kill), the pipe closes, the shell stops the
//! cluster and deletes its directory.

use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Why no database could be made; the text names what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresMissing(String);

impl fmt::Display for PostgresMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PostgresMissing {}

/// A database of one test: empty, or a copy of a prepared one. Deleted with the cluster, or in a shared cluster soon
/// after this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresDatabase {
    /// Its URL over the unix socket.
    pub url: String,
    /// Its URL over loopback TCP, for tests that put a proxy in between.
    pub tcp_url: String,
}

impl PostgresDatabase {
    /// Creates a database; starts the cluster if this is the first one.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub async fn create() -> Result<Self, PostgresMissing> {
        blocking(|| Self::copied("template1")).await
    }

    fn copied(template: &str) -> Result<Self, PostgresMissing> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let cluster = Cluster::of_this_process()?;
        let name = format!("{OF_TEST}{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.create_database(&name, template)?;
        Ok(cluster.database(&name))
    }

    /// Creates a database as a copy of what `prepare` makes: that runs once for all tests of a run which give the same
    /// name, on a database that the others copy. Its connections must be closed when it returns, or they are cut.
    async fn create_from(name: &str, prepare: impl AsyncFnOnce(String)) -> Result<Self, PostgresMissing> {
        let template = format!("template_{name}");
        let wanted = template.clone();
        let lock = blocking(move || Cluster::of_this_process()?.lock(&wanted)).await?;
        if blocking(|| Cluster::of_this_process()?.ask("SELECT datname FROM pg_database"))
            .await?
            .lines()
            .all(|d| d != template)
        {
            let making = format!("making_{name}");
            let fresh = making.clone();
            let database = blocking(move || {
                let cluster = Cluster::of_this_process()?;
                // A database that a test left half made is useless.
                cluster.ask(&format!("DROP DATABASE IF EXISTS {fresh} WITH (FORCE)"))?;
                cluster.create_database(&fresh, "template1")?;
                Ok(cluster.database(&fresh))
            });
            prepare(database.await?.url).await;
            let wanted = template.clone();
            blocking(move || {
                let cluster = Cluster::of_this_process()?;
                cluster.ask(&format!("ALTER DATABASE {making} ALLOW_CONNECTIONS false"))?;
                cluster.ask(&format!(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{making}'"
                ))?;
                cluster.ask(&format!("ALTER DATABASE {making} RENAME TO {wanted}"))
            })
            .await?;
        }
        drop(lock);
        blocking(move || Self::copied(&template)).await
    }
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, PostgresMissing> + Send + 'static,
) -> Result<T, PostgresMissing> {
    let ran = tokio::task::spawn_blocking(run).await;
    ran.unwrap_or_else(|e| Err(PostgresMissing(format!("PostgreSQL's programs panicked: {e}"))))
}

/// Which database the suites of the services use: `postgres` selects PostgreSQL.
const DATABASE: &str = "FOUNDRY_TEST_DATABASE";

/// URL of the empty database of one test: the file `<name>.db` in `directory`, or a fresh PostgreSQL database when the
/// environment has `FOUNDRY_TEST_DATABASE=postgres`. So one suite serves both databases.
///
/// # Panics
/// When PostgreSQL is requested and does not start, or the variable has another value.
pub async fn database_url(directory: &Path, name: &str) -> String {
    url(directory, name, PostgresDatabase::create()).await
}

/// As [`database_url`], but a PostgreSQL database is a copy of one that `migrate` made from an empty one, once for all
/// tests of a run that give the same name. A file starts empty.
///
/// # Panics
/// As [`database_url`].
pub async fn migrated_database_url(
    directory: &Path,
    name: &str,
    migrate: impl AsyncFnOnce(String),
) -> String {
    url(directory, name, PostgresDatabase::create_from(name, migrate)).await
}

async fn url(
    directory: &Path,
    name: &str,
    on_postgres: impl Future<Output = Result<PostgresDatabase, PostgresMissing>>,
) -> String {
    match std::env::var(DATABASE).unwrap_or_default().as_str() {
        "" | "sqlite" => format!("sqlite:{}", directory.join(format!("{name}.db")).display()),
        "postgres" => match on_postgres.await {
            Ok(database) => database.url,
            Err(e) => panic!("{e}"),
        },
        other => panic!("{DATABASE}={other}: must be sqlite or postgres"),
    }
}

/// Whether [`database_url`] gives PostgreSQL databases.
pub fn on_postgres() -> bool {
    std::env::var(DATABASE).is_ok_and(|value| value == "postgres")
}

const USER: &str = "foundry";
/// Prefix of the name of a test's database; the id of its process follows.
const OF_TEST: &str = "test_";
/// The variable that names the run's cluster: its port and its directory.
const SHARED: &str = "POSTGRES_OF_TESTS";

/// A cluster for all tests of a run, in any number of processes. It is stopped when this is dropped.
pub struct PostgresCluster(Cluster);

impl PostgresCluster {
    /// Starts one.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self, PostgresMissing> {
        Cluster::start(Syncing::Off).map(Self)
    }

    /// Starts one that syncs commits to the disk, as production does, for benchmarks.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start_syncing() -> Result<Self, PostgresMissing> {
        Cluster::start(Syncing::On).map(Self)
    }

    /// Creates an empty database of this name, which is deleted with the cluster.
    ///
    /// # Errors
    /// When the name is taken, or a program of PostgreSQL fails.
    pub fn create_database(&self, name: &str) -> Result<PostgresDatabase, PostgresMissing> {
        self.0.create_database(name, "template1")?;
        Ok(self.0.database(name))
    }

    /// The variable that names this cluster to tests: its name and its value.
    pub fn variable(&self) -> (&'static str, String) {
        (SHARED, format!("{}:{}", self.0.port, self.0.directory.display()))
    }

    /// Drops the databases of tests whose process has ended: each takes 8 MB of disk.
    ///
    /// # Errors
    /// When a program of PostgreSQL fails.
    pub fn drop_what_ended(&self) -> Result<(), PostgresMissing> {
        let names = "SELECT datname FROM pg_database";
        for name in self.0.ask(names)?.lines().map(str::trim) {
            let process = name.strip_prefix(OF_TEST).and_then(|rest| rest.split_once('_'));
            if process.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
                self.0.ask(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
            }
        }
        Ok(())
    }
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy)]
enum Syncing {
    /// Safe for a killed test process: only a crash of the machine could lose data.
    Off,
    On,
}

struct Cluster {
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
    owner: Option<(u32, u32)>,
    /// The cluster stops when this pipe is closed.
    _alive: Option<ChildStdin>,
}

impl Cluster {
    /// The run's cluster, or else one that this process starts with its first test.
    fn of_this_process() -> Result<&'static Self, PostgresMissing> {
        static CLUSTER: OnceLock<Result<Cluster, PostgresMissing>> = OnceLock::new();
        let started = || Self::shared().unwrap_or_else(|| Self::start(Syncing::Off));
        CLUSTER.get_or_init(started).as_ref().map_err(Clone::clone)
    }

    /// Blocks the tests of all processes that want the same lock, until it is dropped.
    fn lock(&self, name: &str) -> Result<fs::File, PostgresMissing> {
        let path = self.directory.join(format!("{name}.lock"));
        let lock = fs::File::create(path).map_err(failed("a lock"))?;
        lock.lock().map_err(failed("a lock"))?;
        Ok(lock)
    }

    fn database(&self, name: &str) -> PostgresDatabase {
        let (port, socket) = (self.port, self.directory.display());
        PostgresDatabase {
            url: format!("postgres://{USER}@localhost:{port}/{name}?host={socket}"),
            tcp_url: format!("postgres://{USER}@127.0.0.1:{port}/{name}"),
        }
    }

    /// The cluster of the run that this process belongs to.
    fn shared() -> Option<Result<Self, PostgresMissing>> {
        let value = std::env::var(SHARED).ok()?;
        let parts =
            value.split_once(':').and_then(|(port, dir)| Some((port.parse().ok()?, PathBuf::from(dir))));
        let Some((port, directory)) = parts else {
            return Some(Err(PostgresMissing(format!(
                "{SHARED}={value}: must be a port, a colon and a directory"
            ))));
        };
        let owner = unprivileged();
        Some(find_binaries().map(|binaries| Self { binaries, directory, port, owner, _alive: None }))
    }

    fn start(syncing: Syncing) -> Result<Self, PostgresMissing> {
        let binaries = find_binaries()?;
        let owner = unprivileged();
        let directory =
            tempfile::Builder::new().prefix("foundry-pg-").tempdir().map_err(failed("a directory"))?;
        // From here on the shell below deletes it.
        let directory = directory.keep();
        if let Some((uid, gid)) = owner {
            chown(&directory, Some(uid), Some(gid)).map_err(failed("chown"))?;
        }
        // Another process may take the port before PostgreSQL does: it then fails to start with an error.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(failed("a port"))?.port();
        let mut cluster = Self { binaries, directory, port, owner, _alive: None };
        cluster._alive = Some(cluster.stop_at_the_end()?);
        cluster.initialize(syncing)?;
        Ok(cluster)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn initialize(&self, syncing: Syncing) -> Result<(), PostgresMissing> {
        let mut init = self.command("initdb");
        init.args(["-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(self.data());
        run(init)?;
        let socket = self.directory.display();
        let fsync = match syncing {
            Syncing::Off => "off",
            Syncing::On => "on",
        };
        let options = format!(
            "-k {socket} -p {} -c listen_addresses=127.0.0.1 -c fsync={fsync} -c max_connections=1000 \
             -c deadlock_timeout=100ms",
            self.port
        );
        let mut start = self.command("pg_ctl");
        start.args(["-w", "-t", "30", "-o", &options, "-l"]).arg(self.directory.join("log"));
        start.arg("-D").arg(self.data()).arg("start");
        run(start).map_err(|e| {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            PostgresMissing(format!("{e}\n{log}"))
        })
    }

    /// Starts the shell, which outlives this process for the time of one stop.
    fn stop_at_the_end(&self) -> Result<ChildStdin, PostgresMissing> {
        let mut shell = self.at_home(Path::new("/bin/sh"));
        shell
            .args([
                "-c",
                "cat >/dev/null; \"$1\" -D \"$2/data\" -m immediate -w stop; cd /; rm -rf \"$2\"",
                "sh",
            ])
            .arg(self.binaries.join("pg_ctl"))
            .arg(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests; the shell ends after them.
            .process_group(0);
        let mut child = shell.spawn().map_err(failed("/bin/sh"))?;
        child.stdin.take().ok_or_else(|| PostgresMissing("no pipe to /bin/sh".to_owned()))
    }

    fn create_database(&self, name: &str, template: &str) -> Result<(), PostgresMissing> {
        self.ask(&format!("CREATE DATABASE {name} TEMPLATE {template}")).map(drop)
    }

    /// The result of a statement, a row per line.
    fn ask(&self, statement: &str) -> Result<String, PostgresMissing> {
        let mut psql = self.command("psql");
        psql.arg("-h").arg(&self.directory).args(["-p", &self.port.to_string(), "-U", USER, "-At"]);
        output(psql.args(["-c", statement, "postgres"]))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.at_home(&self.binaries.join(program));
        command.stdin(Stdio::null());
        command
    }

    /// PostgreSQL refuses to run as root, and needs a directory that it may read.
    fn at_home(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// The newest installation, in Debian's places or in PATH.
fn find_binaries() -> Result<PathBuf, PostgresMissing> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        found.push((version, entry.path().join("bin")));
    }
    found.sort();
    let debian = found.into_iter().rev().map(|(_, path)| path);
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.chain(std::env::split_paths(&path)).find(|dir| dir.join("initdb").is_file()).ok_or_else(|| {
        PostgresMissing(
            "PostgreSQL is not installed: no initdb in /usr/lib/postgresql/*/bin or PATH \
             (on Debian: apt-get install postgresql)"
                .to_owned(),
        )
    })
}

/// The user to run as when this process is root: Debian's `nobody`.
fn unprivileged() -> Option<(u32, u32)> {
    let root = fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    root.then_some((65_534, 65_534))
}

fn run(mut command: Command) -> Result<(), PostgresMissing> {
    output(&mut command).map(drop)
}

/// The output of a program, if it succeeds.
fn output(command: &mut Command) -> Result<String, PostgresMissing> {
    // pg_ctl's server must not inherit a pipe of ours, or we would wait for it: its output goes to files.
    let mut output = tempfile::tempfile().map_err(failed("a file"))?;
    let both = |file: &fs::File| file.try_clone().map(Stdio::from).map_err(failed("a file"));
    command.stdout(both(&output)?).stderr(both(&output)?);
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(failed(&program))?;
    let mut text = String::new();
    std::io::Seek::rewind(&mut output)
        .and_then(|()| std::io::Read::read_to_string(&mut output, &mut text))
        .map_err(failed("a file"))?;
    if status.success() {
        Ok(text)
    } else {
        Err(PostgresMissing(format!("{program} failed with {status}: {text}")))
    }
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> PostgresMissing + use<'_> {
    move |e| PostgresMissing(format!("cannot use {what} for PostgreSQL: {e}"))
}
