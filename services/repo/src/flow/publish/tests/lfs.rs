//! Publications of work with files of Git LFS.

use foundry_testkit::{GitHttp, LfsBehaviour};
use sha2::{Digest as _, Sha256};

use super::*;

fn pointer(content: &str) -> (String, String) {
    let id = hex::encode(Sha256::digest(content));
    let size = content.len();
    (format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {size}\n"), id)
}

/// Hands over a pointer, and a file that is meant to be the one it stands for.
async fn hand_over(p: &Published, content: &str, file: Option<&str>) -> String {
    let (text, id) = pointer(content);
    let tree = tempfile::tempdir_in(p.f.path()).unwrap();
    git(tree.path(), &["clone", "-q", p.f.origin.to_str().unwrap(), "."]);
    let base = git(tree.path(), &["rev-parse", "HEAD"]);
    std::fs::write(tree.path().join("a.bin"), text).unwrap();
    git(tree.path(), &["add", "-A"]);
    git(tree.path(), &["commit", "-q", "-m", "work"]);
    let head = git(tree.path(), &["rev-parse", "HEAD"]);
    let reference = format!("refs/foundry/work/{}", p.task);
    git(tree.path(), &["update-ref", &reference, &head]);
    git(tree.path(), &["bundle", "create", "-q", "work.bundle", &format!("^{base}"), &reference]);
    let mut bundle = std::fs::read(tree.path().join("work.bundle")).unwrap();
    if let Some(file) = file {
        let list = format!("# foundry lfs objects\n{id} {}\n\n{file}", file.len());
        bundle.splice(..0, list.into_bytes());
    }
    let parts = p.f.handed_over(&p.repository, &p.task, &base, &head, bundle);
    import_work(&p.f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    id
}

#[tokio::test]
async fn files_are_at_the_remote_before_the_branch_and_a_refusal_moves_nothing() {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    let lfs = host.serve_lfs();
    let p = Published::at(f, host.url("remote.git")).await;
    git(&p.remote, &["config", "http.receivepack", "true"]);
    let id = hand_over(&p, "the content", Some("the content")).await;
    let before = p.refs();
    lfs.behave(LfsBehaviour::Refuses("no quota is left".to_owned()));
    let job = p.publish(|r| r.force = true).await;
    assert_eq!(state(&job), (JobState::Failed, "LFS_UPLOAD_REFUSED"));
    let condition = job.condition.unwrap();
    assert!(condition.message.contains("no quota is left"), "{condition:?}");
    assert!(!condition.message.contains("may have the new commit"), "{condition:?}");
    assert_eq!((p.refs(), lfs.object(&id)), (before, None));
    lfs.behave(LfsBehaviour::Fair);
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Done, ""), "{:?}", job.condition);
    assert_eq!(lfs.object(&id).as_deref(), Some(&b"the content"[..]));
    assert_eq!(lfs.branches().last().map(String::as_str), Some("refs/heads/feat/work"));
}

#[tokio::test]
async fn a_pointer_whose_file_nobody_has_is_published_by_force_alone() {
    let p = Published::new().await;
    let id = hand_over(&p, "nowhere", None).await;
    let before = p.refs();
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "LFS_OBJECTS_LEFT_OUT"));
    assert!(job.condition.unwrap().message.contains(&id));
    assert_eq!(p.refs(), before);
    let job = p.publish(|r| r.force = true).await;
    assert_eq!(state(&job), (JobState::Done, ""), "{:?}", job.condition);
}

#[tokio::test]
async fn at_a_host_without_an_lfs_server_pointers_are_published_by_force() {
    let f = Fixture::new().await;
    let host = GitHttp::start(f.path());
    let lfs = host.serve_lfs();
    let p = Published::at(f, host.url("remote.git")).await;
    git(&p.remote, &["config", "http.receivepack", "true"]);
    hand_over(&p, "the content", Some("the content")).await;
    lfs.behave(LfsBehaviour::Fails(404));
    let before = p.refs();
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "LFS_OBJECTS_LEFT_OUT"));
    assert!(job.condition.unwrap().message.contains("no LFS server"));
    assert_eq!(p.refs(), before);
    let job = p.publish(|r| r.force = true).await;
    assert_eq!(state(&job), (JobState::Done, ""), "{:?}", job.condition);
}

#[tokio::test]
async fn a_file_that_was_handed_over_and_not_kept_is_named() {
    let p = Published::new().await;
    hand_over(&p, "the content", Some("the contend")).await;
    let work = crate::store::works::find(&p.f.cx.store, &p.task).await.unwrap().unwrap();
    let named: Vec<_> = work.notices.iter().map(|n| (n.path.as_str(), n.count, n.detail.as_str())).collect();
    assert_eq!(named, [("a.bin", 1, "not kept")]);
    // What is judged is the commit that is pushed.
    let plan = p.publish(|r| r.plan_only = true).await;
    let refusals: Vec<&str> = plan.branches[0].refusals.iter().map(|c| c.reason.as_str()).collect();
    assert_eq!((state(&plan), refusals), ((JobState::Done, ""), vec!["LFS_OBJECTS_LEFT_OUT"]));
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Failed, "LFS_OBJECTS_LEFT_OUT"));
    hand_over(&p, "the content", Some("the content")).await;
    let work = crate::store::works::find(&p.f.cx.store, &p.task).await.unwrap().unwrap();
    assert!(work.notices.is_empty(), "{:?}", work.notices);
}

#[tokio::test]
async fn a_notice_about_a_file_that_the_pushed_commit_does_not_need_refuses_nothing() {
    let p = Published::new().await;
    let notice = foundry_proto::common::v1::WorkNotice {
        kind: foundry_proto::common::v1::WorkNoticeKind::LfsObjects.into(),
        count: 1,
        ..Default::default()
    };
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&p.f.organization));
    works::save(&mut ws, rev, &Work { notices: vec![notice], ..p.work().await });
    p.f.cx.store.commit(ws).await.unwrap();
    let job = p.publish(|_| {}).await;
    assert_eq!(state(&job), (JobState::Done, ""), "{:?}", job.condition);
}
