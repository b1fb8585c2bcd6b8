//! From a private repository to an open pull request whose checks and reviews are seen on the task, through the whole mesh.

use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use foundry_proto::common::v1::{ChecksState, PullRequestReview, PullRequestState};
use foundry_proto::repo::v1::ListRepositoriesRequest;
use foundry_proto::task::v1::TaskState;
use foundry_testkit::ForgeHost;
use foundry_tests::origin::git;
use foundry_tests::story::{await_mirror, await_task, create_task};
use foundry_tests::{Mesh, Origin, Shape};

const TOKEN: &str = "canary-token-8d1f6e0b-wxyz";

#[tokio::test(flavor = "multi_thread")]
async fn a_task_on_a_private_repository_ends_as_a_pull_request_with_green_checks() {
    let served = tempfile::tempdir().unwrap();
    let origin = Origin::create(served.path());
    let remote = served.path().join("team/app.git");
    git(served.path(), &["clone", "-q", "--bare", origin.path().to_str().unwrap(), remote.to_str().unwrap()]);
    git(&remote, &["config", "http.receivepack", "true"]);
    let host = ForgeHost::start(served.path());
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    host.require(TOKEN, &pair);
    let forge = format!("repo.forges=[\"{} github {}\"]", host.host(), host.api("v3"));
    let settings =
        ["repo.allow_private_addresses=true", "repo.allow_http=true", "repo.poll_active=1s", forge.as_str()];
    let mesh = Mesh::start(Shape::Embedded, &settings);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let refused = mesh.cli(&["repo", "add", &host.git().url("team/app.git")]);
    assert!(!refused.status.success(), "{refused:?}");
    let mut command = mesh.command(&["repo", "credential", "add", "app"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{TOKEN}\n").as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let request =
        ListRepositoriesRequest { organization_id: caller.organization_id.clone(), ..Default::default() };
    let repository =
        caller.repo().list_repositories(request).await.unwrap().into_inner().repositories.remove(0);
    let repository = await_mirror(&caller, repository.repository_id).await;

    let (task, _) = create_task(&caller, &repository, "write docs/hello.md: Hello.").await;
    let done = |files: i32| {
        move |t: &foundry_proto::task::v1::Task| {
            t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == files)
        }
    };
    let task = await_task(&caller, &task.task_id, done(1)).await;
    let id = task.task_id.as_str();
    let out = mesh.cli_ok(&["task", "publish", id, "--pull-request", "--draft", "--title", "Greet people"]);
    let url = format!("{}/team/app/pull/1", host.git().origin());
    assert!(out.contains(&url) && out.contains("pull request #1, draft"), "{out}");
    assert_eq!(host.pull_requests("team/app"), [(1, "Greet people".to_owned())]);

    // A comment without a wish for changes is seen and sent with one command, once.
    host.comment("team/app", 1, "grace", ("docs/hello.md", 1), "Greet Ada too.");
    let commented = await_task(&caller, id, |t| {
        let publication = t.changes.as_ref().and_then(|c| c.publication.as_ref());
        publication.and_then(|p| p.pull_request.as_ref()).is_some_and(|p| !p.remarks.is_empty())
    })
    .await;
    let remark = commented.changes.unwrap().publication.unwrap().pull_request.unwrap().remarks.remove(0);
    assert_eq!(
        (remark.text.as_str(), remark.line, remark.trusted, remark.wants_changes),
        ("Greet Ada too.", 1, true, false)
    );
    mesh.cli_ok(&["task", "fix", id, "--review"]);
    let again = mesh.cli(&["task", "fix", id, "--review"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("FIX_SENT"), "{again:?}");

    host.check("team/app", &task.branch, "build", Some(true));
    host.review("team/app", 1, "grace", "APPROVED");
    let green = await_task(&caller, id, |t| {
        let publication = t.changes.as_ref().and_then(|c| c.publication.as_ref());
        publication.and_then(|p| p.pull_request.as_ref()).is_some_and(|p| {
            p.checks.as_ref().is_some_and(|c| c.state() == ChecksState::Passed)
                && p.review() == PullRequestReview::Approved
        })
    })
    .await;
    let shown = green.changes.unwrap().publication.unwrap().pull_request.unwrap();
    assert_eq!((shown.state(), shown.url, shown.draft), (PullRequestState::Open, url, true));
    let overview = mesh.cli_ok(&["repo", "overview", "app"]);
    assert!(overview.contains("pull request #1, draft, checks passed, approved"), "{overview}");
    assert!(overview.contains("1 open pull request as of"), "{overview}");
    for (path, _) in host.git().requests() {
        assert!(!path.contains(TOKEN), "{path}");
    }
    mesh.cli_ok(&["verify"]);
}
