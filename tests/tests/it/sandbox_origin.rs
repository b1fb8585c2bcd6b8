//! `origin` inside a sandbox: agents fetch and rebase without credentials, and reach nothing but their own repository.

use std::path::{Path, PathBuf};

use foundry_proto::common::v1::TurnOutcome;
use foundry_proto::task::v1::{GetTaskRequest, Session, Task};
use foundry_tests::origin::git;
use foundry_tests::sandboxes::only;
use foundry_tests::story::{await_task, await_turns, create_task, register, send, turn_ends, until_answered};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// A task whose agent runs commands, one turn for each call.
struct Agent {
    session: Session,
    task: Task,
    home: PathBuf,
    turns: usize,
}

impl Agent {
    async fn new(mesh: &Mesh, caller: &Caller, repository: &foundry_proto::repo::v1::Repository) -> Self {
        let (task, session) = create_task(caller, repository, "say hi").await;
        await_turns(caller, &session.session_id, 1).await;
        let sandbox = only(caller, &task.task_id).await.sandbox_id;
        let home = mesh.data().join("provisioner/sandboxes").join(sandbox).join("home");
        Self { session, task, home, turns: 1 }
    }

    /// Runs a shell script in the sandbox; returns its exit code and all that it printed.
    async fn run(&mut self, caller: &Caller, script: &str) -> (i32, String) {
        // Each message has a text of its own, by which a repetition is recognized.
        let name = format!("script-{}", self.turns);
        std::fs::write(self.home.join(&name), script).unwrap();
        let command = format!("run sh ~/{name} >~/out 2>&1; echo $? >~/code");
        send(caller, &self.session.session_id, &command).await;
        self.turns += 1;
        let entries = await_turns(caller, &self.session.session_id, self.turns).await;
        assert_eq!(turn_ends(&entries).last().unwrap().outcome(), TurnOutcome::Completed);
        let read = |name| std::fs::read_to_string(self.home.join(name)).unwrap();
        (read("code").trim().parse().unwrap(), read("out"))
    }

    async fn ok(&mut self, caller: &Caller, script: &str) -> String {
        let (code, out) = self.run(caller, script).await;
        assert_eq!(code, 0, "{script}: {out}");
        out
    }

    async fn refused(&mut self, caller: &Caller, script: &str) -> String {
        let (code, out) = self.run(caller, script).await;
        assert_ne!(code, 0, "{script}: {out}");
        out
    }

    /// The address of `origin` as git uses it.
    async fn address(&mut self, caller: &Caller) -> String {
        self.ok(caller, "git remote get-url origin").await.trim().trim_end_matches('/').to_owned()
    }

    fn token(&self) -> String {
        let settings = std::fs::read_to_string(self.home.join(".foundry/gitconfig")).unwrap();
        settings.split_once("Bearer ").unwrap().1.split_once('"').unwrap().0.to_owned()
    }
}

fn commit(origin: &Path, file: &str) -> String {
    std::fs::write(origin.join(file), "theirs\n").unwrap();
    git(origin, &["add", "."]);
    git(origin, &["commit", "-q", "-m", file]);
    git(origin, &["rev-parse", "HEAD"])
}

/// Fetches and rebases, also after a restart of the mesh, and shows what may be seen and what may not.
async fn fetches_and_rebases(shape: Shape, settings: &[&str]) {
    let mut mesh = Mesh::start(shape, settings);
    let ada = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let origin = Origin::create(mesh.dir());
    let repository = register(&ada, &origin).await;
    let mut agent = Agent::new(&mesh, &ada, &repository).await;
    let mut other = Agent::new(&mesh, &ada, &repository).await;
    other.ok(&ada, "echo secret of another task >other.txt").await;
    agent.ok(&ada, "echo mine >mine.txt && git add . && git commit -q -m mine").await;

    let moved = commit(origin.path(), "second");
    git(origin.path(), &["tag", "v2"]);
    git(origin.path(), &["branch", "feature/x"]);
    // Nobody asks for a refresh: the fetch itself has the remote read again.
    agent.ok(&ada, "git fetch origin && git rebase origin/main && test -e second -a -e mine.txt").await;
    assert_eq!(
        agent.ok(&ada, "git rev-parse origin/main v2 origin/feature/x HEAD~1").await.trim(),
        [&*moved; 4].join("\n")
    );

    for task in [&agent.task, &other.task] {
        await_task(&ada, &task.task_id, |t| t.changes.as_ref().is_some_and(|c| c.files_changed > 0)).await;
    }
    // The branches are those of the remote; of the work of tasks there is only the sandbox's own.
    let listed = agent.ok(&ada, "git ls-remote origin").await;
    let branches = listed.lines().filter(|line| line.contains("refs/heads/")).count();
    assert_eq!(branches, 2, "{listed}");
    assert!(listed.contains(&format!("refs/foundry/tasks/{}", agent.task.task_id)), "{listed}");
    assert!(!listed.contains(&other.task.task_id), "{listed}");
    // Nor is it there for those who know its id.
    let theirs = git(
        mesh.dir(),
        &[
            "--git-dir",
            &mirror(&mesh, &repository.repository_id),
            "rev-parse",
            &format!("refs/foundry/work/{}", other.task.task_id),
        ],
    );
    let words = agent.refused(&ada, &format!("git fetch origin {theirs}")).await;
    assert!(words.contains("not our ref") || words.contains("OBJECT_NOT_ADVERTISED"), "{words}");

    let words = agent.refused(&ada, "git push origin HEAD:refs/heads/mine").await;
    assert!(words.contains("GIT_READ_ONLY") && words.contains("foundry task publish"), "{words}");
    assert!(!git(origin.path(), &["branch", "--list"]).contains("mine"));

    // An identity in any repository, and still the agent's own to change.
    let shown = agent
        .ok(&ada, "git init -q ~/new && cd ~/new && git commit -q --allow-empty -m x && git log --format=%ae")
        .await;
    assert_eq!(shown.trim(), "agent@foundry.invalid");
    agent.ok(&ada, "git config --global user.name Another").await;

    // The token is in no file of the work tree, no URL and no argument.
    let token = agent.token();
    let found =
        agent.run(&ada, &format!("grep -rl {token} .git . ; git remote -v; git config -l --local")).await.1;
    assert!(!found.contains(&token) && !found.contains(".git/"), "{found}");

    // The sandbox outlives the mesh, and a fetch waits for it.
    mesh.stop();
    mesh.start_again();
    until_answered("task", || {
        let (mut client, task_id) = (ada.task(), agent.task.task_id.clone());
        async move { client.get_task(GetTaskRequest { task_id }).await }
    })
    .await;
    let moved = commit(origin.path(), "third");
    agent.ok(&ada, "git fetch -q && git rebase -q origin/main && test -e third -a -e mine.txt").await;
    assert_eq!(agent.ok(&ada, "git rev-parse origin/main").await.trim(), moved);
}

fn mirror(mesh: &Mesh, repository: &str) -> String {
    mesh.data().join(format!("repo/mirrors/{repository}.git")).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_fetches_and_rebases_and_sees_no_other_task() {
    Box::pin(fetches_and_rebases(Shape::Embedded, &[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_fetches_and_rebases_without_isolation_and_with_a_process_for_each_service() {
    Box::pin(fetches_and_rebases(Shape::Separate, &["provisioner.local.isolation=off"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_reaches_no_other_repository_and_its_token_is_worthless_elsewhere() {
    let mesh = Mesh::start(Shape::Embedded, &["provisioner.local.isolation=off"]);
    let (ada, eve) = (mesh.sign_in("ada").await, mesh.sign_in("eve").await);
    let origin = Origin::create(mesh.dir());
    commit(origin.path(), "canary-of-origin");
    let repository = register(&ada, &origin).await;
    let foreign = register(&eve, &origin).await;
    let mut agent = Agent::new(&mesh, &ada, &repository).await;
    let mut other = Agent::new(&mesh, &ada, &repository).await;
    let (address, token) = (agent.address(&ada).await, agent.token());
    let (own, theirs) = (&ada.organization_id, &eve.organization_id);
    let base = address.split("/git/").next().unwrap().to_owned();
    let list = |url: &str, token: &str| {
        format!("git -c http.extraHeader='Authorization: Bearer {token}' ls-remote {url}")
    };
    let listed = agent.ok(&ada, &list(&address, &token)).await;
    assert!(listed.contains("refs/heads/main"), "{listed}");

    // Another organization's, an absent one, one by its name, and no repository at all get the same words.
    for path in [
        format!("{theirs}/{}", foreign.repository_id),
        format!("{own}/{}", foreign.repository_id),
        format!("{own}/repo_00000000000000000000000000000000"),
        format!("{own}/{}", repository.name),
        own.clone(),
    ] {
        let words = agent.refused(&ada, &list(&format!("{base}/git/{path}"), &token)).await;
        assert!(words.contains("there is no such repository, or it is not yours"), "{path}: {words}");
    }
    // A wrong token, none, that of another sandbox, and this one at another sandbox's forwarder.
    let theirs = other.address(&ada).await;
    for (url, token) in [
        (&address, token.replace(|_: char| true, "0")),
        (&address, String::new()),
        (&address, other.token()),
        (&theirs, token.clone()),
        (&theirs, ada.token.clone()),
    ] {
        // Without the settings, which would add the right one.
        let script = format!("HOME=/nonexistent {}", list(url, &token));
        let words = agent.refused(&ada, &script).await;
        assert!(words.contains("GIT_TOKEN_REFUSED"), "{words}");
    }
    // The token is none of the gateway's.
    let gateway = format!("{}/git/{own}/{}", mesh.url("gateway"), repository.repository_id);
    let words = agent
        .refused(&ada, &format!("HOME=/nonexistent GIT_TERMINAL_PROMPT=0 {}", list(&gateway, &token)))
        .await;
    assert!(!words.contains("refs/heads/main"), "{words}");
    // And serves no other purpose at the forwarder.
    let script = format!("curl -s -H 'Authorization: Bearer {token}' {base}/v1/models");
    let words = agent.run(&ada, &script).await.1;
    assert!(words.contains("MODEL_TOKEN_REFUSED"), "{words}");
    // A broken request ends in words, and harms nobody.
    let script = format!(
        "curl -s -H 'Authorization: Bearer {token}' -H 'content-type: application/x-git-upload-pack-request' \
         --data-binary nonsense {address}/git-upload-pack"
    );
    let words = agent.run(&ada, &script).await.1;
    assert!(words.contains("ERR FETCH_MALFORMED"), "{words}");
    agent.ok(&ada, "git fetch origin").await;
}
