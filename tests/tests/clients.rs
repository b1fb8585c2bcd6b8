//! The clients people use, as they are: grpcurl, `buf curl`, Python grpcio, plain HTTP, the command line.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test, helpers included

use std::process::Command;

use foundry_tests::story::{await_task, await_turns, create_task, register};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// Runs a program and returns what it prints.
fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| {
        panic!("{program} is missing ({e}): run `make test`, which installs it, or `scripts/tools.sh checks`")
    });
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}\n{text}{}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    text
}

async fn finished_task(mesh: &Mesh) -> (Caller, String, String) {
    let ada = mesh.sign_in("ada").await;
    let repository = register(&ada, &Origin::create(mesh.dir())).await;
    let (task, session) = create_task(&ada, &repository, "write a.txt: a").await;
    await_turns(&ada, &session.session_id, 1).await;
    await_task(&ada, &task.task_id, |t| t.changes.as_ref().is_some_and(|c| c.files_changed == 1)).await;
    (ada, task.task_id, repository.repository_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_lists_creates_watches_and_reads() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let (ada, task_id, repository_id) = finished_task(&mesh).await;
    let gateway = mesh.url("gateway");
    let address = gateway.trim_start_matches("http://");
    let listed = run("grpcurl", &["-plaintext", address, "list"]);
    for service in ["auth", "repo", "provisioner", "task"] {
        assert!(listed.contains(&format!("foundry.{service}.v1.")), "{listed}");
    }
    let token = format!("authorization: Bearer {}", ada.token);
    let call = |method: &str, body: &str, more: &[&str]| {
        let mut args = vec!["-plaintext", "-H", token.as_str(), "-d", body];
        args.extend(more);
        args.extend([address, method]);
        run("grpcurl", &args)
    };
    let described =
        run("grpcurl", &["-plaintext", address, "describe", "foundry.task.v1.TaskService.CreateTask"]);
    assert!(described.contains("rpc CreateTask"), "{described}");
    let body = format!(
        r#"{{"organizationId":"{}","repositoryId":"{repository_id}","prompt":"say hi","permissionPolicy":"PERMISSION_POLICY_ALLOW"}}"#,
        ada.organization_id
    );
    let created = call("foundry.task.v1.TaskService/CreateTask", &body, &[]);
    assert!(created.contains("task_"), "{created}");
    let changes =
        call("foundry.task.v1.TaskService/ListFileChanges", &format!(r#"{{"taskId":"{task_id}"}}"#), &[]);
    assert!(changes.contains("a.txt"), "{changes}");
    // A watch goes on for ever: its first seconds are read, then grpcurl gives up by its own deadline.
    let body = format!(r#"{{"taskId":"{task_id}"}}"#);
    let watch = Command::new("grpcurl")
        .args([
            "-plaintext",
            "-max-time",
            "3",
            "-H",
            &token,
            "-d",
            &body,
            address,
            "foundry.task.v1.TaskService/WatchTask",
        ])
        .output()
        .unwrap();
    let frames = String::from_utf8_lossy(&watch.stdout);
    for word in ["hello", "snapshotEnd", "resumeToken", "TASK_STATE_IDLE"] {
        assert!(frames.contains(word), "{word} is missing: {frames}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buf_curl_speaks_grpc_and_grpc_web_over_both_versions_of_http() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let (ada, task_id, _) = finished_task(&mesh).await;
    let url = format!("{}/foundry.task.v1.TaskService/ListFileChanges", mesh.url("gateway"));
    let token = format!("authorization: Bearer {}", ada.token);
    let body = format!(r#"{{"taskId":"{task_id}"}}"#);
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    for more in [
        &["--protocol", "grpc", "--http2-prior-knowledge"][..],
        &["--protocol", "grpcweb", "--http2-prior-knowledge"],
        &["--protocol", "grpcweb"],
    ] {
        let mut args = vec!["curl", "--schema", schema, "-H", &token, "-d", &body];
        args.extend(more);
        args.push(&url);
        let answer = run("buf", &args);
        assert!(answer.contains("a.txt"), "{more:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_grpcio_watches_the_organization_by_reflection() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let (ada, task_id, _) = finished_task(&mesh).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/watch_organization.py");
    let address = mesh.url("gateway").trim_start_matches("http://").to_owned();
    let printed = run("python", &[script, &address, &ada.token, &ada.organization_id]);
    assert!(printed.contains(&format!("task/{task_id}")) && printed.contains("caught up"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_the_whole_job() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let origin = Origin::create(mesh.dir());
    mesh.cli_ok(&["login", "--login", "ada"]);
    mesh.cli_ok(&["repo", "add", &origin.path().display().to_string(), "--name", "demo"]);
    let followed = mesh.cli_ok(&["task", "create", "write a.txt: by the command line", "--allow"]);
    for stage in ["sandbox_allocated", "repo_prepared", "agent_ready", "turn completed"] {
        assert!(followed.contains(stage), "{stage} is missing: {followed}");
    }
    let listed = mesh.cli_ok(&["task", "list", "--output", "json"]);
    let task: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    let id = task["taskId"].as_str().unwrap();
    let patch = mesh.cli_ok(&["task", "diff", id, "--patch"]);
    let clone = origin.apply(patch.as_bytes());
    assert_eq!(std::fs::read_to_string(clone.path().join("a.txt")).unwrap().trim(), "by the command line");
    assert!(mesh.cli_ok(&["task", "explain", id]).len() > 10);
    let session = task["sessions"][0]["sessionId"].as_str().unwrap();
    let said = mesh.cli_ok(&["session", "send", session, "say a second turn"]);
    assert!(said.contains("a second turn"), "{said}");
    let missing = mesh.cli(&["task", "show", "task_00000000000000000000000000000000"]);
    assert_eq!(missing.status.code(), Some(4));
    mesh.cli_ok(&["task", "kill", id]);
}
