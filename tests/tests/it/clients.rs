//! The clients that people use, unmodified: grpcurl, `buf curl`, Python grpcio, plain HTTP, the command line.

#[path = "../../clients/buf.rs"]
mod buf;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use buf::{Buf, Wire, decoded};
use foundry_proto::task::v1::{GetFileDiffResponse, TaskState};
use foundry_tests::faults::Faults;
use foundry_tests::story::{await_task, await_turns, create_task, register};
use foundry_tests::{Caller, Mesh, Origin, Shape, services};
use serde_json::{Value, json};

/// Runs a program; returns its standard output.
fn run(program: &str, args: &[&str]) -> String {
    run_with_stderr(program, args).0
}

/// Runs a program; returns its standard output and its standard error.
fn run_with_stderr(program: &str, args: &[&str]) -> (String, String) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| {
        panic!("{program} is missing ({e}): run `make test`, which installs it, or `scripts/tools.sh checks`")
    });
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {}\n{text}{stderr}", out.status);
    (text, stderr)
}

async fn finished_task(mesh: &Mesh) -> (Caller, String, String) {
    let ada = mesh.sign_in("ada").await;
    let repository = register(&ada, &Origin::create(mesh.dir())).await;
    let (task, session) = create_task(&ada, &repository, "write a.txt: a").await;
    await_turns(&ada, &session.session_id, 1).await;
    await_task(&ada, &task.task_id, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == 1)
    })
    .await;
    (ada, task.task_id, repository.repository_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_lists_creates_watches_and_reads() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let (ada, task_id, repository_id) = finished_task(&mesh).await;
    let gateway = mesh.url("gateway");
    let address = gateway.trim_start_matches("http://");
    let listed = run("grpcurl", &["-plaintext", address, "list"]);
    for (service, _) in services().iter().filter(|(name, _)| name != "gateway") {
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
    // A watch does not end: it is read until everything was seen. If something is missing, grpcurl's own deadline ends
    // it.
    let body = format!(r#"{{"taskId":"{task_id}"}}"#);
    let mut watch = Command::new("grpcurl")
        .args([
            "-plaintext",
            "-max-time",
            "60",
            "-H",
            &token,
            "-d",
            &body,
            address,
            "foundry.task.v1.TaskService/WatchTask",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut missing = vec!["hello", "snapshotEnd", "resumeToken", "TASK_STATE_IDLE"];
    let mut frames = String::new();
    for line in BufReader::new(watch.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        missing.retain(|word| !line.contains(*word));
        frames.extend([line.as_str(), "\n"]);
        if missing.is_empty() {
            break;
        }
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(missing.is_empty(), "{missing:?} is missing: {frames}");
}

/// The task in a frame of a watch.
fn task_in(frame: &Value) -> Option<&Value> {
    let changes = ["snapshotChunk", "delta"].iter().find_map(|kind| frame[kind]["changes"].as_array())?;
    changes.iter().rev().map(|change| &change["upsert"]["task"]).find(|task| task.is_object())
}

/// Whether all stages are done, the turn has ended and the change is imported.
fn is_ready(task: &Value) -> bool {
    let stages = task["stages"].as_array().unwrap();
    task["state"] == "TASK_STATE_IDLE"
        && stages.iter().all(|stage| stage["state"] == "STAGE_STATE_DONE")
        && task["changes"]["filesChanged"] == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn buf_curl_lists_creates_watches_and_reads_on_every_protocol_and_version_of_http() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none(dir.path());
    let mesh = Mesh::start_faulty(Shape::Embedded, dir.path(), &[]);
    let ada = mesh.sign_in("ada").await;
    let repository = register(&ada, &Origin::create(mesh.dir())).await.repository_id;
    let gateway = mesh.url("gateway");
    for wire in Wire::ALL {
        let buf = Buf { gateway: &gateway, token: &ada.token, wire };
        buf.list();

        // The provider waits until the snapshot was received, so that readiness can only arrive in changes.
        faults.hang("allocate");
        let created = buf.call(
            "CreateTask",
            &json!({
                "organizationId": ada.organization_id,
                "repositoryId": repository,
                "prompt": format!("write a.txt: by {wire:?}"),
                "permissionPolicy": "PERMISSION_POLICY_ALLOW",
            }),
        );
        let task_id = created["task"]["taskId"].as_str().unwrap();
        let mut watch = buf.watch(task_id, dir.path());
        let snapshot = watch.until(|frame| task_in(frame).is_some()).await;
        assert!(!is_ready(task_in(&snapshot).unwrap()), "{snapshot}");
        watch.until(|frame| frame["snapshotEnd"]["resumeToken"].is_string()).await;
        faults.release("allocate");
        let ready = watch.until(|frame| task_in(frame).is_some_and(is_ready)).await;
        assert!(ready["delta"].is_object(), "{ready}");
        let stages = task_in(&ready).unwrap()["stages"].as_array().unwrap().len();
        let frames = watch.end().await;

        let task = json!({ "taskId": task_id });
        let changes = buf.call("ListFileChanges", &task);
        assert_eq!(changes["files"][0]["path"], "a.txt", "{changes}");
        let diff = buf.call("GetFileDiff", &json!({ "taskId": task_id, "path": "a.txt" }));
        let patch = decoded::<GetFileDiffResponse>("GetFileDiffResponse", diff).patch;
        let patch = String::from_utf8_lossy(&patch);
        assert!(patch.contains(&format!("+by {wire:?}")), "{patch}");
        buf.call("KillTask", &task);
        println!("{wire:?}: ready after {frames} frames, {stages} stages done");
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
