//! Private repositories through the whole mesh: from a refusal and a credential to a finished task, and where the secret
//! is not found.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_proto::repo::v1::{ListRepositoriesRequest, Repository};
use foundry_proto::task::v1::TaskState;
use foundry_testkit::{Authority, ConnectProxy, GitHttp, Sshd};
use foundry_tests::origin::git;
use foundry_tests::story::{await_mirror, await_task, create_task};
use foundry_tests::{Caller, Mesh, Origin, Shape};

const SETTINGS: [&str; 3] =
    ["repo.allow_private_addresses=true", "repo.allow_http=true", "telemetry.log_filter=trace"];

/// Runs a command of the product with a secret as its input; returns whether it succeeded and all that it printed.
fn with_input(mesh: &Mesh, args: &[&str], input: &str) -> (bool, String) {
    let mut command = mesh.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Registers a repository that refuses us; returns what the command said.
fn refused(mesh: &Mesh, url: &str) -> String {
    let out = mesh.cli(&["repo", "add", url, "--name", "origin"]);
    assert!(!out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

async fn repository(caller: &Caller) -> Repository {
    let organization_id = caller.organization_id.clone();
    let request = ListRepositoriesRequest { organization_id, ..Default::default() };
    caller.repo().list_repositories(request).await.unwrap().into_inner().repositories.remove(0)
}

/// A task on a commit that was pushed just before; its work is there at the end.
async fn works_on_the_newest_commit(caller: &Caller, origin: &Origin) {
    std::fs::write(origin.path().join("newest.md"), "newest\n").unwrap();
    git(origin.path(), &["add", "."]);
    git(origin.path(), &["commit", "-q", "-m", "newest"]);
    let repository = repository(caller).await;
    let prompt = "run test -f newest.md\nwrite docs/hello.md: Hello.";
    let (task, _) = create_task(caller, &repository, prompt).await;
    let task = await_task(caller, &task.task_id, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == 1)
    })
    .await;
    let base = task.base.unwrap();
    assert_eq!(base.commit, git(origin.path(), &["rev-parse", "HEAD"]), "{:?}", base.notices);
}

/// Every file below a directory that contains one of the texts.
fn files_with(dir: &Path, texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            // Links lead out of it or to what is seen anyway; sockets have no content.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(kind) if kind.is_file() => {
                    let content = std::fs::read(&path).unwrap_or_default();
                    let has = |text: &String| content.windows(text.len()).any(|at| at == text.as_bytes());
                    if texts.iter().any(has) {
                        found.push(path.display().to_string());
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// Every argument list of the machine that contains one of the texts.
fn arguments_with(texts: &[String]) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lists = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    let lists = lists.map(|list| String::from_utf8_lossy(&list).replace('\0', " "));
    lists.filter(|list| texts.iter().any(|text| list.contains(text))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_over_http_goes_from_a_token_to_a_finished_task_and_the_token_nowhere_else() {
    const TOKEN: &str = "canary-token-8d1f6e0b-wxyz";
    let pair = STANDARD.encode(format!("x-access-token:{TOKEN}"));
    let secrets = [TOKEN.to_owned(), pair.clone()];
    let mesh = Mesh::start(Shape::Embedded, &SETTINGS);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let served = tempfile::tempdir().unwrap();
    let origin = Origin::create(served.path());
    let host = GitHttp::start(served.path());
    host.require(Some(&pair));

    let said = refused(&mesh, &host.url("origin/.git"));
    assert!(
        said.contains("REPOSITORY_CREDENTIALS_REQUIRED") && said.contains("repo credential add"),
        "{said}"
    );
    let inside = host.url("origin/.git").replace("http://", "http://someone@");
    let out = mesh.cli(&["repo", "add", &inside]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("foundry repo credential add"), "{said}");

    let (fine, said) =
        with_input(&mesh, &["repo", "credential", "add", "origin"], "canary-token-wrong-0123\n");
    assert!(!fine && said.contains("REPOSITORY_CREDENTIALS_REFUSED"), "{said}");
    let (fine, said) =
        with_input(&mesh, &["repo", "credential", "add", "origin", "--replace"], &format!("{TOKEN}\n"));
    assert!(fine && said.contains("working") && !said.contains(TOKEN), "{said}");
    await_mirror(&caller, repository(&caller).await.repository_id).await;
    works_on_the_newest_commit(&caller, &origin).await;

    // While git runs and the remote is silent.
    let before = host.requests().len();
    host.hold(true);
    mesh.cli_ok(&["repo", "refresh", "origin", "--no-wait"]);
    host.wait_for_request(before);
    let running = arguments_with(&["ls-remote".to_owned()]);
    let (arguments, files) = (arguments_with(&secrets), files_with(mesh.dir(), &secrets));
    host.hold(false);
    assert!(running.iter().any(|list| list.contains(&host.origin())), "{running:?}");
    assert_eq!((arguments, files), (vec![], vec![]));

    let listed = mesh.cli_ok(&["repo", "credential", "list"]);
    assert!(listed.contains("wxyz") && !listed.contains(TOKEN), "{listed}");
    mesh.cli_ok(&["verify"]);
    mesh.cli_ok(&["repo", "credential", "remove", "origin"]);
    let out = mesh.cli(&["repo", "refresh", "origin"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("REPOSITORY_CREDENTIALS_REQUIRED"), "{said}");
    assert_eq!(files_with(mesh.dir(), &secrets), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_over_ssh_goes_from_a_deploy_key_to_a_finished_task_also_after_a_crash() {
    let mut mesh = Mesh::start(Shape::Embedded, &SETTINGS);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let served = tempfile::tempdir().unwrap();
    let origin = Origin::create(served.path());
    let host = Sshd::start(served.path());
    let said = refused(&mesh, &host.url(origin.path()));
    assert!(said.contains("REPOSITORY_CREDENTIALS_REQUIRED"), "{said}");

    let key = host.new_key();
    let (fine, said) = with_input(&mesh, &["repo", "credential", "add", "origin"], &key);
    assert!(fine && said.contains(&host.fingerprint()) && said.contains("ssh-ed25519 AAAA"), "{said}");
    await_mirror(&caller, repository(&caller).await.repository_id).await;
    works_on_the_newest_commit(&caller, &origin).await;

    // What a killed operation has left is removed at the next start.
    let left = mesh.data().join("repo/access/ssh-left");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("key"), &key).unwrap();
    mesh.crash_and_restart();
    mesh.cli_ok(&["repo", "refresh", "origin"]);
    let secret = key.lines().nth(3).unwrap().to_owned();
    assert_eq!(files_with(mesh.dir(), &[secret]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_behind_the_proxy_and_certificates_of_a_company_goes_to_a_finished_task() {
    const HOST: &str = "git.corp.example";
    let served = tempfile::tempdir().unwrap();
    let origin = Origin::create(served.path());
    let (authority, proxy) = (Authority::new(), ConnectProxy::start(Some(&STANDARD.encode("me:secret"))));
    let host = GitHttp::start_tls(served.path(), &authority.server(&[HOST]));
    let stranger = GitHttp::start_tls(served.path(), &Authority::new().server(&[HOST]));
    let ca = served.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let settings = [
        format!("repo.network.ca_file={}", ca.display()),
        format!("repo.network.proxy=http://me:secret@{}", proxy.address()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mesh = Mesh::start(Shape::Embedded, &settings);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);

    let said = refused(&mesh, &format!("https://{HOST}:{}/origin/.git", stranger.port()));
    assert!(said.contains("GIT_CERTIFICATE_REFUSED") && said.contains("repo.network.ca_file"), "{said}");
    mesh.cli_ok(&["repo", "remove", "origin"]);
    mesh.cli_ok(&["repo", "add", &format!("https://{HOST}:{}/origin/.git", host.port()), "--name", "origin"]);
    await_mirror(&caller, repository(&caller).await.repository_id).await;
    works_on_the_newest_commit(&caller, &origin).await;
    assert!(proxy.requests().iter().all(|(target, _)| target.starts_with(HOST)), "{:?}", proxy.requests());
}
