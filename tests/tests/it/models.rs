//! Model providers and agent profiles on the command line, down to the files that are written.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use foundry_proto::task::v1::{CreateTaskRequest, TaskState};
use foundry_tests::story::await_task;
use foundry_tests::{Mesh, Origin, Shape};
use serde_json::Value;

/// A key from the mesh's environment, one from standard input, one from a variable, and an agent's secret variable.
const KEYS: [&str; 4] = [
    "sk-env-canary-AAAAAAAAAAAA",
    "sk-pipe-canary-BBBBBBBBBBBB",
    "sk-variable-canary-CCCCCCCC",
    "agent-secret-canary-DDDDDDDD",
];

/// Runs a command with standard input, and with variables for keys.
fn with_input(mesh: &Mesh, args: &[&str], input: &str) -> Output {
    let mut command = mesh.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("A_KEY", KEYS[2]).env("NPM_TOKEN", KEYS[3]);
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn ok(mesh: &Mesh, args: &[&str], input: &str) -> String {
    let out = with_input(mesh, args, input);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn refused(mesh: &Mesh, args: &[&str], input: &str, reason: &str) {
    let out = with_input(mesh, args, input);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && stderr.contains(reason), "{args:?}: {stderr}");
    assert!(!stderr.contains("canary"), "{stderr}");
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Collects the files below a directory that contain a text; returns the number of files read.
fn holding(dir: &Path, needle: &[u8], found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            files += holding(&path, needle, found);
        } else if kind.is_file() {
            files += 1;
            if std::fs::read(&path).is_ok_and(|text| text.windows(needle.len()).any(|w| w == needle)) {
                found.push(path.display().to_string());
            }
        }
    }
    files
}

/// What is refused before anything is stored.
fn refusals(mesh: &Mesh) {
    let agents = ok(mesh, &["agents"], "");
    let of = |name: &str| agents.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
    // Codex has the model provider `home`; nothing has a key for Gemini's models.
    assert!(of("codex").contains("yes") && of("gemini").contains("a model provider: gemini"), "{agents}");
    let task = ["task", "create", "say hi"];
    refused(mesh, &[&task[..], &["--base", "mian"]].concat(), "", "BRANCH_NOT_FOUND); it has: ");
    refused(mesh, &[&task[..], &["--agent", "demo", "--model", "m1"]].concat(), "", "demo uses no model");
    refused(mesh, &[&task[..], &["--agent", "gemini"]].concat(), "", "AGENT_MODEL_MISSING");
    let odd = ["profile", "add", "odd", "--agent", "claude", "--model-provider", "home"];
    refused(mesh, &odd, "", "AGENT_MODEL_UNSUITABLE");
    let nobody = "task_00000000000000000000000000000000";
    refused(mesh, &["model", "limit", "set", "tokens", "5", "--task", nobody], "", "NOT_FOUND");
}

/// A retry shows why it fails again, and otherwise the turn that was waiting.
async fn retries(mesh: &Mesh) {
    let caller = mesh.sign_in("ada").await;
    let repository = &json(&ok(mesh, &["repo", "list", "--output", "json"], ""))[0]["repositoryId"];
    // The command line would refuse the profile.
    let request = CreateTaskRequest {
        organization_id: caller.organization_id.clone(),
        repository_id: repository.as_str().unwrap().to_owned(),
        prompt: "say Retried.".to_owned(),
        profile: "later".to_owned(),
        ..CreateTaskRequest::default()
    };
    let task = caller.task().create_task(request).await.unwrap().into_inner().task.unwrap().task_id;
    await_task(&caller, &task, |t| t.state() == TaskState::Error).await;
    refused(mesh, &["task", "retry", &task], "", "PROFILE_NOT_FOUND");
    ok(mesh, &["profile", "add", "later", "--agent", "demo"], "");
    let followed = ok(mesh, &["task", "retry", &task], "");
    assert!(followed.contains("Retried.") && followed.contains("turn completed"), "{followed}");
    ok(mesh, &["profile", "remove", "later"], "");
}

/// A repository is refreshed, and one that is removed leaves its name to another.
fn repositories(mesh: &Mesh, origin: &Origin) {
    let url = origin.path().display().to_string();
    for _ in 0..2 {
        ok(mesh, &["repo", "add", &url, "--name", "twice"], "");
        assert!(ok(mesh, &["repo", "refresh", "twice"], "").contains("ready"));
        ok(mesh, &["repo", "remove", "twice"], "");
    }
    refused(mesh, &["repo", "refresh", "twice"], "", "no such repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_in_by_pipe_and_variable_serve_profiles_and_are_in_no_file() {
    let keys = [("ANTHROPIC_API_KEY", KEYS[0])];
    let mesh = Mesh::start_with(Shape::Embedded, &[], &["--keys-from-env"], &keys);
    assert!(mesh.printed().contains("ANTHROPIC_API_KEY"), "{}", mesh.printed());
    mesh.cli_ok(&["login", "--login", "ada"]);
    let origin = Origin::create(mesh.dir());
    mesh.cli_ok(&["repo", "add", &origin.path().display().to_string()]);

    // Model providers.
    ok(&mesh, &["model", "add", "work", "--kind", "anthropic"], &format!("{}\n", KEYS[1]));
    let compatible =
        ["model", "add", "home", "--kind", "openai-compatible", "--url", "http://127.0.0.1:1/v1"];
    ok(&mesh, &[&compatible[..], &["--key-env", "A_KEY", "--secret-header", "x-team=A_KEY"]].concat(), "");
    refused(&mesh, &["model", "add", "work", "--kind", "gemini"], "sk-canary\n", "ALREADY_EXISTS");
    refused(&mesh, &["model", "add", "aws", "--kind", "bedrock"], "", "Bedrock");
    refused(&mesh, &["model", "add", "nothing", "--kind", "gemini"], "", "no key given");
    ok(&mesh, &["model", "update", "home", "--model", "m1", "--price", "m1=1,2"], "");
    refused(&mesh, &["model", "update", "env-anthropic", "--any-model"], "", "MODEL_PROVIDER_READ_ONLY");
    let listed = json(&ok(&mesh, &["model", "list", "--output", "json"], ""));
    let names: Vec<_> = listed.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["env-anthropic", "home", "work"]);
    assert_eq!(listed[1]["models"][0], "m1");
    assert_eq!(listed[2]["credential"]["lastFour"], "BBBB");
    let shown = ok(&mesh, &["model", "list"], "") + &ok(&mesh, &["model", "show", "home"], "");
    assert!(shown.contains("x-team (secret)") && !shown.contains("canary"), "{shown}");

    // Profiles, and a task that uses one.
    let add = ["profile", "add", "night", "--agent", "demo", "--model-provider", "home", "--model", "m1"];
    ok(
        &mesh,
        &[&add[..], &["--secret-env", "NPM_TOKEN", "--permissions", "allow", "--default"]].concat(),
        "",
    );
    refused(&mesh, &["model", "remove", "home"], "", "MODEL_PROVIDER_IN_USE");
    let profiles = ok(&mesh, &["profile", "list"], "") + &ok(&mesh, &["profile", "show", "night"], "");
    assert!(profiles.contains("NPM_TOKEN (secret)") && !profiles.contains("canary"), "{profiles}");
    assert!(
        profiles
            .contains("these secrets are passed into the sandbox, where the agent can read them: NPM_TOKEN"),
        "{profiles}"
    );
    let profile = &json(&ok(&mesh, &["profile", "list", "--output", "json"], ""))[0]["profileId"];
    for named in [&["--profile", "night"][..], &[]] {
        let create = [&["task", "create", "write a.txt: a", "--output", "json"][..], named].concat();
        ok(&mesh, &create, "");
    }
    let tasks = json(&ok(&mesh, &["task", "list", "--output", "json"], ""));
    assert_eq!(tasks.len(), 2);
    for task in &tasks {
        let task = task["taskId"].as_str().unwrap();
        let shown = &json(&ok(&mesh, &["task", "show", task, "--output", "json"], ""))[0]["task"];
        assert_eq!((&shown["profile"], &shown["agent"]), (profile, &"demo".into()));
        assert_eq!(shown["permissionPolicy"], "PERMISSION_POLICY_ALLOW", "as the profile says");
    }
    let gone = ["task", "create", "write a.txt: a", "--profile", "gone"];
    refused(&mesh, &gone, "", "PROFILE_NOT_FOUND); it has: night");
    assert!(profiles.contains("none needed") && profiles.contains("demo uses no model"), "{profiles}");
    refusals(&mesh);
    retries(&mesh).await;
    repositories(&mesh, &origin);

    // Limits, and usage: none, as the demo agent needs no model.
    ok(&mesh, &["model", "limit", "set", "tokens", "5000000"], "");
    ok(&mesh, &["model", "limit", "set", "usd", "12.50", "--each-task"], "");
    let limits = ok(&mesh, &["model", "limit", "list"], "");
    assert!(limits.contains("5000000 tokens") && limits.contains("12.5 USD"), "{limits}");
    ok(&mesh, &["model", "limit", "remove", "tokens"], "");
    refused(&mesh, &["model", "limit", "set", "usd", "-1"], "", "");
    let usage = ok(&mesh, &["model", "usage", "--task", tasks[0]["taskId"].as_str().unwrap()], "");
    assert!(usage.contains("0 tokens, 0 USD") && !usage.contains("5000000"), "{usage}");

    // No file below the mesh's directory contains a key: databases, logs, sandboxes, transcripts, the user's files.
    for key in KEYS {
        for needle in [key.as_bytes().to_vec(), hex(key).into_bytes()] {
            let mut found = Vec::new();
            let files = holding(mesh.dir(), &needle, &mut found);
            assert!(found.is_empty() && files > 20, "{key} is in {found:?}");
        }
    }
    ok(&mesh, &["profile", "remove", "night"], "");
    ok(&mesh, &["model", "remove", "home"], "");
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}
