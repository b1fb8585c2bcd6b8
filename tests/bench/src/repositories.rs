//! What reading and moving repositories costs: the overview while the remote never answers, a synchronization beside
//! `git fetch`, and a fetch of a task's branch beside `git clone`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use foundry_core::Timestamp;
use foundry_proto::common::v1::SecretText;
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{
    CreateRepositoryCredentialRequest, CreateRepositoryRequest, GetRepositoryOverviewRequest,
    GetRepositoryRequest, Repository, RepositoryCredentialKind, RepositoryState,
    RequestRepositoryRefreshRequest,
};
use foundry_proto::task::v1::TaskState;
use foundry_testkit::ForgeHost;
use foundry_tests::Caller;
use foundry_tests::story::{await_task, create_task};

use crate::figures::Figures;
use crate::load::{Floor, Lane, Operation, interleave, operation};
use crate::report::Report;
use crate::result::Role;
use crate::world::{Build, Provider, World, settle};
use crate::{Bed, Plan};

/// Numbers of concurrent readers.
const READERS: [usize; 2] = [1, 16];
/// Commits of the repository that is moved.
const COMMITS: usize = 2_000;
/// How long a mirror or an overview may take.
const LIMIT: Duration = Duration::from_secs(600);
/// How often it is looked whether a synchronization has ended; the figures are that coarse.
const LOOK: Duration = Duration::from_millis(2);
/// The goal for the 99th percentile of reading an overview.
const GOAL: f64 = 5.0;

fn git(dir: &Path, args: &[&str], input: &[u8]) {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"])
        .args(args)
        .current_dir(dir);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("git");
    // It may have ended without reading.
    let _ = child.stdin.take().expect("its input").write_all(input);
    assert!(child.wait().expect("git").success(), "git {args:?}");
}

/// A bare repository with this many commits on `main`, each of which changes a file, and further branches on them.
fn origin(parent: &Path, commits: usize, branches: usize) -> PathBuf {
    let path = parent.join("origin.git");
    git(parent, &["init", "-q", "--bare", "-b", "main", "origin.git"], b"");
    let mut input = String::new();
    for n in 1..=commits {
        let text = format!("commit {n} of a file\n").repeat(20);
        input.push_str(&format!(
            "commit refs/heads/main\nmark :{n}\ncommitter b <b@example.invalid> {} +0000\ndata 3\none\n",
            1_700_000_000 + n
        ));
        if n > 1 {
            input.push_str(&format!("from :{}\n", n - 1));
        }
        input.push_str(&format!("M 100644 inline dir/{}.txt\ndata {}\n{text}\n", n % 100, text.len()));
    }
    for n in 1..branches {
        input.push_str(&format!("reset refs/heads/branch-{n:05}\nfrom :{}\n\n", 1 + n % commits));
    }
    git(&path, &["fast-import", "--quiet"], input.as_bytes());
    path
}

async fn register(caller: &Caller, url: &str, ready: impl Fn(&Repository) -> bool) -> Repository {
    let request = CreateRepositoryRequest {
        organization_id: caller.organization_id.clone(),
        url: url.to_owned(),
        ..Default::default()
    };
    let created = caller.repo().create_repository(request).await.expect("a repository").into_inner();
    let id = created.repository.expect("a repository").repository_id;
    until(caller, &id, ready).await
}

async fn until(caller: &Caller, id: &str, ready: impl Fn(&Repository) -> bool) -> Repository {
    let begun = Instant::now();
    loop {
        let request = GetRepositoryRequest { repository_id: id.to_owned() };
        let answer = caller.repo().get_repository(request).await.expect("a repository").into_inner();
        let repository = answer.repository.expect("a repository");
        assert_ne!(repository.state(), RepositoryState::Error, "{:?}", repository.condition);
        if ready(&repository) {
            return repository;
        }
        assert!(begun.elapsed() < LIMIT, "{repository:?}");
        settle(LOOK).await;
    }
}

fn is_computed(r: &Repository) -> bool {
    let overview = r.overview.clone().unwrap_or_default();
    r.state() == RepositoryState::Ready
        && !overview.computing
        && overview.done > 0
        && overview.done == overview.total
}

fn read(caller: &Caller, repository_id: &str, page_size: i32) -> Operation {
    let (client, repository_id) = (caller.repo(), repository_id.to_owned());
    operation(move |_| {
        let request = GetRepositoryOverviewRequest {
            repository_id: repository_id.clone(),
            page_size,
            page_token: String::new(),
        };
        let mut client = client.clone();
        async move { client.get_repository_overview(request).await.map(drop).map_err(|e| e.to_string()) }
    })
}

/// A repository at a forge, both of which have stopped answering.
struct Blocked {
    world: World,
    host: ForgeHost,
    repository_id: String,
    /// How new branches and pull requests were before.
    as_of: [Option<Timestamp>; 2],
    _served: tempfile::TempDir,
}

/// The token with which the pull requests are read.
const TOKEN: &str = "token-of-the-benchmark-0123456789";
/// Why branches and pull requests are stale once both have hung for long enough.
const STALE: [&str; 2] = ["GIT_TIMEOUT", "FORGE_UNREACHABLE"];
/// Most branches that have a pull request.
const PULL_REQUESTS: usize = 50;

impl Blocked {
    /// Registers a repository with so many branches and the pull requests of some of them; then remote and forge hang, until both
    /// are shown as stale.
    async fn start(build: &Build, bed: &Bed, branches: usize) -> Self {
        let served = tempfile::tempdir().expect("directory");
        let team = served.path().join("team");
        std::fs::create_dir(&team).expect("directory");
        origin(&team, 20, branches);
        let host = ForgeHost::start(served.path());
        let pulls = PULL_REQUESTS.min(branches - 1);
        for n in 1..=pulls {
            host.open("team/origin", &format!("branch-{n:05}"), "a change", false);
        }
        let forge = format!("repo.forges=[\"{} github {}\"]", host.host(), host.api("v3"));
        let settings = ["repo.allow_private_addresses=true", "repo.allow_http=true", forge.as_str()];
        let world = World::start_with(build, &bed.databases, Provider::Hangs, &settings).await;
        let credential = CreateRepositoryCredentialRequest {
            organization_id: world.owner.organization_id.clone(),
            target: Some(Target::Host(host.git().origin())),
            kind: RepositoryCredentialKind::Token.into(),
            secret: Some(SecretText { value: TOKEN.to_owned() }),
            ..Default::default()
        };
        world.owner.repo().create_repository_credential(credential).await.expect("a credential");
        let are_read = |r: &Repository| {
            let sync = r.pull_request_sync.clone().unwrap_or_default();
            is_computed(r) && usize::try_from(sync.open_count) == Ok(pulls)
        };
        let repository = register(&world.owner, &host.git().url("team/origin.git"), are_read).await;
        let repository_id = repository.repository_id.clone();
        host.git().hold(true);
        let request =
            RequestRepositoryRefreshRequest { repository_id: repository_id.clone(), ..Default::default() };
        world.owner.repo().request_repository_refresh(request).await.expect("a refresh");
        until(&world.owner, &repository_id, |r| reasons(r) == STALE).await;
        Self { world, host, repository_id, as_of: times(&repository), _served: served }
    }

    /// What is wrong with what the overview says of its age.
    async fn problems(&self) -> Vec<String> {
        let request = GetRepositoryOverviewRequest {
            repository_id: self.repository_id.clone(),
            page_size: 500,
            page_token: String::new(),
        };
        let answer = self.world.owner.repo().get_repository_overview(request).await;
        let answer = answer.expect("an overview").into_inner();
        let repository = answer.repository.unwrap_or_default();
        let mut problems = Vec::new();
        if times(&repository) != self.as_of {
            problems.push(format!("the times did not stand still: {:?}", times(&repository)));
        }
        if reasons(&repository) != STALE {
            problems.push(format!("it is stale because of {:?}", reasons(&repository)));
        }
        if answer.branches.iter().all(|branch| branch.pull_request.is_none()) {
            problems.push("no branch has a pull request".to_owned());
        }
        problems
    }

    fn end(mut self) {
        self.world.mesh.crash();
        self.host.git().hold(false);
    }
}

/// How new branches and pull requests are.
fn times(r: &Repository) -> [Option<Timestamp>; 2] {
    let branches = r.branch_sync.as_ref().and_then(|sync| sync.as_of.as_ref());
    let pulls = r.pull_request_sync.as_ref().and_then(|sync| sync.as_of.as_ref());
    [branches, pulls].map(|as_of| as_of.map(Timestamp::from_proto))
}

/// Why they are stale.
fn reasons(r: &Repository) -> [&str; 2] {
    let branches = r.branch_sync.as_ref().and_then(|sync| sync.stale.as_ref());
    let pulls = r.pull_request_sync.as_ref().and_then(|sync| sync.stale.as_ref());
    [branches, pulls].map(|stale| stale.map_or("", |stale| stale.reason.as_str()))
}

/// Measures reading the overview by the number of branches, while the remote and the API of its forge take calls and never
/// answer. That its times stand still and the reasons are right is checked before and after.
pub async fn overviews(bed: &Bed, builds: &[Build], report: &mut Report) {
    for &branches in bed.plan.branches {
        report.table(&format!(
            "GetRepositoryOverview, {branches} branches, remote and forge hang; goal: p99 ≤ {GOAL} ms"
        ));
        for build in builds {
            let blocked = Blocked::start(build, bed, branches).await;
            let role = blocked.world.role;
            let before = report.result.entries.len();
            let mut problems = blocked.problems().await;
            let lane = |page: i32| {
                let (world, id) = (&blocked.world, &blocked.repository_id);
                let reads = async move |clients: usize| {
                    let mut operations = Vec::new();
                    for _ in 0..clients {
                        operations.push(read(&world.at_gateway().await, id, page));
                    }
                    operations
                };
                let name = format!("{branches} branches, page of {page}");
                Lane::new("overview", role, name, vec![world.pid()], reads)
            };
            let lanes = [lane(50), lane(500)];
            for readers in READERS {
                interleave(&bed.plan, bed.plan.slice, readers, &lanes, report).await;
            }
            drop(lanes);
            problems.extend(blocked.problems().await);
            for problem in problems {
                report.fail(format!("the overview of {branches} branches: {problem}"));
            }
            let measured = report.result.entries[before..].iter().filter_map(|e| e.values.get("p99_ms"));
            let worst = measured.copied().fold(0.0, f64::max);
            let load = format!("{branches} branches");
            let name =
                if worst <= GOAL { "worst p99: the goal is met" } else { "worst p99: the goal is missed" };
            report.values("overview-goal", role, &load, name, &[("p99_ms", worst), ("goal_ms", GOAL)]);
            blocked.end();
        }
    }
}

/// Measures a requested synchronization of one new commit, beside `git fetch` of the same into a mirror without Foundry.
pub async fn synchronizations(bed: &Bed, builds: &[Build], report: &mut Report) {
    report.section(&format!(
        "Synchronization of one new commit, {COMMITS} commits and 100 branches before; floor = git fetch"
    ));
    for build in builds {
        let dir = tempfile::tempdir().expect("directory");
        let path = origin(dir.path(), COMMITS, 100);
        git(dir.path(), &["clone", "-q", "--mirror", "origin.git", "mirror.git"], b"");
        let mut world =
            World::start_with(build, &bed.databases, Provider::Hangs, &["repo.poll_idle=1h"]).await;
        let url = path.display().to_string();
        let id = register(&world.owner, &url, is_computed).await.repository_id;
        let (mut ours, mut bare) = (Figures::default(), Figures::default());
        for round in 0..rounds(&bed.plan) {
            let change = format!(
                "commit refs/heads/main\ncommitter b <b@example.invalid> {} +0000\ndata 3\nnew\nfrom refs/heads/main^0\n\
                 M 100644 inline new.txt\ndata <<END\n{round}\nEND\n\n",
                1_800_000_000 + round
            );
            git(&path, &["fast-import", "--quiet"], change.as_bytes());
            let begun = Instant::now();
            let request = RequestRepositoryRefreshRequest { repository_id: id.clone(), ..Default::default() };
            let asked =
                world.owner.repo().request_repository_refresh(request).await.expect("a refresh").into_inner();
            let before = asked.repository.and_then(|r| r.sync_time);
            let done = |r: &Repository| r.state() == RepositoryState::Ready && r.sync_time != before;
            until(&world.owner, &id, done).await;
            ours.add(begun.elapsed());
            let begun = Instant::now();
            git(&dir.path().join("mirror.git"), &["fetch", "-q", "--prune"], b"");
            bare.add(begun.elapsed());
            // The overview of the change takes its part of the machine, too.
            until(&world.owner, &id, is_computed).await;
        }
        beside("sync", &world, ("RequestRepositoryRefresh", &ours), ("git fetch", &bare), report);
        world.mesh.crash();
    }
}

/// Measures a fetch of a task's branch into an empty repository, beside `git clone` of the same mirror by the file protocol.
pub async fn fetches(bed: &Bed, builds: &[Build], report: &mut Report) {
    report.section(&format!(
        "git fetch of a task's branch, {COMMITS} commits; floor = git clone of the mirror"
    ));
    for build in builds {
        let dir = tempfile::tempdir().expect("directory");
        let path = origin(dir.path(), COMMITS, 1);
        let mut world = World::start_with(build, &bed.databases, Provider::Works, &[]).await;
        let url = path.display().to_string();
        let repository = register(&world.owner, &url, |r| r.state() == RepositoryState::Ready).await;
        let (task, _) = create_task(&world.owner, &repository, "write docs/hello.md: Hello.").await;
        await_task(&world.owner, &task.task_id, |t| {
            t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == 1)
        })
        .await;
        let gateway =
            world.mesh.url("gateway").replace("http://", &format!("http://x:{}@", world.owner.token));
        let ours_at = format!("{gateway}/git/{}/{}", world.owner.organization_id, repository.repository_id);
        let branch = format!("refs/foundry/tasks/{}", task.task_id);
        let mirror = world.mesh.data().join("repo/mirrors").join(format!("{}.git", repository.repository_id));
        let bare_at = format!("file://{}", mirror.display());
        let (mut ours, mut bare) = (Figures::default(), Figures::default());
        for _ in 0..rounds(&bed.plan) {
            let into = tempfile::tempdir_in(dir.path()).expect("directory");
            git(into.path(), &["init", "-q", "--bare", "ours"], b"");
            let begun = Instant::now();
            git(&into.path().join("ours"), &["fetch", "-q", &ours_at, &branch], b"");
            ours.add(begun.elapsed());
            let begun = Instant::now();
            git(into.path(), &["clone", "-q", "--bare", &bare_at, "bare"], b"");
            bare.add(begun.elapsed());
        }
        beside(
            "fetch",
            &world,
            ("git fetch of the task's branch", &ours),
            ("git clone of the mirror", &bare),
            report,
        );
        world.mesh.crash();
    }
}

/// How often something is done that takes longer than a call.
fn rounds(plan: &Plan) -> u32 {
    plan.pairs * 4
}

fn beside(
    figure: &'static str,
    world: &World,
    (name, ours): (&str, &Figures),
    (floor_name, bare): (&str, &Figures),
    report: &mut Report,
) {
    let floor = Floor::of(std::iter::once(bare));
    let values =
        |figures: &Figures| [("p50_ms", figures.percentile(0.5)), ("p99_ms", figures.percentile(0.99))];
    let [p50, p99] = values(ours);
    let ratio = ("p50_ratio", p50.1 / floor.p50);
    report.values(figure, world.role, "one at a time", name, &[p50, p99, ratio]);
    report.values(figure, Role::Floor, "one at a time", floor_name, &values(bare));
}
