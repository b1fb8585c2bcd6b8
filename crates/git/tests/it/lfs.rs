//! Files of Git LFS from a remote into a sandbox and back, with the real `git lfs` on both sides.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_git::{
    Access, CloneSpec, CommitId, GitError, LfsFetch, LfsLeftOut, LfsUpload, Mirror, MirrorLimits, Pushed,
    RemoteUrl, Revision, UrlPolicy,
};
use foundry_secrets::Secret;
use foundry_testkit::{GitHttp, LfsBehaviour, LfsServer};
use sha2::{Digest as _, Sha256};

use crate::lab::{Lab, Sandbox, branch};

const SOON: Duration = Duration::from_secs(60);

/// A repository with `a.bin` in LFS at a host, and its mirror.
struct Stored {
    lab: Lab,
    host: GitHttp,
    lfs: LfsServer,
}

fn id(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

impl Stored {
    async fn new() -> Self {
        let lab = Lab::new().await;
        lab.sh(&lab.path(""), "git lfs install --skip-repo");
        lab.sh(
            &lab.real(),
            "git lfs track '*.bin' >/dev/null; head -c 5000 /dev/urandom > a.bin; git add -A; git commit -q -m lfs
             mkdir ../hosted; git -c http.receivepack=true clone -q --mirror . ../hosted/r.git
             git -C ../hosted/r.git config http.receivepack true",
        );
        let host = GitHttp::start(lab.path("hosted"));
        let lfs = host.serve_lfs();
        let content = std::fs::read(lab.real().join("a.bin")).unwrap();
        lfs.put(&id(&content), &content);
        Self { lab, host, lfs }
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(self.lab.real().join("a.bin")).unwrap()
    }

    fn policy(&self) -> UrlPolicy {
        UrlPolicy { allow_http: true, allow_private_addresses: true, ..self.lab.policy() }
    }

    fn remote(&self) -> RemoteUrl {
        RemoteUrl::parse(&self.host.url("r.git"), &self.policy()).unwrap()
    }

    async fn mirror(&self) -> (Mirror, CommitId) {
        self.mirror_of(&self.remote()).await
    }

    async fn mirror_of(&self, remote: &RemoteUrl) -> (Mirror, CommitId) {
        let dir = self.lab.path("data/mirror");
        let mirror = Mirror::create(&self.lab.git, dir, remote, MirrorLimits::default()).await.unwrap();
        let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
        (mirror, base)
    }

    async fn fetched(&self) -> Result<LfsFetch, GitError> {
        let (mirror, base) = self.mirror().await;
        mirror.fetch_lfs(&self.remote(), &base, SOON).await
    }

    /// A sandbox with `git lfs`, whose files have their content.
    async fn sandbox(&self) -> Sandbox<'_> {
        let (mirror, base) = self.mirror().await;
        let fetched = mirror.fetch_lfs(&self.remote(), &base, SOON).await.unwrap();
        assert_eq!(fetched, LfsFetch { fetched: 1, ..LfsFetch::default() });
        self.sandbox_of(mirror, base).await
    }

    async fn sandbox_of(&self, mirror: Mirror, base: CommitId) -> Sandbox<'_> {
        let spec = CloneSpec {
            base: base.clone(),
            branch: branch("foundry/work"),
            destination: self.lab.path("sandbox"),
            origin: None,
            lfs: None,
            lfs_content: true,
            submodules_of: None,
            identity: ("Agent".into(), "agent@example.com".into()),
        };
        mirror.clone_into(&spec).await.unwrap();
        Sandbox { lab: &self.lab, mirror, base, tree: spec.destination }
    }

    /// What a fresh clone with `git lfs` has.
    fn cloned(&self, branch: &str, file: &str) -> Vec<u8> {
        let url = self.host.url("r.git");
        self.lab.sh(&self.lab.path(""), &format!("rm -rf fresh; git clone -q -b {branch} {url} fresh"));
        std::fs::read(self.lab.path("fresh").join(file)).unwrap()
    }
}

async fn pushed(sandbox: &Sandbox<'_>, remote: &RemoteUrl, commit: &CommitId) {
    let pushed = sandbox.mirror.push_branch(remote, &branch("feat"), commit, None).await.unwrap();
    assert!(matches!(pushed, Pushed::Accepted(_)), "{pushed:?}");
}

#[tokio::test]
async fn a_sandbox_has_the_files_with_their_content_and_that_is_no_change() {
    let stored = Stored::new().await;
    let sandbox = stored.sandbox().await;
    let file = sandbox.tree.join("a.bin");
    assert_eq!(std::fs::read(&file).unwrap(), stored.content());
    assert_eq!(sandbox.sh("git lfs fsck && git status --porcelain"), "Git LFS fsck OK");
    let object = sandbox.sh("find .git/lfs/objects -type f");
    assert_eq!(
        std::fs::metadata(sandbox.tree.join(object)).unwrap().nlink(),
        1,
        "it is the mirror's own file"
    );
    assert_eq!(sandbox.notices(), Vec::<String>::new());
    // Whatever makes git look at the content again.
    sandbox.sh("touch a.bin; cp .git/index ../kept");
    assert_eq!(sandbox.hand_over(), sandbox.base);
    sandbox.sh("rm .git/index");
    assert_eq!(sandbox.hand_over(), sandbox.base);
    sandbox.sh("cp ../kept .git/index; printf x >> a.bin");
    let imported = sandbox.import().await;
    assert_eq!(imported.changes.len(), 1);
    // A tree that has lost its history too.
    sandbox.sh("rm -rf .git; echo y >> text");
    let imported = sandbox.import().await;
    let changed: Vec<String> = imported.changes.iter().map(|c| c.path.to_string()).collect();
    assert_eq!(changed, ["a.bin", "text"]);
    std::fs::write(&file, stored.content()).unwrap();
    sandbox.hand_over();
    let sent = std::fs::read(sandbox.bundle()).unwrap();
    assert!(sent.starts_with(b"# v"), "a file of the base is sent again");
    assert!(sandbox.mirror.has_lfs_of(&sandbox.base).await);
    assert!(!sandbox.mirror.lacks_lfs_of(&imported.head).await.unwrap());
}

#[tokio::test]
async fn what_an_agent_makes_is_handed_over_uploaded_and_in_a_fresh_clone() {
    let stored = Stored::new().await;
    let sandbox = stored.sandbox().await;
    sandbox.sh(
        "head -c 70000 /dev/urandom > b.bin; git add b.bin; git commit -qm first; cp b.bin ../first
         head -c 300 /dev/urandom > b.bin; git commit -qam second; printf more >> a.bin; mkdir d; printf new > d/c.bin",
    );
    let imported = sandbox.import().await;
    assert_eq!(sandbox.notices(), Vec::<String>::new());
    let sizes: Vec<(String, u64)> =
        imported.changes.iter().map(|c| (c.path.to_string(), c.additions)).collect();
    assert_eq!(
        sizes,
        [("a.bin".into(), 2), ("b.bin".into(), 3), ("d/c.bin".into(), 3)],
        "not their pointers"
    );
    let remote = stored.remote();
    let upload = sandbox.mirror.upload_lfs(&remote, &branch("feat"), &imported.head).await.unwrap();
    assert_eq!(upload, LfsUpload::Complete(4), "all that the history needs");
    assert_eq!(stored.lfs.branches(), ["refs/heads/feat"]);
    pushed(&sandbox, &remote, &imported.head).await;
    for file in ["a.bin", "b.bin", "d/c.bin"] {
        assert_eq!(stored.cloned("feat", file), std::fs::read(sandbox.tree.join(file)).unwrap(), "{file}");
    }
    let first = std::fs::read(stored.lab.path("first")).unwrap();
    assert_eq!(stored.lfs.object(&id(&first)), Some(first));
    // A repetition, and the next one with nothing new.
    let again = sandbox.mirror.upload_lfs(&remote, &branch("feat"), &imported.head).await.unwrap();
    assert_eq!(again, LfsUpload::Complete(0));
    assert_eq!(stored.lfs.uploads().len(), 4);
}

#[tokio::test]
async fn a_private_host_gets_the_credential_and_no_other_host_does() {
    let stored = Stored::new().await;
    let canary = STANDARD.encode("me:canary");
    stored.host.require(Some(&canary));
    let access = || Access::basic(stored.host.origin(), "me", &Secret::new("canary"));
    let remote = stored.remote().with_access(access());
    let (mirror, base) = stored.mirror_of(&remote).await;
    let refused = mirror.fetch_lfs(&stored.remote(), &base, SOON).await.unwrap_err();
    assert_eq!(refused.reason(), "REPOSITORY_CREDENTIALS_REQUIRED");
    let wrong = Access::basic(stored.host.origin(), "me", &Secret::new("wrong-canary"));
    let refused = mirror.fetch_lfs(&stored.remote().with_access(wrong), &base, SOON).await.unwrap_err();
    assert_eq!(refused.reason(), "REPOSITORY_CREDENTIALS_REFUSED");
    // The host names another one that has the objects.
    let other = GitHttp::start(stored.lab.path("hosted"));
    let objects = other.serve_lfs();
    objects.put(&id(&stored.content()), &stored.content());
    for behaves in [LfsBehaviour::Elsewhere(other.origin()), LfsBehaviour::Redirects(other.origin())] {
        stored.lfs.behave(behaves);
        let report = mirror.fetch_lfs(&remote, &base, SOON).await.unwrap();
        assert_eq!((report.fetched, report.missing), (0, 1));
        assert!(report.why.contains("not allowed"), "{report:?}");
        assert_eq!(other.requests(), Vec::new(), "a host that is not allowed was asked");
    }
    // An operator may allow it; it gets no credential.
    let host = format!("127.0.0.1:{}", other.port());
    let policy = UrlPolicy { lfs_hosts: vec![host.parse().unwrap()], ..stored.policy() };
    let remote = RemoteUrl::parse(&stored.host.url("r.git"), &policy).unwrap().with_access(access());
    let report = mirror.fetch_lfs(&remote, &base, SOON).await.unwrap();
    assert_eq!(report, LfsFetch { fetched: 1, ..LfsFetch::default() });
    let asked = other.requests();
    assert!(!asked.is_empty() && asked.iter().all(|(_, credential)| credential.is_none()), "{asked:?}");
}

#[tokio::test]
async fn a_hostile_server_stores_nothing_and_a_fair_one_mends_it() {
    let stored = Stored::new().await;
    for (behaves, word) in [
        (LfsBehaviour::WrongBytes, "another content"),
        (LfsBehaviour::TooShort, "shorter"),
        (LfsBehaviour::Endless, "longer"),
    ] {
        stored.lfs.behave(behaves.clone());
        let report = stored.fetched().await.unwrap();
        assert_eq!((report.fetched, report.missing), (0, 1), "{behaves:?}");
        assert!(report.why.contains(word), "{behaves:?}: {report:?}");
    }
    stored.lfs.behave(LfsBehaviour::Fails(503));
    assert!(stored.fetched().await.unwrap_err().retryable());
    stored.lfs.behave(LfsBehaviour::Fails(404));
    assert_eq!(stored.fetched().await.unwrap_err().reason(), "LFS_NOT_SERVED");
    let (mirror, base) = stored.mirror().await;
    let left = stored.lab.sh(mirror.dir(), "find lfs -type f");
    assert_eq!(left, "", "something was kept");
    // The file stays a pointer, and the hand-over says so.
    let sandbox = stored.sandbox_of(mirror, base).await;
    assert_eq!(sandbox.notices(), ["LfsPointers 1 a.bin"]);
    stored.lfs.behave(LfsBehaviour::Fair);
    assert_eq!(stored.fetched().await.unwrap().fetched, 1);
}

#[tokio::test]
async fn settings_of_the_repository_choose_no_host_and_run_nothing() {
    let stored = Stored::new().await;
    let other = GitHttp::start(stored.lab.path("hosted"));
    let proof = stored.lab.path("ran");
    stored.lab.sh(
        &stored.lab.real(),
        &format!(
            "printf '[lfs]\\n\\turl = {}\\n\\tstandalonetransferagent = x\\n[lfs \"customtransfer.x\"]\\n\\tpath = {p}\\n' > .lfsconfig
             printf '#!/bin/sh\\ntouch {p}\\n' > run.sh; printf '*.bin filter=lfs\\n*.txt filter=evil\\n' > .gitattributes
             git add -A; git commit -q -m hostile; git push -q --no-verify ../hosted/r.git main",
            other.url("r.git/info/lfs"),
            p = proof.display(),
        ),
    );
    let sandbox = stored.sandbox().await;
    assert_eq!(std::fs::read(sandbox.tree.join("a.bin")).unwrap(), stored.content());
    sandbox.sh("printf more >> a.bin");
    let head = sandbox.import().await.head;
    let upload = sandbox.mirror.upload_lfs(&stored.remote(), &branch("feat"), &head).await.unwrap();
    assert_eq!(upload, LfsUpload::Complete(1));
    assert_eq!(other.requests(), Vec::new());
    assert!(!proof.exists());
}

#[tokio::test]
async fn an_upload_that_is_refused_or_impossible_is_said_with_the_words_of_the_host() {
    let stored = Stored::new().await;
    let sandbox = stored.sandbox().await;
    sandbox.sh("printf more >> a.bin");
    let head = sandbox.import().await.head;
    let remote = stored.remote();
    let upload = async || sandbox.mirror.upload_lfs(&remote, &branch("feat"), &head).await;
    stored.lfs.behave(LfsBehaviour::Refuses("over quota\u{202e}".to_owned()));
    let LfsUpload::Refused(refusal) = upload().await.unwrap() else { panic!("not refused") };
    assert_eq!((refusal.reason, refusal.words.as_str()), ("LFS_UPLOAD_REFUSED", "over quota"));
    stored.lfs.behave(LfsBehaviour::Fails(500));
    assert!(upload().await.unwrap_err().retryable());
    // A host without an LFS server.
    for status in [404, 405, 410, 501] {
        stored.lfs.behave(LfsBehaviour::Fails(status));
        let LfsUpload::Missing(1, why) = upload().await.unwrap() else { panic!("{status}") };
        assert!(why.contains("no LFS server"), "{status}: {why}");
    }
    stored.lfs.behave(LfsBehaviour::Fair);
    assert_eq!(upload().await.unwrap(), LfsUpload::Complete(1));
    // A pointer whose object is nowhere.
    let absent = id(b"absent");
    sandbox.sh(&format!(
        "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:{absent}\\nsize 6\\n' > gone.bin"
    ));
    let head = sandbox.import().await.head;
    let upload = sandbox.mirror.upload_lfs(&remote, &branch("feat"), &head).await.unwrap();
    assert_eq!(upload, LfsUpload::Missing(1, absent.clone()));
    stored.lfs.put(&absent, b"absent");
    let upload = sandbox.mirror.upload_lfs(&remote, &branch("feat"), &head).await.unwrap();
    assert_eq!(upload, LfsUpload::Complete(0), "the remote has it");
}

#[tokio::test]
async fn a_file_counts_as_often_as_the_tree_has_it() {
    let stored = Stored::new().await;
    stored.lab.sh(
        &stored.lab.real(),
        "cp a.bin b.bin; git add -A; git commit -q -m twice; git push -q --no-verify ../hosted/r.git main",
    );
    let (mirror, base) = stored.mirror().await;
    assert_eq!(mirror.fetch_lfs(&stored.remote(), &base, SOON).await.unwrap().fetched, 1);
    let spec = CloneSpec {
        base,
        branch: branch("foundry/work"),
        destination: stored.lab.path("sandbox"),
        origin: None,
        lfs: None,
        lfs_content: true,
        submodules_of: None,
        identity: ("Agent".into(), "agent@example.com".into()),
    };
    // The object and its copy fit; the second file does not.
    for (checkout_bytes, fits) in [(13_000, false), (1 << 20, true)] {
        let limits = MirrorLimits { checkout_bytes, ..MirrorLimits::default() };
        let mirror = Mirror::open(&stored.lab.git, mirror.dir(), limits).await.unwrap();
        match mirror.clone_into(&spec).await {
            Ok(()) => assert!(fits),
            Err(e) => assert!(!fits && e.message().contains("Git LFS"), "{e}"),
        }
    }
}

#[tokio::test]
async fn attributes_are_read_once_and_in_bounds() {
    let stored = Stored::new().await;
    let lacks = async |script: &str, at: &str| {
        let publish = "git add -A; git commit -q -m attributes; git push -q --no-verify ../hosted/r.git main";
        stored.lab.sh(&stored.lab.real(), &format!("{script}\n{publish}"));
        let dir = stored.lab.path(at);
        let limits = MirrorLimits::default();
        let mirror = Mirror::create(&stored.lab.git, dir, &stored.remote(), limits).await.unwrap();
        let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
        mirror.lacks_lfs_of(&base).await.unwrap()
    };
    let shared = "git rm -q --cached a.bin .gitattributes; rm .gitattributes; mkdir z; mv a.bin z
        printf '*.bin filter=lfs\\n' > z/.gitattributes; yes '# nothing' | head -c 1000000 > ../shared
        for n in $(seq 40); do mkdir s$n; cp ../shared s$n/.gitattributes; done";
    assert!(lacks(shared, "data/first").await, "40 names of one file count as one");
    let many = "for n in $(seq 10); do mkdir t$n; (echo \"# $n\"; cat ../shared) > t$n/.gitattributes; done";
    assert!(!lacks(many, "data/second").await, "more than 8 MiB are read");
}

#[tokio::test]
async fn a_server_is_asked_for_the_next_objects_when_it_has_given_the_first() {
    let stored = Stored::new().await;
    stored.lab.sh(
        &stored.lab.real(),
        "for n in $(seq 120); do printf \"content $n\" > $n.bin; done
         git add -A; git commit -q -m many; git push -q --no-verify ../hosted/r.git main",
    );
    for n in 1..=120 {
        let content = format!("content {n}");
        stored.lfs.put(&id(content.as_bytes()), content.as_bytes());
    }
    assert_eq!(stored.fetched().await.unwrap().fetched, 121);
    let asked = stored.host.requests();
    let batches: Vec<usize> = (0..asked.len()).filter(|n| asked[*n].0.ends_with("/objects/batch")).collect();
    assert_eq!((batches.len(), batches[1] - batches[0]), (2, 101), "all were asked for first");
}

#[tokio::test]
async fn objects_that_are_not_what_they_say_are_left_out_and_the_work_arrives() {
    let stored = Stored::new().await;
    let sandbox = stored.sandbox().await;
    sandbox.sh("printf more > b.bin; git add b.bin; git commit -qm b; git rm -q b.bin; git commit -qm gone; echo x > x");
    let (real, wrong) = (id(b"more"), b"evil");
    let below = |id: &str| format!("lfs/objects/{}/{}/{id}", &id[..2], &id[2..4]);
    std::fs::write(sandbox.tree.join(".git").join(below(&real)), wrong).unwrap();
    let imported = sandbox.import().await;
    assert_eq!(imported.changes.len(), 1);
    assert_eq!(imported.lfs_left_out, Some(LfsLeftOut { count: 1, path: real.clone() }));
    assert!(!sandbox.mirror.dir().join(below(&real)).exists());
    let upload = sandbox.mirror.upload_lfs(&stored.remote(), &branch("feat"), &imported.head).await.unwrap();
    assert_eq!(upload, LfsUpload::Missing(1, real));
    // What no script writes is refused whole.
    let bundle = std::fs::read(sandbox.bundle()).unwrap();
    let long = format!("# foundry lfs objects\n{} {}\n\n", id(b"x"), u64::MAX);
    let path = format!("# foundry lfs objects\n{} 1\n\n", "../".repeat(21) + "x");
    for start in [long, path, "# foundry lfs objects\n".to_owned()] {
        std::fs::write(sandbox.bundle(), [start.as_bytes(), &bundle].concat()).unwrap();
        assert_eq!(sandbox.try_import().await.unwrap_err().reason(), "BUNDLE_REFUSED", "{start}");
    }
}

#[tokio::test]
async fn a_full_store_says_what_it_does_not_take_and_loses_what_nothing_points_to() {
    let stored = Stored::new().await;
    let mut sandbox = stored.sandbox().await;
    let dir = sandbox.mirror.dir().to_owned();
    let put = |name: &str, content: &str, date: &str| {
        let oid = id(content.as_bytes());
        let path = format!("lfs/objects/{}/{}", &oid[..2], &oid[2..4]);
        let script =
            format!("mkdir -p {path}; printf %s {content} > {path}/{oid}; touch -d '{date}' {path}/{oid}");
        stored.lab.sh(&dir, &script);
        (name.to_owned(), dir.join(path).join(oid))
    };
    let (old, young) = (put("old", "old", "15 days ago"), put("young", "young", "1 day ago"));
    let limits = MirrorLimits { max_lfs_bytes: 6_000, ..MirrorLimits::default() };
    sandbox.mirror = Mirror::open(&stored.lab.git, &dir, limits).await.unwrap();
    sandbox.sh("mkdir d; head -c 2000 /dev/urandom > d/c.bin");
    let imported = sandbox.import().await;
    assert_eq!(imported.lfs_left_out, Some(LfsLeftOut { count: 1, path: "d/c.bin".to_owned() }));
    stored.lab.sh(&dir, "find lfs/objects -size +1k -exec touch -d '15 days ago' {} +");
    assert!(sandbox.mirror.wants_collection().await.unwrap());
    sandbox.mirror.collect_garbage(&[]).await.unwrap();
    let there = [&old, &young].map(|(name, path)| (name.as_str(), path.exists()));
    assert_eq!(there, [("old", false), ("young", true)]);
    assert!(!sandbox.mirror.lacks_lfs_of(&sandbox.base).await.unwrap(), "a branch points to it");
    assert!(!sandbox.mirror.wants_collection().await.unwrap(), "once a day");
}

#[tokio::test]
async fn what_has_no_room_beside_the_bundle_is_named_and_the_rest_is_handed_over() {
    let stored = Stored::new().await;
    let sandbox = stored.sandbox().await;
    sandbox.sh(
        "head -c 90000 /dev/urandom > large.bin; printf small > small.bin; git add -A; git commit -qm both",
    );
    let output = sandbox.output(&[("FOUNDRY_MAX_LFS", "60000".to_owned())]);
    let words: Vec<_> =
        output.notices.iter().map(|n| (format!("{:?}", n.kind), n.count, n.path.as_str())).collect();
    assert_eq!(words, [("LfsObjects".to_owned(), 1, "large.bin")]);
    let head = sandbox.try_import().await.unwrap().head;
    let upload = sandbox.mirror.upload_lfs(&stored.remote(), &branch("feat"), &head).await.unwrap();
    assert!(matches!(upload, LfsUpload::Missing(1, _)), "{upload:?}");
    assert_eq!(stored.lfs.uploads(), [id(b"small")]);
}

#[tokio::test]
async fn a_file_that_the_base_has_without_lfs_is_no_change_while_it_stays_as_it_is() {
    let stored = Stored::new().await;
    stored.lab.sh(
        &stored.lab.real(),
        "printf 'plain content' > raw.bin; id=$(git hash-object -w --no-filters raw.bin)
         git update-index --add --cacheinfo 100644,$id,raw.bin; git commit -q -m raw
         git push -q --no-verify ../hosted/r.git main",
    );
    let sandbox = stored.sandbox().await;
    sandbox.sh("touch raw.bin");
    assert_eq!(sandbox.hand_over(), sandbox.base);
    sandbox.sh("printf x >> raw.bin");
    assert_eq!(sandbox.import().await.changes.len(), 1);
}

#[tokio::test]
async fn a_file_over_the_limit_for_files_is_handed_over_as_an_object() {
    let stored = Stored::new().await;
    let sandbox = stored.sandbox().await;
    sandbox.sh("head -c 70000000 /dev/zero > big.bin; cp big.bin a.bin; cp big.bin other");
    assert_eq!(sandbox.notices(), ["TooLarge 70000000 other"]);
    let imported = sandbox.try_import().await.unwrap();
    let changed: Vec<String> = imported.changes.iter().map(|c| c.path.to_string()).collect();
    assert_eq!(changed, ["a.bin", "big.bin"]);
    assert!(!sandbox.mirror.lacks_lfs_of(&imported.head).await.unwrap());
    // As before where it has no room.
    let output = sandbox.output(&[("FOUNDRY_MAX_LFS", "1000000".to_owned())]);
    assert_eq!(output.notices.len(), 3, "{:?}", output.notices);
}

#[tokio::test]
async fn thousands_of_files_take_hardly_longer_than_without_lfs() {
    let stored = Stored::new().await;
    let sandbox = stored.sandbox().await;
    let taken = |attributes: &str| {
        sandbox.sh(&format!(
            "rm -rf many; mkdir many; echo '{attributes}' > many/.gitattributes
             for n in $(seq 2000); do echo $n > many/$n.bin; done"
        ));
        let started = std::time::Instant::now();
        sandbox.hand_over();
        started.elapsed()
    };
    let (without, with) = (taken("*.bin -filter"), taken("*.bin filter=lfs"));
    assert!(with < 4 * without + Duration::from_secs(1), "{with:?} instead of {without:?}");
    let head = sandbox.import().await.head;
    assert!(!sandbox.mirror.lacks_lfs_of(&head).await.unwrap());
}

#[tokio::test]
async fn a_clone_with_too_many_files_to_check_out_in_time_starts_with_pointers() {
    let stored = Stored::new().await;
    let (mirror, base) = stored.mirror().await;
    mirror.fetch_lfs(&stored.remote(), &base, SOON).await.unwrap();
    // No checkout starts its processes in so little time.
    let limits = MirrorLimits { lfs_checkout_wall: Duration::from_nanos(1), ..MirrorLimits::default() };
    let mirror = Mirror::open(&stored.lab.git, mirror.dir(), limits).await.unwrap();
    let sandbox = stored.sandbox_of(mirror, base).await;
    assert_eq!(sandbox.sh("head -n 1 a.bin"), "version https://git-lfs.github.com/spec/v1");
}

#[tokio::test]
async fn a_local_repository_gives_and_takes_objects_as_its_owner_has_them() {
    let stored = Stored::new().await;
    let lab = &stored.lab;
    lab.sh(&lab.path(""), "git clone -q --bare real bare.git; cp -r real/.git/lfs bare.git/lfs");
    let remote = RemoteUrl::parse(lab.path("bare.git").to_str().unwrap(), &lab.policy()).unwrap();
    let (mirror, base) = stored.mirror_of(&remote).await;
    assert!(mirror.lacks_lfs_of(&base).await.unwrap());
    assert_eq!(mirror.fetch_lfs(&remote, &base, SOON).await.unwrap().fetched, 1);
    let sandbox = stored.sandbox_of(mirror, base).await;
    sandbox.sh("printf more >> a.bin");
    let head = sandbox.import().await.head;
    let upload = sandbox.mirror.upload_lfs(&remote, &branch("feat"), &head).await.unwrap();
    assert_eq!(upload, LfsUpload::Complete(1));
    let modes = lab.sh(&lab.path(""), "find bare.git/lfs/objects -type f -printf '%m '");
    let is_closed = modes.split_whitespace().any(|mode| mode == "600");
    assert!(!modes.is_empty() && !is_closed, "others who may read the repository: {modes}");
    pushed(&sandbox, &remote, &head).await;
    lab.sh(&lab.path(""), "git clone -q -b feat bare.git fresh");
    let read = |dir: &Path| std::fs::read(dir.join("a.bin")).unwrap();
    assert_eq!(read(&lab.path("fresh")), read(&sandbox.tree));
}
