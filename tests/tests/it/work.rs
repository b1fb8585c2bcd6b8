//! What becomes of the work of a task when the agent does more to the repository than edit files.

use foundry_tests::origin::git;
use foundry_tests::{Mesh, Origin, Shape};

/// A mesh with a repository that has two more branches: `develop`, which changes the same line as the tasks here, and
/// `more`, with 30 files.
fn mesh_with_branches() -> (Mesh, Origin) {
    mesh_with(&[])
}

/// The same with settings.
fn mesh_with(settings: &[&str]) -> (Mesh, Origin) {
    let mesh = Mesh::start(Shape::Embedded, settings);
    let origin = Origin::create(mesh.dir());
    let write = |name: &str, text: &str| std::fs::write(origin.path().join(name), text).unwrap();
    git(origin.path(), &["checkout", "-q", "-b", "develop"]);
    write("src/lib.rs", "pub fn one() -> u32 {\n    3\n}\n");
    git(origin.path(), &["commit", "-q", "-am", "three"]);
    git(origin.path(), &["checkout", "-q", "-b", "more", "main"]);
    (0..30).for_each(|n| write(&format!("new{n}"), "new\n"));
    git(origin.path(), &["add", "."]);
    git(origin.path(), &["commit", "-q", "-m", "more"]);
    git(origin.path(), &["checkout", "-q", "main"]);
    mesh.cli_ok(&["login", "--login", "ada"]);
    mesh.cli_ok(&["repo", "add", &origin.path().display().to_string(), "--name", "demo"]);
    (mesh, origin)
}

/// Creates a task and follows its first turn; returns what was printed, and the ids of the task and its session.
fn follow(mesh: &Mesh, prompt: &str) -> (String, String, String) {
    let printed = mesh.cli_ok(&["task", "create", prompt, "--allow"]);
    let task = printed.split_whitespace().find(|word| word.starts_with("task_")).unwrap().to_owned();
    let shown = mesh.cli_ok(&["task", "show", &task]);
    let session = shown.split_whitespace().find(|word| word.starts_with("ses_")).unwrap().to_owned();
    (printed, task, session)
}

fn assert_has(printed: &str, texts: &[&str]) {
    texts.iter().for_each(|text| assert!(printed.contains(text), "{text:?} is missing: {printed}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hand_over_leaves_out_is_shown_with_the_work() {
    let (mesh, origin) = mesh_with_branches();

    let lost = "the repository (.git) is missing";
    let (printed, task, _) = follow(&mesh, "run rm -rf .git\nwrite gone.txt: x");
    assert_has(&printed, &["changes: 1 file", lost]);
    for command in ["show", "explain"] {
        assert_has(&mesh.cli_ok(&["task", command, &task]), &[lost]);
    }
    let patch = mesh.cli_ok(&["task", "diff", &task, "--patch"]);
    assert!(origin.apply(patch.as_bytes()).path().join("gone.txt").exists());

    let (printed, task, session) = follow(
        &mesh,
        "replace 1 with 2 in src/lib.rs\nrun git commit -qam mine\nrun git rebase -q origin/develop\n\
         run git stash list",
    );
    assert_has(&printed, &["rebase in progress, 1 file in conflict"]);
    mesh.cli_ok(&["session", "send", &session, "run git rebase --abort"]);
    mesh.cli_ok(&["session", "send", &session, "run git checkout -q -b other\nwrite w: w\nrun git add w"]);
    mesh.cli_ok(&["session", "send", &session, "run git commit -qm w\nrun git checkout -q -\nwrite x: x"]);
    // The end of a message's turn is followed by its work, so the next command shows it.
    let shown = mesh.cli_ok(&["task", "show", &task]);
    assert_has(&shown, &["1 commit on branch `other` is not part of the work"]);
    assert!(!shown.contains("rebase"), "{shown}");
    // The end of the sandbox destroys the branch, so it needs consent, as does that of the stored changes.
    let (id, lost) = (task.as_str(), "1 commit on branch `other` is not part of the work");
    for (command, of, lost) in [("archive", id, lost), ("kill", id, lost), ("remove", "demo", id)] {
        let group = if command == "remove" { "repo" } else { "task" };
        let refused = mesh.cli(&[group, command, of]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{command} destroyed it");
        assert_has(&said, &[lost, "repeat the command with --force"]);
    }
    mesh.cli_ok(&["task", "archive", &task, "--force"]);

    let (printed, task, _) = follow(
        &mesh,
        "append src/lib.rs: // mine\nrun git commit -qam mine\nrun git merge -q --no-edit origin/more",
    );
    assert_has(&printed, &["changes: 1 file", "30 files merged from more"]);
    assert_eq!(mesh.cli_ok(&["task", "diff", &task]).matches("src/lib.rs").count(), 1);
    assert_eq!(mesh.cli_ok(&["task", "diff", &task, "--merged"]).matches("new").count(), 30);
    let own = mesh.cli(&["task", "diff", &task, "--patch"]);
    assert_has(
        &String::from_utf8_lossy(&own.stderr),
        &["not to the base alone", "--merged --patch", "task fetch"],
    );
    let patch = mesh.cli_ok(&["task", "diff", &task, "--merged", "--patch"]);
    assert!(origin.apply(patch.as_bytes()).path().join("new29").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_cannot_be_saved_and_work_without_news_are_known_at_the_end_of_the_turn() {
    let (mesh, _) = mesh_with_branches();
    // The file is handed over during the turn, and its end brings nothing new.
    let (printed, _, _) = follow(&mesh, "write a.txt: x\nwait 5 seconds");
    assert_has(&printed, &["changes: 1 file"]);

    let (printed, task, session) =
        follow(&mesh, "run mkdir -p ~/.foundry/work.bundle/in-the-way\nwrite a.txt: x");
    assert_has(&printed, &["is not saved"]);
    assert_has(&mesh.cli_ok(&["task", "explain", &task]), &["The newest work is not saved"]);
    let sent = mesh.cli_ok(&["session", "send", &session, "run rm -r ~/.foundry/work.bundle"]);
    assert_has(&sent, &["changes: 1 file"]);
    assert!(!sent.contains("not saved"), "{sent}");
    // Without its repository the task says what became of its work.
    mesh.cli_ok(&["repo", "remove", "demo", "--force"]);
    let file = mesh.dir().join("work.bundle").display().to_string();
    let refused = mesh.cli(&["task", "bundle", &task, "--file", &file]);
    assert_has(&String::from_utf8_lossy(&refused.stderr), &["was removed", "REPOSITORY_REMOVED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_too_large_arrives_without_its_largest_files_and_says_what_else_is_not_in_it() {
    let (mesh, _) = mesh_with(&["provisioner.max_bundle_bytes=300000"]);
    let (printed, task, session) = follow(
        &mesh,
        "run for n in 1 2 3; do head -c ${n}00000 /dev/urandom > big$n; done\nwrite small.txt: x\n\
         run mkdir cache; echo c > cache/c; echo cache > .gitignore; echo s > s.key; mkdir -p .git/info; echo '*.key' > .git/info/exclude",
    );
    let too_large = "`big3` (292 KiB) is not part of the work, which is too large with it";
    assert_has(&printed, &["changes: 3 files", too_large]);
    let ignored = "`cache/c` is ignored by a rule in `.gitignore` that the base does not have";
    let excluded = "`s.key` is ignored by a rule in `.git/info/exclude` that the base does not have";
    for command in ["show", "explain"] {
        assert_has(&mesh.cli_ok(&["task", command, &task]), &[too_large, "`big2`", ignored, excluded]);
    }
    let listed = mesh.cli_ok(&["task", "diff", &task]);
    assert!(listed.contains("big1") && listed.contains("small.txt") && !listed.contains("big2"), "{listed}");
    // Without the repository it is not known what could be left out.
    let printed = mesh.cli_ok(&["session", "send", &session, "run rm -rf .git"]);
    assert_has(&printed, &["is not saved"]);
    let explained = mesh.cli_ok(&["task", "explain", &task]);
    assert_has(&explained, &["HANDOVER_TOO_LARGE", "ask the agent to remove large files"]);
}
