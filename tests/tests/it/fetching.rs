//! The work of tasks taken out of the mesh with git itself: fetch, clone, bundle, patch; and by those who must not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_proto::auth::v1::{CreateAccessTokenRequest, RevokeAccessTokenRequest, SetMemberRequest};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::{Task, TaskState};
use foundry_tests::origin::git;
use foundry_tests::story::{await_task, create_task, register, until_answered};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// The address of a repository, with a token as the password.
fn address(mesh: &Mesh, organization: &str, repository: &str, token: &str) -> String {
    let gateway = mesh.url("gateway").replace("http://", &format!("http://anybody:{token}@"));
    format!("{gateway}/git/{organization}/{repository}")
}

/// Runs git as somebody without any settings of their own.
fn try_git(dir: &Path, args: &[&str]) -> Output {
    Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .output()
        .unwrap()
}

/// What git told its user about a refusal.
fn refusal(dir: &Path, args: &[&str]) -> String {
    let out = try_git(dir, args);
    assert!(!out.status.success(), "git {args:?} succeeded");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Sends a request and returns the head and the body of the response.
fn http(mesh: &Mesh, method: &str, path: &str, token: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let basic = STANDARD.encode(format!("x:{token}"));
    let host = mesh.url("gateway").replace("http://", "");
    let mut stream = TcpStream::connect(&host).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Basic {basic}\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has refused already may close before it has read everything.
    let _ = stream.write_all(body);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") else { return Default::default() };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    (head, all[end + 4..].to_vec())
}

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

async fn with_work(caller: &Caller, origin: &Origin, prompt: &str, files: i32) -> (Repository, Task) {
    let repository = register(caller, origin).await;
    let (task, _) = create_task(caller, &repository, prompt).await;
    let task = await_task(caller, &task.task_id, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == files)
    })
    .await;
    (repository, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_task_comes_out_whole_by_clone_fetch_bundle_and_patch() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let origin = Origin::create(mesh.dir());
    let prompt =
        "run seq 1 300000 > package-lock.json\nwrite docs/hello.md: Hello.\nrun git mv README.md READ.md";
    let (repository, task) = with_work(&caller, &origin, prompt, 3).await;
    let url = address(&mesh, &caller.organization_id, &repository.name, &caller.token);
    let dir = mesh.dir().to_owned();
    let branch = task.branch.as_str();

    let listed = git(&dir, &["ls-remote", &format!("{url}.git")]);
    for name in [
        "\tHEAD",
        "\trefs/heads/main",
        &format!("\trefs/heads/{branch}"),
        &format!("\trefs/foundry/tasks/{}", task.task_id),
    ] {
        assert!(listed.contains(name), "{name} in {listed}");
    }
    assert!(!listed.contains("foundry/work"), "{listed}");

    // The same commit, by each version of the protocol, and in the shapes in which git clones.
    let head = git(&dir, &["ls-remote", &url, &format!("refs/heads/{branch}")]);
    let head = head.split_once('\t').unwrap().0.to_owned();
    for (at, more) in [
        &["-c", "protocol.version=0", "clone", "-q"][..],
        &["-c", "protocol.version=2", "clone", "-q"],
        &["-c", "protocol.version=0", "clone", "-q", "--depth=1"],
        &["clone", "-q", "--depth=1"],
        // The filter is not offered, so everything comes.
        &["clone", "-q", "--filter=blob:none"],
    ]
    .into_iter()
    .enumerate()
    {
        let to = format!("clone-{at}");
        git(&dir, &[more, &["--branch", branch, &url, &to]].concat());
        assert_eq!(git(&dir.join(&to), &["rev-parse", "HEAD"]), head, "{more:?}");
        git(&dir.join(&to), &["fsck", "--no-dangling"]);
    }

    // The patch is complete though one file is over 1 MiB, and gives the exact tree.
    let tree = git(&dir.join("clone-1"), &["rev-parse", &format!("{head}^{{tree}}")]);
    let all = mesh.cli(&["task", "diff", &task.task_id, "--patch"]);
    assert!(all.status.success() && all.stdout.len() > 1 << 20, "{}", String::from_utf8_lossy(&all.stderr));
    let applied = origin.apply(&all.stdout);
    assert_eq!(git(applied.path(), &["write-tree"]), tree);

    // Into a person's own clone, where a branch with commits of theirs is left alone.
    let own = dir.join("own");
    git(&dir, &["clone", "-q", &origin.path().display().to_string(), "own"]);
    let fetch = |more: &[&str]| {
        let mut command = mesh.command(&[&["task", "fetch", &task.task_id], more].concat());
        command.current_dir(&own).output().unwrap()
    };
    let out = fetch(&[]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stdout).contains("new branch"), "{out:?}");
    assert_eq!(git(&own, &["rev-parse", branch]), head);
    assert!(fetch(&[]).status.success());
    let config = std::fs::read_to_string(own.join(".git/config")).unwrap();
    assert!(!config.contains(&caller.token) && !config.contains("extraHeader"), "{config}");
    git(&own, &["checkout", "-q", branch]);
    git(&own, &["commit", "-q", "--allow-empty", "-m", "mine"]);
    let mine = git(&own, &["rev-parse", "HEAD"]);
    let refused = fetch(&[]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("--into"), "{words}");
    assert_eq!(git(&own, &["rev-parse", "HEAD"]), mine);
    assert!(fetch(&["--into", "theirs"]).status.success());
    assert_eq!(git(&own, &["rev-parse", "theirs"]), head);

    let bundle = dir.join("work.bundle").display().to_string();
    mesh.cli_ok(&["task", "bundle", &task.task_id, "--file", &bundle]);
    git(&dir, &["clone", "-q", &bundle, "from-bundle"]);
    assert_eq!(git(&dir.join("from-bundle"), &["rev-parse", "HEAD"]), head);

    let words = refusal(&dir.join("clone-1"), &["push", &url, "HEAD:refs/heads/x"]);
    assert!(words.contains("GIT_READ_ONLY") && words.contains("foundry task publish"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_in_a_repository_with_a_part_of_its_history_is_fetched_and_no_bundle_is_made_of_it() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let (dir, origin) = (mesh.dir().to_owned(), Origin::create(mesh.dir()));
    git(origin.path(), &["commit", "-q", "--allow-empty", "-m", "second"]);
    // What was registered is a clone of the newest commit alone.
    let full = dir.join("full");
    std::fs::rename(origin.path(), &full).unwrap();
    git(&dir, &["clone", "-q", "--depth=1", &format!("file://{}", full.display()), "origin"]);
    let (_, task) = with_work(&caller, &origin, "write a.md: A.", 1).await;
    let out = mesh.command(&["task", "fetch", &task.task_id]).current_dir(&full).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let history = git(&full, &["log", "--format=%s", &task.branch]);
    assert!(history.ends_with("second\nfirst"), "what was there before is kept: {history}");
    let file = dir.join("work.bundle");
    let out = mesh.cli(&["task", "bundle", &task.task_id, "--file", &file.display().to_string()]);
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && words.contains("shallow clone"), "{words}");
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_made_of_work_in_a_repository_with_longer_ids() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let (dir, origin) = (mesh.dir().to_owned(), Origin::create(mesh.dir()));
    std::fs::remove_dir_all(origin.path().join(".git")).unwrap();
    git(origin.path(), &["init", "-q", "--object-format=sha256"]);
    git(origin.path(), &["add", "."]);
    git(origin.path(), &["commit", "-q", "-m", "first"]);
    let (_, task) = with_work(&caller, &origin, "write a.md: A.", 1).await;
    let file = dir.join("work.bundle").display().to_string();
    mesh.cli_ok(&["task", "bundle", &task.task_id, "--file", &file]);
    git(&dir, &["clone", "-q", "--branch", &task.branch, &file, "from-bundle"]);
    assert_eq!(std::fs::read_to_string(dir.join("from-bundle/a.md")).unwrap().trim(), "A.");
}

/// A mesh with a repository of ada's, and what is asked of it by hand.
struct Served {
    mesh: Mesh,
    ada: Caller,
    repository: Repository,
    path: String,
}

impl Served {
    async fn new(noise: usize) -> Self {
        let mesh = Mesh::start(Shape::Embedded, &[]);
        let ada = mesh.sign_in("ada").await;
        let origin = Origin::create(mesh.dir());
        let bytes = (0..noise as u64 / 8).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        std::fs::write(origin.path().join("noise"), bytes.collect::<Vec<u8>>()).unwrap();
        git(origin.path(), &["-c", "core.compression=0", "add", "."]);
        git(origin.path(), &["commit", "-q", "-m", "noise"]);
        let repository = register(&ada, &origin).await;
        let path = format!("/git/{}/{}", ada.organization_id, repository.name);
        Self { mesh, ada, repository, path }
    }

    /// The response to the first request of a fetch, without what differs between any two responses.
    fn listing(&self, path: &str, token: &str) -> (String, String) {
        let path = format!("{path}/info/refs?service=git-upload-pack");
        let (head, body) = http(&self.mesh, "GET", &path, token, "", b"");
        let kept = head.lines().filter(|l| !l.starts_with("x-request-id:") && !l.starts_with("date:"));
        (kept.collect::<Vec<_>>().join("\n"), String::from_utf8_lossy(&body).into_owned())
    }

    /// Asks until the change of a moment ago is known everywhere.
    async fn until(&self, status: &str, token: &str) {
        until_answered(status, || {
            let (head, _) = self.listing(&self.path, token);
            let came = head.starts_with(&format!("HTTP/1.1 {status}"));
            async move {
                if came { Ok(tonic::Response::new(())) } else { Err(tonic::Status::unavailable(head)) }
            }
        })
        .await;
    }

    fn post(&self, protocol: &str, body: &[u8]) -> String {
        let headers = format!("content-type: application/x-git-upload-pack-request\r\n{protocol}");
        let path = format!("{}/git-upload-pack", self.path);
        let (_, said) = http(&self.mesh, "POST", &path, &self.ada.token, &headers, body);
        String::from_utf8_lossy(&said).into_owned()
    }

    fn mirror(&self) -> PathBuf {
        self.mesh.data().join(format!("repo/mirrors/{}.git", self.repository.repository_id))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_needs_a_valid_token_of_a_member_and_says_nothing_to_others() {
    let served = Served::new(8).await;
    let (ada, eve) = (&served.ada, served.mesh.sign_in("eve").await);
    let organization = &ada.organization_id;
    for bad in ["", "fpat_wrong"] {
        let (head, words) = served.listing(&served.path, bad);
        assert!(head.starts_with("HTTP/1.1 401") && head.contains("www-authenticate: Basic"), "{head}");
        assert!(words.contains("`foundry token create NAME`"), "{words}");
    }
    let request = CreateAccessTokenRequest {
        organization_id: organization.clone(),
        name: "ci".to_owned(),
        ..CreateAccessTokenRequest::default()
    };
    let token = ada.auth().create_access_token(request).await.unwrap().into_inner();
    let (head, _) = served.listing(&served.path, &token.secret);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let access_token_id = token.access_token.unwrap().access_token_id;
    let revoke = RevokeAccessTokenRequest { access_token_id, ..RevokeAccessTokenRequest::default() };
    ada.auth().revoke_access_token(revoke).await.unwrap();
    served.until("401", &token.secret).await;

    // Another organization's repository is no different from one that does not exist.
    let foreign = served.listing(&served.path, &eve.token);
    assert!(foreign.0.starts_with("HTTP/1.1 404"), "{foreign:?}");
    let name = &served.repository.name;
    for absent in [format!("/git/{organization}/nothing"), format!("/git/nowhere/{name}")] {
        assert_eq!(served.listing(&absent, &eve.token), foreign);
        assert_eq!(served.listing(&absent, &ada.token), foreign);
    }
    let viewer = SetMemberRequest {
        organization_id: organization.clone(),
        login: "eve".to_owned(),
        role: Role::Viewer.into(),
        ..SetMemberRequest::default()
    };
    ada.auth().set_member(viewer).await.unwrap();
    served.until("200", &eve.token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_fetch_gets_an_error_and_the_service_stays_well() {
    let served = Served::new(30_000_000).await;
    // An object that the mirror has and nothing lists.
    let mirror = served.mirror();
    let hidden = git(&mirror, &["commit-tree", "-m", "hidden", "HEAD^{tree}"]);
    let fetch = |id: &str| {
        format!("{}0001{}{}0000", line("command=fetch"), line(&format!("want {id}")), line("done"))
    };
    let v0 = format!("{}0000{}", line(&format!("want {hidden} side-band-64k")), line("done"));
    for (protocol, body) in [("git-protocol: version=2\r\n", fetch(&hidden)), ("", v0)] {
        let said = served.post(protocol, body.as_bytes());
        assert!(said.contains("ERR OBJECT_NOT_ADVERTISED"), "{said}");
    }
    assert!(served.post("", b"rubbish").contains("ERR FETCH_MALFORMED"));
    served.post("", &vec![b'0'; 8 << 20]);

    // Clients that leave in the middle: their processes end.
    let tip = git(&mirror, &["rev-parse", "main"]);
    let (host, want) = (served.mesh.url("gateway").replace("http://", ""), fetch(&tip));
    for _ in 0..6 {
        let mut stream = TcpStream::connect(&host).unwrap();
        let basic = STANDARD.encode(format!("x:{}", served.ada.token));
        let head = format!(
            "POST {}/git-upload-pack HTTP/1.1\r\nhost: {host}\r\nauthorization: Basic {basic}\r\n\
             git-protocol: version=2\r\ncontent-type: application/x-git-upload-pack-request\r\n\
             content-length: {}\r\n\r\n{want}",
            served.path,
            want.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 4096]).unwrap();
    }
    let scratch = served.mesh.data().join("repo/serving");
    while std::fs::read_dir(&scratch).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }

    // Others are served, two at once.
    let dir = served.mesh.dir();
    let url = address(
        &served.mesh,
        &served.ada.organization_id,
        &served.repository.repository_id,
        &served.ada.token,
    );
    let two = ["one", "two"]
        .map(|to| Command::new("git").args(["clone", "-q", &url, to]).current_dir(dir).spawn().unwrap());
    for mut clone in two {
        assert!(clone.wait().unwrap().success());
    }
    assert_eq!(git(&dir.join("two"), &["rev-parse", "HEAD"]), tip);
}

/// The body of a fetch in protocol 2 with these lines.
fn fetch_body(lines: &[String]) -> Vec<u8> {
    let lines: String = lines.iter().map(|text| line(text)).collect();
    format!("{}0001{lines}0000", line("command=fetch")).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trick_of_the_protocol_reaches_what_is_not_served_or_another_organization() {
    const V2: &str = "git-protocol: version=2\r\n";
    let served = Served::new(8).await;
    let mirror = served.mirror();
    let secret = git(&mirror, &["commit-tree", "-m", "secret", "HEAD^{tree}"]);
    let hidden = git(&mirror, &["commit-tree", "-p", &secret, "-m", "hidden", "HEAD^{tree}"]);
    let tip = git(&mirror, &["rev-parse", "main"]);
    let blob = git(&mirror, &["rev-parse", "main:noise"]);
    let eve = served.mesh.sign_in("eve").await;
    let place = served.mesh.dir().join("eve");
    std::fs::create_dir(&place).unwrap();
    let origin = Origin::create(&place);
    git(origin.path(), &["commit", "-q", "--allow-empty", "-m", "of eve"]);
    let of_eve = git(origin.path(), &["rev-parse", "HEAD"]);
    register(&eve, &origin).await;

    let (want, done) = (format!("want {tip}"), "done".to_owned());
    for wanted in [&hidden, &secret, &of_eve, &blob] {
        let said = served.post(V2, &fetch_body(&[format!("want {wanted}"), done.clone()]));
        assert!(said.contains("ERR OBJECT_NOT_ADVERTISED"), "{wanted}: {said}");
    }
    // Asked for all of a history that begins at a commit, git would send its parents, wherever it is.
    let all = [want.clone(), format!("shallow {hidden}"), "deepen 2147483647".to_owned(), done.clone()];
    let said = served.post(V2, &fetch_body(&all));
    assert!(said.contains("PACK") && !said.contains(&hidden), "a hidden commit is sent");
    for lines in [
        vec![want.clone(), "filter blob:none".to_owned(), done.clone()],
        vec![format!("want-ref refs/heads/main"), done.clone()],
        vec![want.clone(), "deepen-not refs/foundry/work/x".to_owned(), done.clone()],
        vec![want.clone(), "deepen -1".to_owned(), done.clone()],
        vec![want.clone(), "deepen-since x".to_owned(), done.clone()],
        vec![want.clone(), "shallow x".to_owned(), done.clone()],
        vec!["want".to_owned(), done.clone()],
        (0..60_000).map(|n| format!("want {n:040x}")).collect(),
    ] {
        let said = served.post(V2, &fetch_body(&lines));
        assert!(!said.contains("PACK"), "{:?} is answered", &lines[..lines.len().min(3)]);
    }
    for command in ["object-info", "bundle-uri", "ls-refs\ncommand=fetch", "../upload-archive"] {
        let said = served.post(V2, format!("{}0000", line(&format!("command={command}"))).as_bytes());
        assert!(said.contains("ERR FETCH_MALFORMED"), "{command}: {said}");
    }
    // Thousands of commits that nobody knows, and versions of the protocol that are none, are no reason to fail.
    let mut many = vec![want.clone()];
    many.extend((0..40_000).map(|n| format!("have {n:040x}")));
    many.push(done.clone());
    assert!(served.post(V2, &fetch_body(&many)).contains("PACK"));
    let canary = served.mesh.dir().join("canary");
    let odd =
        format!("git-protocol: version=2:x=$(touch {c}):--upload-pack=touch {c}\r\n", c = canary.display());
    assert!(served.post(&odd, &fetch_body(&[want, done])).contains("PACK"));

    let (organization, repository) = (&served.ada.organization_id, &served.repository.name);
    let ask = "info/refs?service=git-upload-pack";
    for path in [
        format!("/git/{organization}/../{organization}/{repository}/{ask}"),
        format!("/git/{organization}/%2e%2e/{repository}/{ask}"),
        format!("/git/{organization}/..%2f..%2f{repository}/{ask}"),
        format!("/git/{organization}//{repository}/{ask}"),
        format!("/git/{organization}/{repository}%00/{ask}"),
        format!("/git/{organization}/{repository}/objects/{ask}"),
        format!("/git/{}/{}/{ask}", eve.organization_id, repository),
        format!("/git/{organization}/{}/{ask}", "x".repeat(5_000)),
        format!("/git/{organization}/--upload-pack=touch/{ask}"),
        format!("/git/{organization}/{repository}/HEAD"),
        format!("/git/{organization}/{repository}/info/refs"),
        format!("/git/{organization}/{repository}/info/refs?service=git-upload-archive"),
        format!("/git/{organization}/{repository}/info/refs?service=git-upload-pack%00"),
        format!(
            "/git/{organization}/{repository}/info/refs?service=git-receive-pack&service=git-upload-pack"
        ),
    ] {
        let (head, body) = http(&served.mesh, "GET", &path, &served.ada.token, "", b"");
        assert!(!head.starts_with("HTTP/1.1 2") && !head.starts_with("HTTP/1.1 5"), "{path}: {head}");
        assert!(!body.windows(4).any(|at| at == b"refs"), "{path} is answered");
    }
    let scratch = served.mesh.data().join("repo/serving");
    while std::fs::read_dir(&scratch).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!canary.exists(), "something was run");
    assert!(served.listing(&served.path, &served.ada.token).0.starts_with("HTTP/1.1 200"));
}
