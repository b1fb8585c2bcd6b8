//! Limits of a sandbox, attacked from inside by real programs: with control groups where this host has them, and
//! measured. Each attack is bounded, in case a limit does not hold.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use foundry_runtime_client::{ExecOutput, ExecSpec, RuntimeClient};
use foundry_sandbox::process::Presence;
use foundry_sandbox::{
    DeathCause, Health, LimitKind, Provider as _, ReachedLimit, RuntimeFacts, SandboxName,
};
use foundry_sandbox_local::{IsolationMode, LimitMode, Limits, LocalProvider};

use crate::common::{Host, alive, eventually, name, process, processes_of, ready, run, sh, start_spec};

const MIB: u64 = 1 << 20;

/// The combinations of isolation and enforcement under test.
const WAYS: [(IsolationMode, LimitMode); 3] = [
    (IsolationMode::Auto, LimitMode::Auto),
    (IsolationMode::Auto, LimitMode::Measure),
    (IsolationMode::Off, LimitMode::Auto),
];

fn limits(mode: LimitMode) -> Limits {
    Limits {
        processes: 200,
        memory_bytes: Some(512 * MIB),
        cpus: 1.0,
        disk_bytes: 1_024 * MIB,
        disk_files: 20_000,
        descriptors: 1_024,
        mode,
    }
}

/// A sandbox with limits.
struct Limited {
    host: Host,
    provider: LocalProvider,
    name: SandboxName,
    facts: RuntimeFacts,
    client: RuntimeClient,
}

impl Limited {
    async fn new((isolation, mode): (IsolationMode, LimitMode)) -> Self {
        Self::with(isolation, limits(mode)).await
    }

    async fn with(isolation: IsolationMode, limits: Limits) -> Self {
        let mut host = Host::new(isolation);
        // On a disk: where `TMPDIR` is in memory, what a sandbox writes would count against its memory.
        host.dir = tempfile::tempdir_in("/var/tmp").unwrap();
        host.limits = limits;
        let provider = host.provider().await;
        let name = name();
        let (facts, client) = ready(&host, &provider, &name).await;
        Self { host, provider, name, facts, client }
    }

    fn dir(&self) -> PathBuf {
        self.host.root().join(self.name.as_str())
    }

    async fn reached(&self) -> Vec<ReachedLimit> {
        self.provider.limits(&self.facts).await.unwrap().reached
    }

    /// Waits until a limit is reported.
    async fn report_of(&self, kind: LimitKind) -> ReachedLimit {
        let what = format!("{kind:?} is reported");
        eventually(&what, async || self.reached().await.into_iter().find(|r| r.kind == kind)).await
    }

    /// Checks that the sandbox can still be used, and is destroyed in time with everything in it.
    async fn works_and_ends(self) {
        alive(&self.provider, &self.facts).await;
        let words = eventually("a command runs", async || {
            // While processes are refused, this one is refused, too.
            let done = self.client.exec(&sh("echo fine")).await.ok()?;
            (done.exit_code == Some(0)).then_some(done.stdout)
        })
        .await;
        assert_eq!(words, "fine\n");
        self.ends().await;
    }

    async fn ends(self) {
        let groups = groups(&self.dir());
        let start = Instant::now();
        self.provider.destroy(&self.name).await.unwrap();
        let took = start.elapsed();
        let load = load();
        eprintln!("gone within {took:?}, with a load of {load}");
        // The promised time applies to a host with idle processors.
        let limit = if load < 3.0 { 10 } else { 30 };
        assert!(took < Duration::from_secs(limit), "{took:?} with a load of {load}");
        assert_eq!(processes_of(&self.name), Vec::<i32>::new());
        assert!(groups.iter().all(|g| !g.exists()), "{groups:?}");
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // Nothing of a failed test must go on; the supervisor kills the rest.
        let _ = process(&self.facts).kill();
    }
}

/// The average number of runnable processes in the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The control groups of a sandbox; none where it has none.
fn groups(dir: &std::path::Path) -> Vec<PathBuf> {
    fn paths(value: &serde_json::Value, found: &mut Vec<PathBuf>) {
        match value {
            serde_json::Value::String(path) => found.push(path.into()),
            serde_json::Value::Object(fields) => fields.values().for_each(|v| paths(v, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let text = std::fs::read(dir.join("cgroup.json")).unwrap_or_default();
    paths(&serde_json::from_slice(&text).unwrap_or_default(), &mut found);
    found
}

/// The highest value, polled every few milliseconds while `work` runs.
async fn peak<T>(ask: impl Fn() -> u64, work: impl Future<Output = T>) -> (u64, T) {
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let mut most = 0;
    loop {
        tokio::select! {
            done = &mut work => return (most, done),
            _ = tick.tick() => most = most.max(ask()),
        }
    }
}

/// Pids of the processes of this host whose command line contains these words.
fn running(words: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(words)
    };
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    numbers.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(has).collect()
}

fn python(script: &str) -> String {
    format!("exec python3 -c '{script}'")
}

/// Forks as fast as it can for two minutes; a limit per user bounds it where nothing else does.
fn bomb(mark: &str) -> String {
    let script = format!(
        "mark = \"{mark}\"\nimport os, time, resource\nhard = resource.getrlimit(resource.RLIMIT_NPROC)[1]\n\
         most = 3000 if hard < 0 else min(hard, 3000)\nresource.setrlimit(resource.RLIMIT_NPROC, (most, most))\n\
         end = time.time() + 120\nwhile time.time() < end:\n  try: os.fork()\n  except OSError: time.sleep(0.05)\n"
    );
    format!("python3 -c '{script}' > /dev/null 2>&1 & sleep 1; echo started")
}

#[tokio::test]
async fn holds_a_fork_bomb_and_is_rid_of_it() {
    for way in WAYS {
        let limited = Limited::new(way).await;
        let mark = format!("bomb-{}", limited.name);
        // Nothing remains of a command when it ends; an agent may leave such a process.
        let script = bomb(&mark);
        // On a busy host a bomb may end before it is counted: then another one starts.
        let reported = Cell::new(false);
        let attack = async {
            let client = limited.client.clone();
            let command = sh(&format!("{script}; sleep 15"));
            while !reported.get() {
                let _ = client.exec(&command).await;
            }
        };
        let report = async {
            let report = limited.report_of(LimitKind::Processes).await;
            reported.set(true);
            report
        };
        let (most, ((), report)) =
            peak(|| running(&mark).len() as u64, async { tokio::join!(attack, report) }).await;
        eprintln!("{way:?}: at most {most} processes of 200; {report:?}");
        assert!(most.max(report.used) > 150, "the attack took place: {most} {report:?}");
        // A control group refuses what is beyond its limit; a measured sandbox may briefly reach four times as much.
        let refused = !groups(&limited.dir()).is_empty();
        let bound = if refused { 250 } else { 800 };
        assert!(most <= bound, "{most}");
        assert!(refused || report.ended, "{report:?}");
        assert_eq!(report.limit, 200);
        limited.works_and_ends().await;
    }
}

#[tokio::test]
async fn destroys_a_sandbox_in_time_while_a_fork_bomb_runs_in_it() {
    for way in WAYS {
        let limited = Limited::new(way).await;
        let mark = format!("bomb-{}", limited.name);
        // A bomb that is killed at its limit may be gone before it is seen: then another one starts.
        let script = format!("while true; do {}; sleep 1; done", bomb(&mark));
        let command = ExecSpec { limit: Duration::from_secs(120), ..sh(&script) };
        let client = limited.client.clone();
        let attack = async {
            for _ in 0..1_000 {
                let _ = client.exec(&command).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let end = async {
            eventually("the bomb is there", async || (running(&mark).len() > 20).then_some(())).await;
            limited.ends().await;
        };
        tokio::select! {
            () = end => {}
            () = attack => panic!("the sandbox is still there"),
        }
        assert_eq!(running(&mark), Vec::<i32>::new());
    }
}

#[tokio::test]
async fn ends_what_takes_too_much_memory_and_says_so() {
    for way in WAYS {
        let limited = Limited::new(way).await;
        let mark = format!("hog-{}", limited.name);
        // It stays, in case it is seen late; from its limit to four times as much it takes three seconds.
        let script = format!(
            "mark = \"{mark}\"\nimport time\nkept = []\nfor _ in range(200):\n  kept.append(bytearray(16 << 20))\n  time.sleep(0.03)\ntime.sleep(60)\nprint(\"all\")"
        );
        let resident = || {
            let pages = |pid: &i32| {
                let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
                text.split(' ').nth(1)?.parse::<u64>().ok()
            };
            running(&mark).iter().filter_map(pages).max().unwrap_or(0) * 4_096
        };
        let command = ExecSpec { limit: Duration::from_secs(90), ..sh(&python(&script)) };
        let (most, done) = peak(resident, limited.client.exec(&command)).await;
        let (done, report) = (done.unwrap(), limited.report_of(LimitKind::Memory).await);
        eprintln!("{way:?}: at most {} MiB of 512; {report:?}", most / MIB);
        assert_eq!(done.exit_code, Some(137), "{done:?}");
        assert!(most.max(report.used) > 100 * MIB, "the attack took place: {most} {report:?}");
        // A kernel limit is never exceeded; the rest is memory shared with others.
        let bound = if groups(&limited.dir()).is_empty() { 4 * 512 } else { 600 };
        assert!(most < bound * MIB, "{most}");
        assert!(report.ended && report.limit == 512 * MIB, "{report:?}");
        let words = limited.provider.limits(&limited.facts).await.unwrap().limits;
        assert!(words.contains("512.0 MiB of memory"), "{words}");
        limited.works_and_ends().await;
    }
}

/// Bytes and files below the directories that a sandbox writes to.
fn on_disk(limited: &Limited) -> (u64, u64) {
    let (mut pending, mut bytes, mut files) = (vec![limited.dir()], 0, 0);
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(m) = entry.metadata() else { continue };
            files += 1;
            bytes += std::os::unix::fs::MetadataExt::blocks(&m) * 512;
            if m.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    (bytes, files)
}

async fn attack_disk(limited: &Limited, kind: LimitKind, script: &str) -> (ExecOutput, (u64, u64)) {
    // On a host where creating files is slow, many take their time.
    let command = ExecSpec { limit: Duration::from_secs(200), ..sh(script) };
    let done = limited.client.exec(&command).await.unwrap();
    let report = limited.report_of(kind).await;
    let taken = on_disk(limited);
    eprintln!("{} MiB and {} files; {report:?}", taken.0 / MIB, taken.1);
    assert!(done.exit_code != Some(0) && !done.timed_out, "{done:?}");
    assert!(report.ended, "{report:?}");
    (done, taken)
}

#[tokio::test]
async fn ends_a_writer_of_too_much_and_keeps_what_is_there() {
    for way in WAYS {
        let limited = Limited::new(way).await;
        let script = "echo mine > kept && dd if=/dev/zero of=big bs=1M count=3500";
        let (_, (bytes, _)) = attack_disk(&limited, LimitKind::DiskBytes, script).await;
        assert!((900 * MIB..4_096 * MIB).contains(&bytes), "{bytes}");
        // There is room to save and to clean up.
        let saved =
            run(&limited.client, "cat kept && dd if=/dev/zero of=work bs=1M count=20 && rm big work").await;
        assert_eq!((saved.exit_code, saved.stdout.as_str()), (Some(0), "mine\n"), "{saved:?}");
        limited.works_and_ends().await;
    }
}

#[tokio::test]
async fn tells_of_the_disk_alone_when_what_is_ended_for_it_forks_all_the_time() {
    let limited = Limited::new(WAYS[0]).await;
    // Forks that are refused during a kill must not be reported as a limit of processes.
    let script =
        "for n in $(seq 40); do (while :; do (:); done) & done; dd if=/dev/zero of=big bs=1M count=3500";
    attack_disk(&limited, LimitKind::DiskBytes, script).await;
    let reached = limited.reached().await;
    assert!(reached.iter().all(|r| r.kind == LimitKind::DiskBytes), "{reached:?}");
    limited.works_and_ends().await;
}

#[tokio::test]
async fn ends_a_writer_of_a_file_that_nobody_sees() {
    let limited = Limited::new(WAYS[0]).await;
    let script = "import os\nf = open(\"x\", \"wb\")\nos.unlink(\"x\")\nblock = bytes(1 << 20)\nfor _ in range(3500): f.write(block)\n";
    let (_, (bytes, _)) = attack_disk(&limited, LimitKind::DiskBytes, &python(script)).await;
    assert!(bytes < 100 * MIB, "it is gone with its process: {bytes}");
    limited.works_and_ends().await;
}

#[tokio::test]
async fn ends_a_writer_of_too_many_files() {
    for way in WAYS {
        let limited = Limited::new(way).await;
        let script = "import os\nfor n in range(70000):\n  if n % 1000 == 0: os.mkdir(\"d%d\" % n)\n  open(\"d%d/f%d\" % (n - n % 1000, n), \"w\").close()\n";
        let (_, (_, files)) = attack_disk(&limited, LimitKind::DiskFiles, &python(script)).await;
        assert!((19_000..80_000).contains(&files), "{files}");
        limited.works_and_ends().await;
    }
}

#[tokio::test]
async fn gives_each_process_so_many_descriptors() {
    for way in WAYS {
        let limited = Limited::new(way).await;
        let script = "kept = []\ntry:\n  for n in range(5000): kept.append(open(\"/dev/null\"))\nexcept OSError as e: print(len(kept), e.errno)";
        let done = run(&limited.client, &format!("ulimit -n; {}", python(script))).await;
        let words: Vec<u64> = done.stdout.split_ascii_whitespace().map(|w| w.parse().unwrap()).collect();
        assert_eq!((words[0], words[2]), (1_024, 24), "{done:?}");
        assert!((1_000..1_024).contains(&words[1]), "{done:?}");
        limited.works_and_ends().await;
    }
}

#[tokio::test]
async fn begins_with_the_usual_number_of_descriptors_where_none_is_set_although_the_mesh_has_more() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    for (isolation, mode) in WAYS {
        let limited = Limited::with(isolation, Limits { mode, ..Limits::none() }).await;
        let done = run(&limited.client, "ulimit -Sn; ulimit -Hn").await;
        let own = most.map_or("unlimited".to_owned(), |m| m.to_string());
        assert_eq!(done.stdout, format!("1024\n{own}\n"));
        limited.works_and_ends().await;
    }
}

#[tokio::test]
async fn runs_on_no_more_than_its_share_of_the_processors() {
    let few = Limits { cpus: 0.2, ..limits(LimitMode::Auto) };
    let limited = Limited::with(IsolationMode::Auto, few).await;
    let Some(group) = groups(&limited.dir()).into_iter().find(|g| g.join("cpu.stat").exists()) else {
        eprintln!("skipped: no control group for processors");
        return limited.ends().await;
    };
    let script = "for i in 1 2; do timeout 2 sh -c \"while :; do :; done\" & done; wait";
    assert_eq!(run(&limited.client, script).await.exit_code, Some(0));
    let stat = std::fs::read_to_string(group.join("cpu.stat")).unwrap();
    let throttled = stat.lines().find_map(|l| l.strip_prefix("nr_throttled ")).unwrap();
    assert_ne!(throttled, "0", "{stat}");
    limited.works_and_ends().await;
}

/// Many processes that together use more than 512 MiB, each less than the runtime does. They stay until one of them was
/// killed, and for a moment after that.
const SWARM: &str = "import os, time\nfor n in range(150):\n  if os.fork() == 0:\n    kept = bytearray(5 << 20)\n    time.sleep(60)\n    os._exit(0)\nos.wait()\ntime.sleep(3)";

fn swarm() -> ExecSpec {
    ExecSpec { limit: Duration::from_secs(90), ..sh(&python(SWARM)) }
}

#[tokio::test]
async fn leaves_the_runtime_alive_when_many_small_processes_take_all_memory() {
    let limited = Limited::new(WAYS[0]).await;
    limited.client.exec(&swarm()).await.unwrap();
    let report = limited.report_of(LimitKind::Memory).await;
    assert!(report.ended, "{report:?}");
    limited.works_and_ends().await;
}

#[tokio::test]
async fn says_that_a_runtime_died_for_want_of_memory() {
    let limited = Limited::new(WAYS[2]).await;
    if groups(&limited.dir()).is_empty() {
        eprintln!("skipped: no control groups");
        return limited.ends().await;
    }
    // Makes the kernel choose the runtime first.
    let runtime = process(&limited.facts).pid;
    std::fs::write(format!("/proc/{runtime}/oom_score_adj"), "1000").unwrap();
    let _ = limited.client.exec(&swarm()).await;
    let cause = eventually("it is found dead", async || match limited.provider.probe(&limited.facts).await {
        Ok(Health::Dead { cause: DeathCause::Gone }) => None,
        Ok(Health::Dead { cause }) => Some(cause),
        _ => None,
    })
    .await;
    assert_eq!(cause, DeathCause::OutOfMemory);
    let again = limited.provider.start_agent(&start_spec(&limited.name, "run2")).await.unwrap();
    // It has its limits again.
    alive(&limited.provider, &again).await;
    limited.ends().await;
}

#[tokio::test]
async fn finds_the_control_groups_of_a_sandbox_of_which_nothing_else_is_left() {
    let limited = Limited::new(WAYS[0]).await;
    let groups = groups(&limited.dir());
    if groups.is_empty() {
        eprintln!("skipped: no control groups");
        return limited.ends().await;
    }
    // Everything goes but the control groups, as after a crash.
    let supervisor = std::fs::read(limited.dir().join("runtime.supervisor.json")).unwrap();
    let supervisor: foundry_sandbox::ProcessRef = serde_json::from_slice(&supervisor).unwrap();
    assert!(supervisor.kill().unwrap());
    for pid in processes_of(&limited.name) {
        let _ = foundry_sandbox::ProcessRef::of(pid).map(|p| p.kill());
    }
    std::fs::remove_dir_all(limited.dir()).unwrap();
    assert!(groups.iter().all(|g| g.exists()));
    let next = limited.host.provider().await;
    let owned = next.list_owned().await.unwrap();
    assert!(owned.iter().any(|o| o.name == limited.name && o.allocated_at.is_none()), "{owned:?}");
    next.destroy(&limited.name).await.unwrap();
    assert!(groups.iter().all(|g| !g.exists()));
}

#[tokio::test]
async fn can_start_processes_again_when_its_supervisor_was_killed_while_it_forbade_them() {
    let limited = Limited::new(WAYS[2]).await;
    let groups = groups(&limited.dir());
    let Some(most) = groups.iter().map(|g| g.join("pids.max")).find(|f| f.exists()) else {
        eprintln!("skipped: no control groups");
        return limited.ends().await;
    };
    let supervisor = std::fs::read(limited.dir().join("runtime.supervisor.json")).unwrap();
    let supervisor: foundry_sandbox::ProcessRef = serde_json::from_slice(&supervisor).unwrap();
    std::fs::write(&most, "0").unwrap();
    // While it lives, it lifts its ban itself.
    assert_eq!(limited.provider.probe(&limited.facts).await.unwrap(), Health::Alive);
    assert_eq!(std::fs::read_to_string(&most).unwrap(), "0\n");
    assert!(supervisor.kill().unwrap());
    eventually("the supervisor is gone", async || (supervisor.presence() == Presence::Gone).then_some(()))
        .await;
    assert_eq!(limited.provider.probe(&limited.facts).await.unwrap(), Health::Alive);
    assert_eq!(run(&limited.client, "true").await.exit_code, Some(0));
    limited.ends().await;
}

/// How long a command takes in an idle sandbox: the median and the 90th percentile.
async fn latency(client: &RuntimeClient, calls: usize) -> (Duration, Duration) {
    let mut took = Vec::new();
    for _ in 0..calls {
        let start = Instant::now();
        assert_eq!(run(client, "true").await.exit_code, Some(0));
        took.push(start.elapsed());
    }
    took.sort_unstable();
    (took[calls / 2], took[calls * 9 / 10])
}

#[tokio::test]
async fn lets_other_sandboxes_work_while_one_takes_all_it_can() {
    let attacked = Limited::new(WAYS[0]).await;
    let other = Limited::new(WAYS[0]).await;
    let mark = format!("bomb-{}", attacked.name);
    let before = latency(&other.client, 40).await;
    let hog = "while True:\n  kept = []\n  try:\n    for _ in range(60): kept.append(bytearray(16 << 20))\n  except MemoryError: pass";
    let scripts = [
        format!("while true; do {}; sleep 1; done", bomb(&mark)),
        format!("for n in 1 2 3 4 5 6; do python3 -c '{hog}'; done"),
        "for n in 1 2 3; do dd if=/dev/zero of=big bs=1M count=1500; sleep 1; done".to_owned(),
    ];
    // Killed processes start again, so the attack lasts as long as the measurement.
    let attack = futures::future::join_all(scripts.iter().map(|script| {
        let client = attacked.client.clone();
        async move {
            loop {
                let _ = client.exec(&sh(script)).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }));
    let measured = async {
        // Where the memory is taken first, the bomb may be killed before it is seen.
        let attacks = async || running(&mark).len() > 20 || !attacked.reached().await.is_empty();
        eventually("the attack takes all it can", async || attacks().await.then_some(())).await;
        latency(&other.client, 40).await
    };
    tokio::select! {
        during = measured => {
            eprintln!("a command beside it (p50, p90): before {before:?}, during {during:?}");
            assert!(during.0 < before.0 * 20 + Duration::from_secs(1), "{before:?} {during:?}");
        }
        _ = attack => unreachable!("it has no end"),
    }
    other.ends().await;
    attacked.ends().await;
}
