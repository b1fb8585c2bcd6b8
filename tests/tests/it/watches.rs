//! Fifty watchers at the gateway of five real processes, through kills, stops and cut connections. What each received
//! is compared with what was written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundry_proto::common::v1::StageState;
use foundry_proto::task::v1::{
    CreateSessionRequest, GetOrganizationSummaryRequest, GetTaskRequest, ListTasksRequest, OrganizationItem,
    TaskItem, TaskState, organization_item, task_item,
};
use foundry_tests::acknowledged_writes::{self, Write};
use foundry_tests::fault_proxy::FaultProxy;
use foundry_tests::faults::Faults;
use foundry_tests::mesh::LONG_STOP;
use foundry_tests::story::{await_task, create_task, register};
use foundry_tests::watching::{Progress, Rows, View, Watcher};
use foundry_tests::{Caller, Mesh, Origin, Shape, services};
use foundry_watch::oracle::{ClientLog, Summary, check};
use rustix::process::Signal;
use tokio::task::JoinSet;

const WATCHERS: u64 = 50;
const TASKS: usize = 4;
/// Minimum number of changes that the watchers receive in total.
const CHANGES: usize = 20_000;
/// Minimum number of streams that resume at a position, and of connections that are cut.
const RESUMES: usize = 300;
const CUTS: usize = 50;
/// Revisions that are acknowledged between two restarts.
const BETWEEN: i64 = 150;
/// Most bytes to a client before its connection is cut.
const BYTES: u64 = 200_000;
/// Longest wait for any step; reached only if the test hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest duration of the disturbed phase, whose speed depends on the machine.
const DISTURBED: Duration = Duration::from_secs(600);

/// All processes, in place of names.
const ALL: &[&str] = &[];
/// The processes to restart, and the signal that stops them.
const RESTARTS: [(&[&str], Signal); 7] = [
    (&["task"], Signal::KILL),
    (&["gateway"], Signal::KILL),
    (ALL, Signal::KILL),
    (&["task"], Signal::TERM),
    (&["auth", "task"], Signal::KILL),
    (&["gateway"], Signal::TERM),
    (ALL, Signal::TERM),
];

/// The mesh, a user, and the network between the mesh and the watchers.
struct World {
    mesh: Mesh,
    ada: Caller,
    proxy: FaultProxy,
    progress: Arc<Progress>,
    _faults: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Faults::none(dir.path()).hang("allocate");
        let mesh = Mesh::start_faulty(Shape::Separate, dir.path(), &[LONG_STOP]);
        let ada = mesh.sign_in("ada").await;
        let proxy = FaultProxy::start(&mesh.url("gateway"), 1, BYTES).await;
        Self { mesh, ada, proxy, progress: Arc::default(), _faults: dir }
    }

    /// Starts watchers of all views, each on its own connection, so that a cut interrupts one stream only.
    fn watch(&self, tasks: &[(String, Vec<String>)]) -> JoinSet<Watcher> {
        let mut roaming = JoinSet::new();
        for number in 0..WATCHERS {
            let caller = Caller::with_token(self.proxy.url(), &self.ada.token, &self.ada.organization_id);
            let view = match usize::try_from(number).unwrap() % (2 * TASKS) {
                n if n < TASKS => View::Task(tasks[n].0.clone()),
                _ => View::Organization,
            };
            roaming.spawn(Watcher::new(number, caller, view).roam(Arc::clone(&self.progress)));
        }
        roaming
    }
}

/// Creates tasks that wait for the hanging provider; returns them with their sessions.
async fn tasks(ada: &Caller, mesh: &Mesh) -> Vec<(String, Vec<String>)> {
    let repository = register(ada, &Origin::create(mesh.dir())).await;
    let mut tasks = Vec::new();
    for n in 0..TASKS + RESTARTS.len() {
        let (task, session) = create_task(ada, &repository, &format!("say {n}")).await;
        let create =
            CreateSessionRequest { task_id: task.task_id.clone(), ..CreateSessionRequest::default() };
        let second = ada.task().create_session(create).await.unwrap().into_inner().session.unwrap();
        let hangs = |s: &foundry_proto::common::v1::Stage| {
            s.name == "sandbox_allocated" && s.state() == StageState::Running
        };
        await_task(ada, &task.task_id, |t| t.stages.iter().any(hangs)).await;
        tasks.push((task.task_id, vec![session.session_id, second.session_id]));
    }
    tasks
}

/// Waits until another [`BETWEEN`] revisions are acknowledged.
async fn await_more(mesh: &Mesh, progress: &Progress) {
    let mut head = progress.head.subscribe();
    let next = *head.borrow_and_update() + BETWEEN;
    let more = tokio::time::timeout(PATIENCE, head.wait_for(|head| *head >= next)).await;
    assert!(more.is_ok_and(|more| more.is_ok()), "the story hangs\n{}", mesh.log_tail());
}

/// Restarts processes one after the other while writers and watchers continue, until the minimum numbers are reached.
///
/// After each restart, a task without writers is killed, so that rows also leave the summary.
async fn disturb(world: &mut World, doomed: &[String]) {
    let World { mesh, ada, progress, proxy, .. } = world;
    for ((names, signal), doomed) in RESTARTS.into_iter().zip(doomed) {
        await_more(mesh, progress).await;
        progress.up.send_replace(false);
        // The gateway first, as in a stop.
        let all = services().iter().rev().map(|(name, _)| name.as_str());
        let names: Vec<&str> = if names.is_empty() { all.collect() } else { names.to_vec() };
        tokio::task::block_in_place(|| {
            for name in &names {
                mesh.signal(name, signal);
            }
            for name in &names {
                let status = mesh.ended(name);
                assert!(signal == Signal::KILL || status.success(), "{name}: {status}\n{}", mesh.log_tail());
            }
            mesh.start_again();
        });
        progress.up.send_replace(true);
        let killed = tokio::time::timeout(PATIENCE, acknowledged_writes::kill(ada, doomed, progress)).await;
        assert!(killed.is_ok(), "{doomed} is not killed\n{}", mesh.log_tail());
    }
    loop {
        await_more(mesh, progress).await;
        let (delivered, resumed) = (*progress.delivered.borrow(), *progress.resumed.borrow());
        if delivered >= CHANGES + CHANGES / 10 && resumed >= RESUMES && proxy.cuts() >= CUTS {
            return;
        }
    }
}

async fn head(ada: &Caller) -> i64 {
    let request = GetOrganizationSummaryRequest { organization_id: ada.organization_id.clone() };
    ada.task().get_organization_summary(request).await.unwrap().into_inner().rev
}

/// Lets all watchers continue until each is at the newest revision, and no newer one has appeared.
async fn settle(ada: &Caller, progress: &Arc<Progress>, mut watchers: Vec<Watcher>) -> (Vec<Watcher>, i64) {
    for _ in 0..50 {
        let rev = head(ada).await;
        let mut settling = JoinSet::new();
        for watcher in watchers {
            settling.spawn(watcher.settle(Arc::clone(progress), rev));
        }
        watchers = settling.join_all().await;
        if watchers.iter().all(|w| w.at() == rev) && head(ada).await == rev {
            return (watchers, rev);
        }
    }
    panic!("the mesh does not come to rest");
}

/// Checks that unary calls return what the watchers of each view received last.
async fn assert_equal_to_what_is_read(ada: &Caller, watchers: &[Watcher]) {
    let request = GetOrganizationSummaryRequest { organization_id: ada.organization_id.clone() };
    let read = ada.task().get_organization_summary(request).await.unwrap().into_inner();
    let mut organization = BTreeMap::new();
    for task in &read.tasks {
        let item = organization_item::Item::Task(task.clone());
        organization.insert(format!("task/{}", task.task_id), OrganizationItem { item: Some(item) });
    }
    for repository in &read.repositories {
        let item = organization_item::Item::Repository(repository.clone());
        let key = format!("repository/{}", repository.repository_id);
        organization.insert(key, OrganizationItem { item: Some(item) });
    }
    assert_eq!(organization.len(), TASKS + 1);
    let request = ListTasksRequest { organization_id: ada.organization_id.clone(), ..Default::default() };
    let mut listed = ada.task().list_tasks(request).await.unwrap().into_inner().tasks;
    let mut tasks = read.tasks;
    listed.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    tasks.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    assert_eq!(listed, tasks);

    let mut details: HashMap<&str, BTreeMap<String, TaskItem>> = HashMap::new();
    for watcher in watchers {
        match &watcher.view {
            View::Organization => assert_eq!(decoded(watcher.rows()), organization, "{}", watcher.log.name),
            View::Task(id) => {
                if !details.contains_key(id.as_str()) {
                    details.insert(id, detail(ada, id).await);
                }
                assert_eq!(decoded(watcher.rows()), details[id.as_str()], "{}", watcher.log.name);
            }
        }
    }
}

async fn detail(ada: &Caller, id: &str) -> BTreeMap<String, TaskItem> {
    let read = ada.task().get_task(GetTaskRequest { task_id: id.to_owned() }).await.unwrap().into_inner();
    let mut rows = BTreeMap::new();
    rows.insert(format!("task/{id}"), TaskItem { item: read.task.map(task_item::Item::Task) });
    for session in read.sessions {
        let key = format!("session/{}", session.session_id);
        rows.insert(key, TaskItem { item: Some(task_item::Item::Session(session)) });
    }
    assert_eq!(rows.len(), 3);
    rows
}

fn decoded<T: prost::Message + Default>(rows: &Rows) -> BTreeMap<String, T> {
    rows.iter().map(|(key, (_, item))| (key.clone(), T::decode(item.clone()).unwrap())).collect()
}

/// Checks all logs against the writes, one thread per view.
fn judge(watchers: Vec<Watcher>, writes: &[Write]) -> Vec<(Summary, usize)> {
    let mut views: BTreeMap<View, Vec<ClientLog>> = BTreeMap::new();
    for watcher in watchers {
        views.entry(watcher.view).or_default().push(watcher.log);
    }
    std::thread::scope(|scope| {
        let judged: Vec<_> = views
            .into_iter()
            .map(|(view, logs)| {
                scope.spawn(move || {
                    let history = acknowledged_writes::history(&view, &logs, writes);
                    let summary = check(&history, &logs).unwrap_or_else(|faults| {
                        let first: Vec<_> = faults.iter().take(5).map(ToString::to_string).collect();
                        panic!("{} faults in {view:?}:\n{}", faults.len(), first.join("\n"))
                    });
                    (summary, acknowledged_writes::tombstones(&logs))
                })
            })
            .collect();
        judged.into_iter().map(|thread| thread.join().expect("the oracle holds")).collect()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_watchers_keep_the_contract_through_restarts_and_severed_connections() {
    let begun = Instant::now();
    let mut world = World::start().await;
    let mut tasks = tasks(&world.ada, &world.mesh).await;
    let doomed: Vec<_> = tasks.split_off(TASKS).into_iter().map(|(task, _)| task).collect();
    let roaming = world.watch(&tasks);
    let mut writing = JoinSet::new();
    for (seed, (task, sessions)) in (0..).zip(tasks) {
        let (ada, progress) = (world.ada.clone(), Arc::clone(&world.progress));
        writing.spawn(async move { acknowledged_writes::write(ada, task, sessions, seed, &progress).await });
    }
    let disturbed = tokio::time::timeout(DISTURBED, disturb(&mut world, &doomed)).await;
    disturbed.unwrap_or_else(|_| panic!("the story hangs\n{}", world.mesh.log_tail()));
    let World { ada, proxy, progress, .. } = &world;
    progress.over.send_replace(true);
    proxy.stop_cutting();
    let writes = tokio::time::timeout(PATIENCE, writing.join_all()).await.expect("writers end").concat();
    let watchers = tokio::time::timeout(PATIENCE, roaming.join_all()).await.expect("watchers end");
    for task in &doomed {
        await_task(ada, task, |t| t.state() == TaskState::Killed).await;
    }
    let settled = tokio::time::timeout(PATIENCE, settle(ada, progress, watchers)).await;
    let (watchers, rev) = settled.expect("all watchers are shown the end");
    let lived = begun.elapsed();
    assert_equal_to_what_is_read(ada, &watchers).await;
    acknowledged_writes::assert_recorded_once(ada, &writes).await;

    let judged = tokio::task::block_in_place(|| judge(watchers, &writes));
    let sum = |count: fn(&Summary) -> u64| judged.iter().map(|(summary, _)| count(summary)).sum::<u64>();
    let gone: usize = judged.iter().map(|(_, gone)| gone).sum();
    println!(
        "{} changes, {} of them tombstones, in {} frames of {} streams to {WATCHERS} watchers of {} views, {} resumed, {} snapshots, \
         {} bookmarks, {} resets; {} writes up to revision {rev}; {} restarts, {} cuts; {:.0} s and {:.0} s of judging",
        sum(|s| s.changes),
        gone,
        sum(|s| s.frames),
        sum(|s| s.streams),
        judged.len(),
        sum(|s| s.resumed),
        sum(|s| s.snapshots),
        sum(|s| s.bookmarks),
        sum(|s| s.resets),
        writes.len(),
        RESTARTS.len(),
        proxy.cuts(),
        lived.as_secs_f64(),
        (begun.elapsed() - lived).as_secs_f64(),
    );
    assert_eq!(sum(|s| s.resets), 0, "every position stays good");
    assert!(sum(|s| s.changes) >= CHANGES as u64 && sum(|s| s.resumed) >= RESUMES as u64);
    assert!(gone > RESTARTS.len(), "watchers are told which rows are gone");
    assert!(sum(|s| s.snapshots) > WATCHERS && proxy.cuts() >= CUTS);
}
