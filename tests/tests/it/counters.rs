//! The cost of commands, as counts that do not depend on the machine. Counts that do are printed:
//! `cargo nextest run --workspace counters:: --no-capture`.

use std::time::Instant;

use foundry_proto::task::v1::{
    MarkFileViewedRequest, PutReviewCommentRequest, ReviewSide, SubmitReviewRequest, Task, TaskState,
    UpdateTaskRequest,
};
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
async fn a_new_task_costs_three_commits_four_loads_and_25_statements_until_its_sandbox_is_being_made() {
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
        // What the service reads at rest, to find what a lost wake-up would have told it.
        let begun = Instant::now();
        let calm = Counters::rests(&mesh, "task").await.since(&before);
        let per_second = calm.get("task", "statements") as f64 / begun.elapsed().as_secs_f64();

        let (before, begun) = (Counters::read(&mesh), Instant::now());
        let (task, _) = create_task(&caller, &repository, &format!("say {n}")).await;
        let cost = Counters::rests(&mesh, "task").await.since(&before);
        let at_rest = per_second * begun.elapsed().as_secs_f64();
        await_task(&caller, &task.task_id, is_being_made).await;
        println!(
            "CreateTask whose sandbox is never made; {at_rest:.1} statements of the task service at rest:\n{cost}"
        );
        let [commits, loads, back, statements] =
            ["commits", "loads", "rolled_back", "statements"].map(|kind| cost.get("task", kind));
        let statements = (statements as f64 - at_rest).round();
        costs.push((commits, loads, back, statements));
        if commits <= 3 && loads <= 4 && back == 0 && statements <= 25.0 {
            return;
        }
    }
    panic!("commits, loads, batches rolled back and statements: {costs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_a_viewed_file_and_a_sent_review_cost_one_commit_each() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let (task, session) = create_task(&caller, &repository, "write notes.md: words").await;
    await_turns(&caller, &session.session_id, 1).await;
    let imported = |task: &Task| task.changes.as_ref().is_some_and(|c| c.files_changed > 0);
    await_task(&caller, &task.task_id, imported).await;
    // The next message stays in the queue.
    send(&caller, &session.session_id, "hang").await;
    await_task(&caller, &task.task_id, |task| task.state() == TaskState::Running).await;
    let (task_id, session_id) = (task.task_id, session.session_id);
    let mut costs = Vec::new();
    // As above, one of several must have the exact cost, and none may cost less.
    for n in 0..5_u32 {
        let mut before = Counters::at_rest(&mesh).await;
        let mut cost = async || {
            let now = Counters::at_rest(&mesh).await;
            let cost = now.since(&before).get("task", "commits");
            before = now;
            cost
        };
        let comment = PutReviewCommentRequest {
            task_id: task_id.clone(),
            comment_id: format!("rvc_{n:032x}"),
            path: "notes.md".into(),
            side: ReviewSide::New.into(),
            start_line: 1,
            text: "Why?".into(),
            ..PutReviewCommentRequest::default()
        };
        let comment = caller.task().put_review_comment(comment).await.unwrap().into_inner().comment.unwrap();
        let kept = cost().await;
        let (path, content) = ("notes.md".to_owned(), format!("{}{n}", comment.content));
        let mark = MarkFileViewedRequest { task_id: task_id.clone(), path, content, viewed: true };
        caller.task().mark_file_viewed(mark).await.unwrap();
        let marked = cost().await;
        let (task_id, session_id) = (task_id.clone(), session_id.clone());
        let review = SubmitReviewRequest { task_id, session_id, ..SubmitReviewRequest::default() };
        assert_eq!(caller.task().submit_review(review).await.unwrap().into_inner().comment_count, 1);
        let sent = cost().await;
        assert!(kept >= 1 && marked >= 1 && sent >= 1, "{kept} {marked} {sent}");
        costs.push([kept, marked, sent]);
        // Each has had its exact cost once.
        if (0..3).all(|command| costs.iter().any(|cost| cost[command] == 1)) {
            return;
        }
    }
    panic!("commits for a comment, a mark and a review: {costs:?}");
}

/// Whether the task shows that its sandbox is being made.
fn is_being_made(task: &Task) -> bool {
    task.state() == TaskState::CreatingSandbox && !task.sandbox_id.is_empty()
}
