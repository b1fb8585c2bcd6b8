//! A remote and a forge that take calls and never answer them: the overview is read all the same, and says how old it is and why.

use std::time::Duration;

use foundry_core::Tasks;
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::{
    BranchOverview, BranchSync, BranchSyncStatus, GetRepositoryOverviewRequest, PullRequestSync,
    PullRequestSyncStatus, RequestRepositoryRefreshRequest,
};

use super::pull_request::tests::AtForge;
use crate::ops::get_repository_overview::get_repository_overview;
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::testing::git;

/// What a reader gets.
struct Read {
    branches: BranchSync,
    pulls: PullRequestSync,
    rows: Vec<BranchOverview>,
}

async fn read(p: &AtForge) -> Read {
    let request = GetRepositoryOverviewRequest {
        repository_id: p.repository.repository_id.clone(),
        ..Default::default()
    };
    let answer = get_repository_overview(&p.f.cx, &p.f.member, request).await.unwrap();
    let repository = answer.repository.unwrap();
    Read {
        branches: repository.branch_sync.unwrap(),
        pulls: repository.pull_request_sync.unwrap(),
        rows: answer.branches,
    }
}

fn reason(stale: Option<&Condition>) -> &str {
    stale.map_or("", |stale| stale.reason.as_str())
}

/// Waits in real time until the host has been asked so often: by git, and by calls of its API.
async fn asked(p: &AtForge, (by_git, by_api): (usize, usize)) {
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "the host is not asked");
        let requests = p.host.git().requests();
        let calls = requests.iter().filter(|(path, _)| path.starts_with("/api/")).count();
        if calls >= by_api && requests.len() - calls >= by_git {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_overview_is_answered_and_its_times_stand_still_while_remote_and_forge_hang() {
    let p = AtForge::new().await;
    p.publish(p.request()).await;
    git(&p.f.path().join("team/app.git"), &["branch", "theirs", "main"]);
    p.host.open("team/app", "theirs", "of somebody", false);
    p.after(1_100).await;
    let before = read(&p).await;
    assert_eq!((before.branches.status(), before.pulls.status()), {
        (BranchSyncStatus::Current, PullRequestSyncStatus::Current)
    });
    let pulls = |read: &Read| read.rows.iter().filter(|row| row.pull_request.is_some()).count();
    assert_eq!(pulls(&before), 2, "{:?}", before.rows);

    p.host.git().hold(true);
    let requests = p.host.git().requests();
    let calls = requests.iter().filter(|(path, _)| path.starts_with("/api/")).count();
    let by_git = requests.len() - calls;
    p.f.env.clock.advance(Duration::from_secs(1_100));
    let same = |now: &Read| {
        assert_eq!((now.branches.as_of, now.pulls.as_of), (before.branches.as_of, before.pulls.as_of));
        assert_eq!(now.rows, before.rows);
    };
    // In short steps, between which leases are renewed.
    let until = async |is: &dyn Fn(&Read) -> bool| {
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            let now = read(&p).await;
            same(&now);
            if is(&now) {
                return now;
            }
            p.f.env.clock.advance(Duration::from_secs(1));
            for _ in 0..5 {
                read(&p).await;
            }
        }
        panic!("it is not shown within a minute");
    };
    // Both are asked at the same time, as in a service.
    let (tasks, _failures) = Tasks::new();
    p.f.engine.start(&tasks);
    asked(&p, (by_git + 1, calls + 1)).await;
    let hanging = until(&|_| true).await;
    assert_eq!((reason(hanging.branches.stale.as_ref()), reason(hanging.pulls.stale.as_ref())), ("", ""));
    // Nobody asked for it, so it is shown only once it takes long.
    until(&|now| now.branches.status() == BranchSyncStatus::Syncing).await;
    let stale = until(&|now| now.pulls.status() == PullRequestSyncStatus::Stale).await;
    assert_eq!(reason(stale.pulls.stale.as_ref()), "FORGE_UNREACHABLE");
    assert_eq!(stale.branches.status(), BranchSyncStatus::Syncing);
    let stale = until(&|now| now.branches.status() == BranchSyncStatus::Stale).await;
    assert_eq!(reason(stale.branches.stale.as_ref()), "STAGE_TIMED_OUT");
    assert_eq!(reason(stale.pulls.stale.as_ref()), "FORGE_UNREACHABLE");

    p.host.git().hold(false);
    let refresh = RequestRepositoryRefreshRequest {
        repository_id: p.repository.repository_id.clone(),
        ..Default::default()
    };
    request_repository_refresh(&p.f.cx, &p.f.member, refresh).await.unwrap();
    loop {
        let now = read(&p).await;
        let is_newer = now.branches.as_of != before.branches.as_of && now.pulls.as_of != before.pulls.as_of;
        let both = (now.branches.status(), now.pulls.status());
        if is_newer && both == (BranchSyncStatus::Current, PullRequestSyncStatus::Current) {
            break;
        }
        p.f.env.clock.advance(Duration::from_millis(100));
    }
    assert!(tasks.shutdown(Duration::from_secs(5)).await, "the engine's loops did not end");
}
