//! The cost of commands, as counts that do not depend on the machine. Counts that do are printed:
//! `cargo nextest run --workspace counters:: --no-capture`.

use foundry_proto::task::v1::{Task, TaskState, UpdateTaskRequest};
use foundry_tests::counters::Counters;
use foundry_tests::faults::Faults;
use foundry_tests::story::{await_task, await_turns, create_task, register, send};
use foundry_tests::{Mesh, Origin, Shape};

/// Whether the task is idle and its work is imported, which happens after the turn.
fn rests_with_its_work(task: &Task) -> bool {
    task.state() == TaskState::Idle && task.changes.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_costs_one_commit_and_the_entries_of_a_turn_share_theirs() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;

    let before = Counters::at_rest(&mesh).await;
    let (task, session) = create_task(&caller, &repository, "say one").await;
    await_turns(&caller, &session.session_id, 1).await;
    await_task(&caller, &task.task_id, rests_with_its_work).await;
    let created = Counters::at_rest(&mesh).await;
    let create = created.since(&before);
    println!("CreateTask with a first turn:\n{create}");

    // Other services have work of their own, and work that a busy machine delayed may be counted too. So one of several
    // renames must have the exact cost, and none may cost less.
    let (mut renamed, mut costs) = (created, Vec::new());
    for n in 1..=5 {
        let request = UpdateTaskRequest {
            task_id: task.task_id.clone(),
            title: format!("title {n}"),
            ..UpdateTaskRequest::default()
        };
        caller.task().update_task(request).await.unwrap();
        let now = Counters::at_rest(&mesh).await;
        let rename = now.since(&renamed);
        println!("UpdateTask:\n{rename}");
        let cost = ["commits", "loads", "rolled_back"].map(|kind| rename.get("task", kind));
        assert!(cost[0] >= 1 && cost[1] >= 1, "{rename}");
        renamed = now;
        costs.push(cost);
        if cost == [1, 1, 0] {
            break;
        }
    }
    assert!(costs.contains(&[1, 1, 0]), "{costs:?}");

    let lines: Vec<String> = (0..100).map(|n| format!("say word {n}")).collect();
    send(&caller, &session.session_id, &lines.join("\n")).await;
    await_turns(&caller, &session.session_id, 2).await;
    await_task(&caller, &task.task_id, rests_with_its_work).await;
    let turn = Counters::at_rest(&mesh).await.since(&renamed);
    println!("a turn of 100 entries:\n{turn}");

    for service in ["task", "provisioner"] {
        assert!(turn.get(service, "commits") < 100, "{service}: {turn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_task_costs_five_commits_and_four_loads_until_its_sandbox_is_being_made() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none(dir.path());
    faults.hang("allocate");
    let mesh = Mesh::start_faulty(Shape::Embedded, dir.path(), &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    // The first task makes the task service follow the organization.
    let (first, _) = create_task(&caller, &repository, "say one").await;
    await_task(&caller, &first.task_id, is_being_made).await;

    // Work that a busy machine delayed may be counted too: one of several new tasks must have the exact cost.
    let mut costs = Vec::new();
    for n in 0..5 {
        let before = Counters::rests(&mesh, "task").await;
        let (task, _) = create_task(&caller, &repository, &format!("say {n}")).await;
        let cost = Counters::rests(&mesh, "task").await.since(&before);
        await_task(&caller, &task.task_id, is_being_made).await;
        println!("CreateTask whose sandbox is never made:\n{cost}");
        let [commits, loads, back] = ["commits", "loads", "rolled_back"].map(|kind| cost.get("task", kind));
        costs.push([commits, loads, back]);
        if commits <= 5 && loads <= 4 && back == 0 {
            return;
        }
    }
    panic!("commits, loads and batches rolled back: {costs:?}");
}

/// Whether the task shows that its sandbox is being made.
fn is_being_made(task: &Task) -> bool {
    task.state() == TaskState::CreatingSandbox && !task.sandbox_id.is_empty()
}
