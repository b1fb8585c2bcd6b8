//! Hostile hosts and repositories, all registered at one mesh: each ends with a typed reason, nothing of theirs is run or
//! followed, and what is sound beside them works as always.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use foundry_proto::repo::v1::{
    CreateRepositoryRequest, DeleteRepositoryRequest, GetRepositoryOverviewRequest, ListBranchesRequest,
    Repository, RepositoryItem, RepositoryState, WatchRepositoryRequest, repository_item,
};
use foundry_proto::task::v1::{CreateTaskRequest, Task, TaskState};
use foundry_testkit::GitHttp;
use foundry_testkit::hostile_git::{self, Server, pack};
use foundry_tests::origin::git;
use foundry_tests::story::{Opening, await_item, await_task, create_task, register, task_request};
use foundry_tests::{Caller, Mesh, Origin, Shape};
use tonic_types::StatusExt as _;

const SETTINGS: [&str; 2] = ["repo.allow_private_addresses=true", "repo.allow_http=true"];
const COMMIT: &str = "1111111111111111111111111111111111111111";
/// Longest answer to a request, whatever the hosts of other repositories do; far more than it takes on an idle machine.
const PROMPT: Duration = Duration::from_secs(5);
/// Names that git takes for options where they are no arguments.
const OPTIONS: [&str; 3] = ["-x", "--upload-pack=touch", "--exec=touch"];

fn shell(dir: &Path, script: &str) {
    let done = std::process::Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Commits everything that could make git, or a tool of its user, run something.
fn plant_commands(tree: &Path, touch: &str) {
    shell(
        tree,
        &format!(
            "printf '* filter=evil diff=evil merge=evil export-subst ident\\n' > .gitattributes
             printf '[filter \"evil\"]\\n\\tsmudge = {touch}\\n\\tclean = {touch}\\n[diff \"evil\"]\\n\\ttextconv = {touch}\\n[core]\\n\\tfsmonitor = {touch}\\n\\thooksPath = hooks\\n\\tsshCommand = {touch}\\n' > .gitconfig
             cp .gitconfig config; mkdir -p hooks
             for hook in post-checkout reference-transaction pre-push; do printf '#!/bin/sh\\n{touch}\\n' > hooks/$hook; chmod +x hooks/$hook; done
             printf '[submodule \"x\"]\\n\\tpath = sub\\n\\turl = ext::sh -c \"{touch}\"\\n[submodule \"y\"]\\n\\tpath = up\\n\\turl = ../..\\n' > .gitmodules
             for path in sub up; do git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),$path; done
             ln -s /etc/passwd secret; ln -s ../../.. above; ln -s .git/hooks linked
             git add -A .gitattributes .gitconfig config hooks .gitmodules secret above linked
             git -c user.name=evil -c user.email=evil@example.invalid commit -q -m evil"
        ),
    );
    for name in OPTIONS {
        git(tree, &["update-ref", &format!("refs/heads/{name}"), "HEAD"]);
    }
}

/// A branch whose tree has an entry that a file system may take for `.git`.
fn plant_entry(tree: &Path) {
    let object = git(tree, &["rev-parse", "HEAD:README.md"]);
    let bytes = (0..20).map(|i| u8::from_str_radix(&object[2 * i..2 * i + 2], 16).unwrap());
    let entry: Vec<u8> = b"100644 .GIT\0".iter().copied().chain(bytes).collect();
    std::fs::write(tree.join(".git/entry"), entry).unwrap();
    let made = git(tree, &["hash-object", "--literally", "-t", "tree", "-w", ".git/entry"]);
    let commit = git(tree, &["commit-tree", "-p", "HEAD", "-m", "evil", &made]);
    git(tree, &["update-ref", "refs/heads/evil", &commit]);
}

fn slow() -> Server {
    Server::start(|request, out| {
        hostile_git::head(out, request)?;
        hostile_git::drip(out, hostile_git::capabilities("").as_bytes())
    })
}

fn million() -> Server {
    let branch = |n| hostile_git::line(&format!("{COMMIT} refs/heads/b{n}\n"));
    let refs: String = (0..1_000_000).map(branch).collect();
    Server::start(move |request, out| hostile_git::answer(request, out, &refs, b""))
}

/// Less than a megabyte of deltas that stand for 16 GiB.
fn bomb() -> Server {
    let fetched = hostile_git::packfile(&pack::deltas(64, 3));
    let refs = hostile_git::one_branch(COMMIT);
    Server::start(move |request, out| hostile_git::answer(request, out, &refs, &fetched))
}

fn redirecting(to: String) -> Server {
    Server::start(move |_, out| {
        write!(out, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    })
}

async fn add(caller: &Caller, url: String, name: &str) -> String {
    let request = CreateRepositoryRequest {
        organization_id: caller.organization_id.clone(),
        url,
        name: name.to_owned(),
        ..CreateRepositoryRequest::default()
    };
    let created = caller.repo().create_repository(request).await.unwrap().into_inner();
    created.repository.unwrap().repository_id
}

/// The repository once it is mirrored, or says why it is not.
async fn settled(caller: &Caller, id: &str) -> Repository {
    let (client, repository_id) = (caller.repo(), id.to_owned());
    let open = move |options| -> Opening {
        let (mut client, repository_id) = (client.clone(), repository_id.clone());
        Box::pin(async move {
            let request = WatchRepositoryRequest { options: Some(options), repository_id };
            Ok(client.watch_repository(request).await?.into_inner())
        })
    };
    let is_settled = |r: &Repository| {
        r.state() == RepositoryState::Ready || r.condition.as_ref().is_some_and(|c| !c.reason.is_empty())
    };
    let item = await_item::<RepositoryItem>(
        "repository",
        open,
        &format!("repository/{id}"),
        |item| matches!(&item.item, Some(repository_item::Item::Repository(r)) if is_settled(r)),
    )
    .await;
    let Some(repository_item::Item::Repository(repository)) = item.item else { panic!("no repository") };
    repository
}

/// Reads what the page of a repository reads, within the time of any answer.
async fn reads(caller: &Caller, id: &str) -> Vec<String> {
    let begun = Instant::now();
    let request = GetRepositoryOverviewRequest {
        repository_id: id.to_owned(),
        ..GetRepositoryOverviewRequest::default()
    };
    caller.repo().get_repository_overview(request).await.unwrap();
    let request = ListBranchesRequest { repository_id: id.to_owned(), ..ListBranchesRequest::default() };
    let listed = caller.repo().list_branches(request).await.unwrap().into_inner().branches;
    assert!(begun.elapsed() < PROMPT, "it took {:?}", begun.elapsed());
    listed.into_iter().map(|b| b.name).collect()
}

/// A task from its creation to its work.
async fn works(caller: &Caller, repository: &Repository) -> Task {
    let (task, _) = create_task(caller, repository, "write docs/hello.md: Hello.").await;
    await_task(caller, &task.task_id, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == 1)
    })
    .await
}

/// Every argument list of the machine that contains one of the texts.
fn arguments_with(texts: &[String]) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lists = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    let lists = lists.map(|list| String::from_utf8_lossy(&list).replace('\0', " "));
    lists.filter(|list| texts.iter().any(|text| list.contains(text))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_sources_end_with_a_reason_and_cost_neither_the_mesh_nor_its_other_repositories() {
    let mesh = Mesh::start(Shape::Embedded, &SETTINGS);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let canary = mesh.dir().join("canary");
    let [evil, entry] = ["evil", "entry"].map(|name| {
        std::fs::create_dir(mesh.dir().join(name)).unwrap();
        Origin::create(&mesh.dir().join(name))
    });
    plant_commands(evil.path(), &format!("touch {}", canary.display()));
    plant_entry(entry.path());
    let host = GitHttp::start(mesh.dir());
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();

    let servers = [
        ("GIT_TIMEOUT", slow()),
        ("GIT_TOO_LARGE", million()),
        ("GIT_TOO_LARGE", bomb()),
        ("GIT_REDIRECT_REFUSED", redirecting(format!("http://{}/", elsewhere.local_addr().unwrap()))),
    ];
    let origins: Vec<_> = servers.iter().map(|(_, server)| server.origin()).collect();
    let mut hostile = Vec::new();
    for (at, (reason, server)) in servers.iter().enumerate() {
        let id = add(&caller, format!("{}/r.git", server.origin()), &format!("hostile-{at}")).await;
        hostile.push((*reason, id));
    }
    hostile.push(("GIT_OBJECTS_REFUSED", add(&caller, host.url("entry/origin/.git"), "entry").await));

    // All of them at once, while one that is sound is added, read and worked on.
    let sound = register(&caller, &Origin::create(mesh.dir())).await;
    works(&caller, &sound).await;
    assert_eq!(reads(&caller, &sound.repository_id).await, ["main"]);

    // One that is mirrored, for it runs nothing: its links and commands are mere files, its odd names no branches.
    let evil = settled(&caller, &add(&caller, host.url("evil/origin/.git"), "evil").await).await;
    assert_eq!(evil.state(), RepositoryState::Ready, "{evil:?}");
    assert_eq!(reads(&caller, &evil.repository_id).await, ["main"]);
    let task = works(&caller, &evil).await;
    mesh.cli_ok(&["task", "diff", &task.task_id, "--patch"]);
    for name in OPTIONS {
        for request in [
            CreateTaskRequest { base_branch: name.to_owned(), ..task_request(&caller, &evil, "say x") },
            CreateTaskRequest { on_branch: name.to_owned(), ..task_request(&caller, &evil, "say x") },
        ] {
            let status = caller.task().create_task(request).await.expect_err(name);
            let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
            assert!(reason.is_some_and(|reason| !reason.is_empty()), "{name}: {status:?}");
        }
    }

    for (reason, id) in &hostile {
        let repository = settled(&caller, id).await;
        let condition = repository.condition.clone().unwrap_or_default();
        assert_eq!(condition.reason, *reason, "{}: {condition:?}", repository.name);
        assert_ne!(repository.state(), RepositoryState::Ready, "{}", repository.name);
        assert!(!condition.message.is_empty(), "{}", repository.name);
        reads(&caller, &sound.repository_id).await;
        let mirrors = mesh.data().join("repo/mirrors");
        let is_left = |end: &str| mirrors.join(format!("{id}.git{end}")).exists();
        // The one that never ends is tried again.
        assert!(!is_left("") && (*reason == "GIT_TIMEOUT" || !is_left(".creating")), "{}", repository.name);
    }
    assert!(elsewhere.accept().is_err(), "a redirect was followed");
    assert!(!canary.exists(), "something of a repository was run");

    // They go as any other, with every process that worked on them.
    for (_, repository_id) in hostile {
        let request = DeleteRepositoryRequest { repository_id, ..DeleteRepositoryRequest::default() };
        caller.repo().delete_repository(request).await.unwrap();
    }
    let begun = Instant::now();
    while let [left, ..] = &arguments_with(&origins)[..] {
        assert!(begun.elapsed() < 2 * PROMPT, "{left} goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    mesh.cli_ok(&["verify"]);
    works(&caller, &sound).await;
}
