//! Submodules from a remote into a sandbox, and `.gitmodules` that somebody hostile wrote.

use foundry_git::{CloneSpec, CommitId, Mirror, MirrorLimits, RemoteUrl, Revision, UrlPolicy};
use foundry_testkit::GitHttp;

use crate::lab::{Lab, Sandbox, branch};

/// A repository at a host with a submodule `vendor/lib`, which is another repository there.
struct Hosted {
    lab: Lab,
    host: GitHttp,
    /// The commit that is recorded.
    recorded: CommitId,
}

impl Hosted {
    async fn new(settings: &str) -> Self {
        let lab = Lab::new().await;
        lab.sh(
            &lab.path(""),
            "git init -q -b main lib; cd lib; echo one > file; mkdir deep; echo two > deep/file; git add -A
             git commit -q -m one; echo later > file; git commit -qam two; git branch later; git reset -q --hard HEAD^",
        );
        let recorded = lab.rev(&lab.path("lib"), "main");
        lab.sh(&lab.path("lib"), "git checkout -q later; git branch -D main");
        std::fs::write(lab.real().join(".gitmodules"), settings).unwrap();
        lab.sh(
            &lab.real(),
            &format!(
                "git add -A; git update-index --add --cacheinfo 160000,{recorded},vendor/lib; git commit -q -m sub
                 mkdir ../hosted; git clone -q --mirror . ../hosted/r.git; git clone -q --mirror ../lib ../hosted/lib.git"
            ),
        );
        let host = GitHttp::start(lab.path("hosted"));
        Self { lab, host, recorded }
    }

    fn remote(&self) -> RemoteUrl {
        let policy = UrlPolicy { allow_http: true, allow_private_addresses: true, ..self.lab.policy() };
        RemoteUrl::parse(&self.host.url("r.git"), &policy).unwrap()
    }

    async fn mirror(&self) -> (Mirror, CommitId) {
        let dir = self.lab.path("data/mirror");
        let mirror =
            Mirror::create(&self.lab.git, dir, &self.remote(), MirrorLimits::default()).await.unwrap();
        let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
        (mirror, base)
    }

    /// A sandbox after everything that can be fetched was.
    async fn sandbox(&self) -> Sandbox<'_> {
        let (mirror, base) = self.mirror().await;
        let mut fetched = Vec::new();
        for submodule in mirror.submodules(&base).await.unwrap() {
            let Ok(remote) = submodule.remote(&self.remote()) else { continue };
            if mirror.fetch_submodule(&remote, &submodule.commit).await.is_ok() {
                fetched.push((submodule, remote));
            }
        }
        mirror.record_submodules(&base, &fetched, true).await.unwrap();
        self.sandbox_of(&mirror, &base).await
    }

    async fn sandbox_of(&self, mirror: &Mirror, base: &CommitId) -> Sandbox<'_> {
        let spec = CloneSpec {
            base: base.clone(),
            branch: branch("foundry/work"),
            destination: self.lab.path("sandbox"),
            origin: None,
            lfs: None,
            lfs_content: false,
            submodules_of: Some(base.clone()),
            identity: ("Agent".into(), "agent@example.com".into()),
        };
        mirror.clone_into(&spec).await.unwrap();
        Sandbox { lab: &self.lab, mirror: mirror.clone(), base: base.clone(), tree: spec.destination }
    }
}

const LIB: &str = "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ../lib.git\n";

#[tokio::test]
async fn a_submodule_is_checked_out_at_its_recorded_commit_and_that_is_no_change() {
    let hosted = Hosted::new(LIB).await;
    let (mirror, base) = hosted.mirror().await;
    assert!(mirror.lacks_submodules_of(&base).await.unwrap());
    let sandbox = hosted.sandbox().await;
    assert!(!sandbox.mirror.lacks_submodules_of(&base).await.unwrap());
    assert_eq!(sandbox.sh("cat vendor/lib/file vendor/lib/deep/file"), "one\ntwo");
    assert_eq!(sandbox.sh("git -C vendor/lib rev-parse HEAD"), hosted.recorded.to_string());
    assert_eq!(sandbox.sh("git -C vendor/lib remote get-url origin"), hosted.host.url("lib.git"));
    assert_eq!(sandbox.sh("git status --porcelain; git -C vendor/lib status --porcelain"), "");
    assert_eq!(sandbox.hand_over(), sandbox.base);
    assert_eq!(sandbox.notices(), Vec::<String>::new());
    let data = hosted.lab.path("data");
    let named = sandbox.sh(&format!("grep -rlF '{}' .git vendor/lib/.git || true", data.display()));
    assert_eq!(named, "", "a path of the host is in the clone");
    sandbox.sh("echo mine > vendor/lib/file; echo new > vendor/lib/new");
    assert_eq!(sandbox.notices(), ["SubmoduleChanged 2 vendor/lib"]);
    sandbox.sh("git -C vendor/lib add -A; git -C vendor/lib commit -qm mine; echo x > x");
    assert_eq!(sandbox.notices(), ["SubmoduleChanged vendor/lib"]);
}

#[tokio::test]
async fn a_submodule_that_cannot_be_had_leaves_its_directory_empty_and_is_named() {
    let hosted = Hosted::new(&LIB.replace("../lib.git", "../gone.git")).await;
    let (mirror, base) = hosted.mirror().await;
    let submodule = mirror.submodules(&base).await.unwrap().remove(0);
    let remote = submodule.remote(&hosted.remote()).unwrap();
    let error = mirror.fetch_submodule(&remote, &submodule.commit).await.unwrap_err();
    assert_eq!(error.reason(), "GIT_REMOTE_NOT_FOUND");
    let absent = CommitId::parse(&"ab".repeat(20)).unwrap();
    let there = RemoteUrl::parse(&hosted.host.url("lib.git"), hosted_policy(&hosted)).unwrap();
    let error = mirror.fetch_submodule(&there, &absent).await.unwrap_err();
    assert_eq!(error.reason(), "COMMIT_NOT_FOUND", "{}", error.stderr());
    let sandbox = hosted.sandbox().await;
    assert_eq!(sandbox.notices(), ["SubmoduleAbsent vendor/lib"]);
}

#[tokio::test]
async fn what_a_killed_fetch_has_left_does_not_stop_the_next_one() {
    let hosted = Hosted::new(LIB).await;
    let (mirror, _) = hosted.mirror().await;
    let remote = RemoteUrl::parse(&hosted.host.url("lib.git"), hosted_policy(&hosted)).unwrap();
    mirror.fetch_submodule(&remote, &hosted.recorded).await.unwrap();
    hosted.lab.sh(mirror.dir(), "cd modules/*.git; touch shallow.lock objects/pack/tmp_pack_x");
    let later = hosted.lab.rev(&hosted.lab.path("lib"), "later");
    mirror.fetch_submodule(&remote, &later).await.unwrap();
    assert_eq!(hosted.lab.sh(mirror.dir(), "cd modules/*.git; ls objects/pack | grep tmp_ || true"), "");
    // Two at once wait for each other.
    hosted.lab.sh(mirror.dir(), "rm -r modules");
    let (one, two) = tokio::join!(
        mirror.fetch_submodule(&remote, &later),
        mirror.fetch_submodule(&remote, &hosted.recorded)
    );
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test]
async fn a_submodule_that_is_damaged_is_left_out_and_the_task_starts() {
    let hosted = Hosted::new(LIB).await;
    let sandbox = hosted.sandbox().await;
    hosted.lab.sh(sandbox.mirror.dir(), "rm -rf modules/*.git/objects/*; rm -r ../../sandbox");
    let again = hosted.sandbox_of(&sandbox.mirror, &sandbox.base).await;
    assert_eq!(again.sh("ls -A vendor/lib"), "");
    assert_eq!(again.notices(), ["SubmoduleAbsent vendor/lib"]);
}

#[tokio::test]
async fn a_collection_removes_submodules_of_commits_that_no_task_starts_from() {
    let hosted = Hosted::new(LIB).await;
    let sandbox = hosted.sandbox().await;
    let (mirror, base) = (&sandbox.mirror, &sandbox.base);
    let left = || hosted.lab.sh(mirror.dir(), "ls modules | grep -v lock | wc -l");
    let age = "find modules -name '*.json' -o -path '*/refs*' | xargs touch -d '15 days ago'";
    hosted.lab.sh(mirror.dir(), age);
    mirror.collect_garbage(&[]).await.unwrap();
    assert_eq!(left(), "2", "a branch has it");
    hosted.lab.sh(mirror.dir(), "git update-ref refs/heads/main main^");
    mirror.collect_garbage(std::slice::from_ref(base)).await.unwrap();
    assert_eq!(left(), "2", "a task has it");
    mirror.collect_garbage(&[]).await.unwrap();
    assert_eq!(left(), "0");
}

#[tokio::test]
async fn hostile_settings_of_submodules_have_no_effect() {
    let outside = tempfile::tempdir().unwrap();
    let proof = outside.path().join("ran").display().to_string();
    let mut refused = 0;
    for settings in [
        format!("[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = \"ext::sh -c 'touch {proof}'\"\n"),
        format!("[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = --upload-pack=touch {proof}\n"),
        "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = file:///etc\n".to_owned(),
        "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = /etc\n".to_owned(),
        "[submodule \"lib\"]\n\tpath = ../../outside\n\turl = ../lib.git\n".to_owned(),
        "[submodule \"lib\"]\n\tpath = .git/hooks\n\turl = ../lib.git\n".to_owned(),
        "[submodule \"../../../evil\"]\n\tpath = dir\n\turl = ../lib.git\n".to_owned(),
        "[submodule \"lib\"]\n\tpath = -x\n\turl = ../lib.git\n\tupdate = !touch /tmp/x\n".to_owned(),
        "[include]\n\tpath = /etc/passwd\n[core]\n\thooksPath = /tmp\n".to_owned(),
        "this is no file of settings [[[".to_owned(),
    ] {
        let hosted = Hosted::new(&settings).await;
        let (dir, remote) = (hosted.lab.path("data/tried"), hosted.remote());
        let made = Mirror::create(&hosted.lab.git, dir, &remote, MirrorLimits::default());
        if let Err(e) = made.await {
            // Git's own check knows some of them.
            assert_eq!(e.reason(), "GIT_OBJECTS_REFUSED", "{settings}");
            refused += 1;
            continue;
        }
        std::fs::remove_dir_all(hosted.lab.path("data/tried")).unwrap();
        let sandbox = hosted.sandbox().await;
        assert_eq!(sandbox.sh("ls -A vendor/lib; cat dir/inner"), "x", "{settings}");
        let beside = hosted.lab.sh(&hosted.lab.path(""), "ls -d *");
        assert_eq!(beside, "data\nhosted\nlib\nreal\nsandbox\nsandbox.lock", "{settings}");
        assert!(!std::path::Path::new(&proof).exists(), "{settings}");
        assert_eq!(sandbox.notices(), ["SubmoduleAbsent vendor/lib"], "{settings}");
    }
    assert!(refused < 5, "{refused} of 10 were refused before anything was done with them");
}

#[tokio::test]
async fn settings_that_are_a_link_are_none_and_those_of_submodules_are_not_followed() {
    let hosted = Hosted::new(LIB).await;
    // The submodule has one of its own.
    hosted.lab.sh(
        &hosted.lab.path("lib"),
        "printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = ../r.git\\n' > .gitmodules; mkdir x; git add -A
         git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),x; git commit -q -m nested; git push -q ../hosted/lib.git later",
    );
    let nested = hosted.lab.rev(&hosted.lab.path("lib"), "later");
    hosted.lab.sh(
        &hosted.lab.real(),
        &format!("git update-index --cacheinfo 160000,{nested},vendor/lib; git commit -q -m nested; git push -q ../hosted/r.git main"),
    );
    let sandbox = hosted.sandbox().await;
    assert_eq!(sandbox.sh("cat vendor/lib/file; ls -A vendor/lib/x"), "later");
    let linked = Hosted::new(LIB).await;
    linked.lab.sh(
        &linked.lab.real(),
        "mv .gitmodules settings; ln -s settings .gitmodules; git add .gitmodules settings; git commit -q -m link; git push -q ../hosted/r.git main",
    );
    // Objects that git itself refuses do not even get into a mirror.
    let dir = linked.lab.path("data/mirror");
    match Mirror::create(&linked.lab.git, dir, &linked.remote(), MirrorLimits::default()).await {
        Err(e) => assert_eq!(e.reason(), "GIT_OBJECTS_REFUSED"),
        Ok(mirror) => {
            let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
            assert_eq!(mirror.submodules(&base).await.unwrap(), []);
        }
    }
}

fn hosted_policy(hosted: &Hosted) -> &'static UrlPolicy {
    Box::leak(Box::new(UrlPolicy { allow_http: true, allow_private_addresses: true, ..hosted.lab.policy() }))
}
