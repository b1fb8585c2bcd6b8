//! Latency and rate of commands, next to a bare echo and a bare commit.

use std::sync::Arc;

use foundry_core::Env;
use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::UpdateTaskRequest;
use foundry_store::{Migration, Migrations, Scope, Store, StoreOptions, Table, WriteSet};
use foundry_tests::Caller;
use foundry_tests::story::task_request;
use tonic::transport::{Channel, Endpoint};

use crate::figures::Figures;
use crate::load::{Operation, operation, run};
use crate::raw::{RawServer, call_echo};
use crate::report::{Report, ratio};
use crate::world::World;
use crate::{PAIRS, Plan};

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

/// A `SQLite` store with the same settings as the services'.
pub async fn open_store(dir: &std::path::Path, migrations: &[&Migrations]) -> Store {
    let url = format!("sqlite:{}", dir.join("bench.db").display());
    Store::connect(&url, migrations, &Env::system(), StoreOptions::default()).await.expect("a store")
}

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

fn rename(caller: Caller, task_id: String) -> Operation {
    let client = caller.task();
    operation(move |number| {
        let title = format!("Renamed {number}");
        let request = UpdateTaskRequest { request_id: String::new(), task_id: task_id.clone(), title };
        let mut client = client.clone();
        async move { client.update_task(request).await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}

fn create(caller: Caller, repository: &Repository) -> Operation {
    let request = task_request(&caller, repository, "say hello");
    let client = caller.task();
    operation(move |_| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.create_task(request).await.map(|_| ()).map_err(|e| e.to_string()) }
    })
}

/// Measures renames directly and through the gateway, next to both baselines.
pub async fn renames(plan: &Plan, world: &World, raw: &RawServer, tasks: &[String], report: &mut Report) {
    let dir = tempfile::tempdir().expect("directory");
    let store = open_store(dir.path(), &[&BENCH]).await;
    let mut next = 0;
    report.table("1. command latency: UpdateTask (rename), durable, provider hanging");
    for clients in [1, 16, 64] {
        let token = world.access_token().await;
        let [mut direct, mut gateway, mut echo, mut commit] = [const { None::<Figures> }; 4];
        for _ in 0..PAIRS {
            let mut operations = Vec::new();
            for _ in 0..clients {
                let channel = connect(raw.url()).await;
                operations.push(operation(move |_| call_echo(channel.clone(), ECHO_BYTES)));
            }
            keep(&mut echo, run(raw.pid(), plan.slice, operations).await);
            let operations = (0..clients).map(|i| rename(world.at_task(&token), tasks[i].clone()));
            keep(&mut direct, run(world.pid(), plan.slice, operations.collect()).await);
            let operations = (0..clients).map(|i| rename(world.at_gateway(), tasks[i].clone()));
            keep(&mut gateway, run(world.pid(), plan.slice, operations.collect()).await);
            let operations = bare_commits(&Arc::new(store.clone()), clients, &mut next);
            keep(&mut commit, run(std::process::id(), plan.slice, operations).await);
        }
        let [direct, gateway, echo, commit] = [direct, gateway, echo, commit].map(Option::unwrap_or_default);
        report.line(clients, "rename at the task service", &direct);
        report.line(clients, "rename through the gateway", &gateway);
        report.line(clients, "  raw tonic echo, 518 B", &echo);
        report.line(clients, "  raw store commit (row + event)", &commit);
        let floor = echo.percentile(0.5) + commit.percentile(0.5);
        let floor99 = echo.percentile(0.99) + commit.percentile(0.99);
        report.say(&format!(
            "rename / (echo + commit): p50 {}, p99 {}; gateway / direct: p50 {}, CPU {}; rate / commit rate: {}",
            ratio(direct.percentile(0.5), floor),
            ratio(direct.percentile(0.99), floor99),
            ratio(gateway.percentile(0.5), direct.percentile(0.5)),
            ratio(gateway.cpu_micros(), direct.cpu_micros()),
            ratio(direct.rate(), commit.rate()),
        ));
    }
    store.close().await;
}

fn bare_commits(store: &Arc<Store>, clients: usize, next: &mut u64) -> Vec<Operation> {
    let clients = (0..clients).map(|_| {
        *next += 1;
        let (store, mine) = (Arc::clone(store), *next);
        operation(move |number| {
            let store = Arc::clone(&store);
            async move { commit_rows(&store, format!("{mine}-{number}")).await }
        })
    });
    clients.collect()
}

/// Measures the creation of tasks at the task service, next to bare commits.
pub async fn creates(plan: &Plan, world: &World, repository: &Repository, report: &mut Report) {
    let dir = tempfile::tempdir().expect("directory");
    let store = Arc::new(open_store(dir.path(), &[&BENCH]).await);
    let mut next = 0;
    report.table("1b. CreateTask (task, session, message, flow, projection, audit), provider hanging");
    for clients in [1, 16, 64] {
        let token = world.access_token().await;
        let [mut create_task, mut commit] = [const { None::<Figures> }; 2];
        for _ in 0..PAIRS {
            let operations = (0..clients).map(|_| create(world.at_task(&token), repository));
            keep(&mut create_task, run(world.pid(), plan.slice / 2, operations.collect()).await);
            let operations = bare_commits(&store, clients, &mut next);
            keep(&mut commit, run(std::process::id(), plan.slice / 2, operations).await);
        }
        let [create_task, commit] = [create_task, commit].map(Option::unwrap_or_default);
        report.line(clients, "CreateTask at the task service", &create_task);
        report.line(clients, "  raw store commit (row + event)", &commit);
        report.say(&format!("rate / commit rate: {}", ratio(create_task.rate(), commit.rate())));
    }
    store.close().await;
}

/// Adds the next slice of a measurement.
pub fn keep(sum: &mut Option<Figures>, slice: Figures) {
    match sum {
        Some(sum) => sum.merge_earlier(slice),
        None => *sum = Some(slice),
    }
}
