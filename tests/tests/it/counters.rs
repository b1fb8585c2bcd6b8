//! What commands cost, as counts that do not depend on the machine. What does depend on it is printed:
//! `cargo nextest run --workspace counters:: --no-capture`.

use foundry_proto::task::v1::{Task, TaskState, UpdateTaskRequest};
use foundry_tests::counters::Counters;
use foundry_tests::story::{await_task, await_turns, create_task, register, send};
use foundry_tests::{Mesh, Origin, Shape};

/// The work of a turn is imported after it.
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

    let request = UpdateTaskRequest {
        task_id: task.task_id.clone(),
        title: "another title".to_owned(),
        ..UpdateTaskRequest::default()
    };
    caller.task().update_task(request).await.unwrap();
    let renamed = Counters::at_rest(&mesh).await;
    let rename = renamed.since(&created);
    println!("UpdateTask:\n{rename}");

    // The other services have work of their own now and then.
    assert_eq!((rename.get("task", "commits"), rename.get("task", "loads")), (1, 1), "{rename}");
    assert_eq!(rename.get("task", "rolled_back"), 0, "{rename}");

    let lines: Vec<String> = (0..100).map(|n| format!("say word {n}")).collect();
    send(&caller, &session.session_id, &lines.join("\n")).await;
    await_turns(&caller, &session.session_id, 2).await;
    await_task(&caller, &task.task_id, rests_with_its_work).await;
    let turn = Counters::at_rest(&mesh).await.since(&renamed);
    println!("a turn of 100 entries:\n{turn}");

    assert!(turn.all("commits") < 100, "{turn}");
}
