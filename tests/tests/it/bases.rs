//! What a task starts from: the newest commit of its remote, or what can be had, said truly.

use std::path::Path;

use foundry_tests::origin::git;
use foundry_tests::{Mesh, Origin, Shape};
use serde_json::Value;

/// Signs in and registers a repository as `demo`.
fn registered(origin: &Path) -> Mesh {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    mesh.cli_ok(&["login", "--login", "ada"]);
    mesh.cli_ok(&["repo", "add", &origin.display().to_string(), "--name", "demo"]);
    mesh
}

/// Runs a task to the end of its first turn; returns what was printed, and its id.
fn task(mesh: &Mesh, args: &[&str]) -> (String, String) {
    let printed = mesh.cli_ok(&[&["task", "create", "--allow"], args].concat());
    let id = printed.split_whitespace().find(|word| word.starts_with("task_")).unwrap().to_owned();
    (printed, id)
}

fn shown(mesh: &Mesh, id: &str) -> Value {
    let answer = mesh.cli_ok(&["task", "show", id, "--output", "json"]);
    serde_json::from_str::<Value>(&answer).unwrap()["task"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_starts_on_what_was_pushed_a_moment_ago_or_says_how_old_its_base_is() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::create(dir.path());
    let mesh = registered(origin.path());
    git(origin.path(), &["commit", "-q", "--allow-empty", "-m", "second"]);
    git(origin.path(), &["tag", "v2"]);
    git(origin.path(), &["branch", "feature/x"]);
    let newest = git(origin.path(), &["rev-parse", "HEAD"]);
    let (_, id) = task(&mesh, &["run git describe --tags"]);
    let first = shown(&mesh, &id);
    assert_eq!(first["base"]["commit"].as_str(), Some(&*newest));
    assert_eq!(first["base"]["notices"], serde_json::json!([]));

    // The branches are known from that fetch on.
    let refused = mesh.cli(&["task", "create", "say hi", "--branch", "feature"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("feature/x"), "{refused:?}");
    // A base branch may be as new as a commit.
    git(origin.path(), &["branch", "fresh"]);
    task(&mesh, &["say hi", "--base", "fresh"]);

    // The remote renames its default branch; a task that named none starts on the new one.
    git(origin.path(), &["branch", "-m", "main", "trunk"]);
    let (printed, id) = task(&mesh, &["say hi"]);
    assert!(printed.contains("DEFAULT_BRANCH_CHANGED") && printed.contains("trunk"), "{printed}");
    assert_eq!(shown(&mesh, &id)["baseBranch"], "trunk");
    assert!(mesh.cli_ok(&["task", "explain", &id]).contains("DEFAULT_BRANCH_CHANGED"));

    std::fs::rename(origin.path(), dir.path().join("gone")).unwrap();
    let (printed, id) = task(&mesh, &["say hi"]);
    assert!(printed.contains("BASE_NOT_FETCHED") && printed.contains("GIT_REMOTE_NOT_FOUND"), "{printed}");
    assert_eq!(shown(&mesh, &id)["base"]["commit"].as_str(), Some(&*newest));
    let explained = mesh.cli_ok(&["task", "explain", &id]);
    assert!(explained.contains("BASE_NOT_FETCHED"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_commit_of_an_empty_repository_is_the_patch_of_a_task() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("empty");
    std::fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q"]);
    let mesh = registered(&origin);
    let (printed, id) = task(&mesh, &["write README.md: hello"]);
    assert!(printed.contains("REPOSITORY_EMPTY"), "{printed}");
    assert_eq!(shown(&mesh, &id)["base"]["empty"], true);
    let patch = mesh.cli_ok(&["task", "diff", &id, "--patch"]);
    std::fs::write(dir.path().join("work.patch"), patch).unwrap();
    git(&origin, &["apply", "--index", "../work.patch"]);
    git(&origin, &["commit", "-q", "-m", "first"]);
    assert_eq!(std::fs::read_to_string(origin.join("README.md")).unwrap().trim(), "hello");

    let (_, id) = task(&mesh, &["append README.md: world"]);
    let second = shown(&mesh, &id);
    assert_eq!(
        (second["baseBranch"].as_str(), second["changes"]["filesChanged"].as_i64()),
        (Some("main"), Some(1))
    );
}
