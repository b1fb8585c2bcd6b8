//! Latency, rate and processor time of commands, next to a bare echo and a bare commit, and to what peers do instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::UpdateTaskRequest;
use foundry_store::{Migration, Migrations, Scope, Store, Table, WriteSet};
use foundry_tests::Caller;
use foundry_tests::story::task_request;
use tonic::transport::{Channel, Endpoint};

use crate::Bed;
use crate::load::{Lane, Operation, interleave, operation};
use crate::raw::call_echo;
use crate::report::Report;
use crate::result::Role;

/// Numbers of concurrent clients.
const CLIENTS: [usize; 3] = [1, 16, 64];
/// Size of the echoed message in bytes, about that of a task.
const ECHO_BYTES: usize = 518;

const ROWS_SQL: &str = "CREATE TABLE rows (id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL, rev BIGINT NOT NULL); \
     CREATE TABLE row_events (id TEXT NOT NULL PRIMARY KEY, row_id TEXT NOT NULL, rev BIGINT NOT NULL)";
const ROWS: Table = Table::new("rows", &["id", "body", "rev"], &["id"]);
const EVENTS: Table = Table::new("row_events", &["id", "row_id", "rev"], &["id"]);

/// Tables of the bare commits.
pub static BENCH: Migrations = Migrations {
    owner: "bench",
    steps: &[Migration { version: 1, name: "rows", sqlite: ROWS_SQL, postgres: ROWS_SQL }],
};

/// Commits a row and its event in a scope, durably.
pub async fn commit_rows(store: &Store, id: String) -> Result<(), String> {
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::service("bench"));
    ws.insert(&ROWS, [id.as_str().into(), "a row of some length, as rows are".into(), rev.into()]);
    ws.insert(&EVENTS, [format!("e{id}").into(), id.into(), rev.into()]);
    store.commit(ws).await.map(|_| ()).map_err(|e| e.to_string())
}

/// One channel with a connection of its own.
pub async fn connect(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).expect("address").connect().await.expect("a connection")
}

fn rename(caller: &Caller, task_id: String) -> Operation {
    let client = caller.task();
    operation(move |number| {
        let title = format!("Renamed {number}");
        let request = UpdateTaskRequest { request_id: String::new(), task_id: task_id.clone(), title };
        let mut client = client.clone();
        async move { client.update_task(request).await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}

fn create(caller: &Caller, repository: &Repository) -> Operation {
    let request = task_request(caller, repository, "say hello");
    let client = caller.task();
    operation(move |_| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.create_task(request).await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}

/// Measures renames directly and through the gateway.
pub async fn renames(bed: &Bed, report: &mut Report) {
    let dir = tempfile::tempdir().expect("directory");
    let store = bed.databases.open(dir.path(), &[&BENCH]).await;
    report.table("Rename (UpdateTask), durable; floor = echo + commit");
    let mut lanes = Vec::new();
    for world in &bed.worlds {
        let direct = async move |clients: usize| {
            let token = world.access_token().await;
            let mut operations = Vec::new();
            for task in &world.tasks[..clients] {
                operations.push(rename(&world.at_task(&token).await, task.clone()));
            }
            operations
        };
        let through = async move |clients: usize| {
            let mut operations = Vec::new();
            for task in &world.tasks[..clients] {
                operations.push(rename(&world.at_gateway().await, task.clone()));
            }
            operations
        };
        let servers = vec![world.pid()];
        lanes.push(Lane::new("rename", world.role, "at the task service", servers.clone(), direct));
        lanes.push(Lane::new("rename", world.role, "through the gateway", servers, through));
    }
    lanes.push(echo(bed, "rename"));
    lanes.push(bare_commits("rename", &store));
    if let Some(etcd) = &bed.peers.etcd {
        lanes.push(Lane::new("rename", Role::Peer, "etcd put", vec![etcd.pid()], etcd.puts()));
    }
    for clients in CLIENTS {
        interleave(&bed.plan, bed.plan.slice, clients, &lanes, report).await;
    }
    drop(lanes);
    store.close().await;
}

/// Measures the creation of tasks at the task service.
pub async fn creates(bed: &Bed, report: &mut Report) {
    let dir = tempfile::tempdir().expect("directory");
    let store = bed.databases.open(dir.path(), &[&BENCH]).await;
    report.table("CreateTask up to the call of a provider that hangs; floor = echo + commit");
    let mut lanes = Vec::new();
    for world in &bed.worlds {
        let creates = async move |clients: usize| {
            let token = world.access_token().await;
            let mut operations = Vec::new();
            for _ in 0..clients {
                operations.push(create(&world.at_task(&token).await, world.repository()));
            }
            operations
        };
        lanes.push(Lane::new("create_task", world.role, "at the task service", vec![world.pid()], creates));
    }
    lanes.push(echo(bed, "create_task"));
    lanes.push(bare_commits("create_task", &store));
    if let Some(restate) = &bed.peers.restate {
        for (name, path) in [
            ("Restate submit, seven steps run", "seven/send"),
            ("Restate submit, runs later", "seven/send?delay=24h"),
        ] {
            lanes.push(Lane::new("create_task", Role::Peer, name, restate.pids(), restate.calls(path)));
        }
    }
    for clients in CLIENTS {
        interleave(&bed.plan, bed.plan.slice / 2, clients, &lanes, report).await;
    }
    drop(lanes);
    store.close().await;
}

/// The bare echo as a floor.
pub fn echo<'a>(bed: &'a Bed, figure: &'static str) -> Lane<'a> {
    let raw = &bed.raw;
    Lane::new(figure, Role::Floor, "raw tonic echo, 518 B", vec![raw.pid()], async move |clients: usize| {
        let mut operations = Vec::new();
        for _ in 0..clients {
            let channel = connect(raw.url()).await;
            operations.push(operation(move |_| call_echo(channel.clone(), ECHO_BYTES)));
        }
        operations
    })
}

/// Bare commits as a floor.
pub fn bare_commits<'a>(figure: &'static str, store: &Store) -> Lane<'a> {
    let (store, next) = (store.clone(), Arc::new(AtomicU64::new(0)));
    let own = vec![std::process::id()];
    Lane::new(figure, Role::Floor, "raw store commit (row + event)", own, async move |clients: usize| {
        let one = |_| {
            let (store, mine) = (store.clone(), next.fetch_add(1, Ordering::Relaxed));
            operation(move |number| {
                let store = store.clone();
                async move { commit_rows(&store, format!("{mine}-{number}")).await }
            })
        };
        (0..clients).map(one).collect()
    })
}
