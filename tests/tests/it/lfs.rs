//! Files of Git LFS of a private repository through the whole mesh: into a sandbox with their content, changed there, and
//! back to the remote.

use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_proto::repo::v1::ListRepositoriesRequest;
use foundry_proto::task::v1::TaskState;
use foundry_testkit::{GitHttp, LfsBehaviour};
use foundry_tests::origin::git;
use foundry_tests::story::{await_mirror, await_task, create_task};
use foundry_tests::{Mesh, Origin, Shape};

const TOKEN: &str = "canary-token-8d1f6e0b-wxyz";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_lfs_is_changed_by_a_task_and_its_new_content_is_in_a_fresh_clone_of_the_branch() {
    let settings = ["repo.allow_private_addresses=true", "repo.allow_http=true"];
    let mesh = Mesh::start(Shape::Embedded, &settings);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let served = tempfile::tempdir().unwrap();
    let origin = Origin::create(served.path());
    let host = GitHttp::start(served.path());
    let lfs = host.serve_lfs();
    let pair = STANDARD.encode(format!("x-access-token:{TOKEN}"));
    host.require(Some(&pair));
    let path = origin.path();
    git(path, &["lfs", "install", "--local"]);
    git(path, &["lfs", "track", "*.bin"]);
    std::fs::write(path.join("a.bin"), vec![7; 5_000]).unwrap();
    git(path, &["add", "."]);
    git(path, &["commit", "-q", "-m", "a large file"]);
    git(path, &["config", "http.receivepack", "true"]);
    let id = git(path, &["lfs", "ls-files", "--long"]).split(' ').next().unwrap().to_owned();
    lfs.put(&id, &vec![7; 5_000]);

    mesh.cli(&["repo", "add", &host.url("origin/.git"), "--name", "origin"]);
    let mut command = mesh.command(&["repo", "credential", "add", "origin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{TOKEN}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let organization_id = caller.organization_id.clone();
    let request = ListRepositoriesRequest { organization_id, ..Default::default() };
    let repository =
        caller.repo().list_repositories(request).await.unwrap().into_inner().repositories.remove(0);
    await_mirror(&caller, repository.repository_id.clone()).await;

    let prompt = "run test $(wc -c <a.bin) = 5000\nrun printf changed >>a.bin\nrun printf new >new.bin";
    let (task, _) = create_task(&caller, &repository, prompt).await;
    let task = await_task(&caller, &task.task_id, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == 2)
    })
    .await;
    assert_eq!(task.changes.as_ref().unwrap().notices, [], "everything is handed over");
    assert_eq!(task.base.as_ref().unwrap().notices, []);
    let patch = mesh.cli_ok(&["task", "diff", &task.task_id, "--patch"]);
    assert!(
        patch.contains("+size 5007") && patch.contains("-size 5000") && patch.contains("+size 3"),
        "{patch}"
    );

    lfs.behave(LfsBehaviour::Refuses("no quota is left".to_owned()));
    let refused = mesh.cli(&["task", "publish", &task.task_id, "--message", "Change it"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("LFS_UPLOAD_REFUSED") && said.contains("no quota is left"), "{said}");
    assert_eq!(git(path, &["branch", "--list", &task.branch]), "", "a branch without its files");
    lfs.behave(LfsBehaviour::Fair);
    mesh.cli_ok(&["task", "publish", &task.task_id, "--message", "Change it"]);

    let fresh = served.path().join("fresh");
    let header = format!("http.{}/.extraHeader=Authorization: Basic {pair}", host.origin());
    let url = host.url("origin/.git");
    let filters = ["clean -- %f", "smudge -- %f"].map(|how| format!("git-lfs {how}"));
    git(
        served.path(),
        &[
            "-c",
            &header,
            "-c",
            &format!("filter.lfs.clean={}", filters[0]),
            "-c",
            &format!("filter.lfs.smudge={}", filters[1]),
            "-c",
            "filter.lfs.required=true",
            "clone",
            "-q",
            "-b",
            &task.branch,
            &url,
            fresh.to_str().unwrap(),
        ],
    );
    let expected = [vec![7; 5_000], b"changed".to_vec()].concat();
    assert_eq!(std::fs::read(fresh.join("a.bin")).unwrap(), expected);
    assert_eq!(std::fs::read(fresh.join("new.bin")).unwrap(), b"new");
    mesh.cli_ok(&["verify"]);
}
