//! Collects the garbage of a mirror.

use std::time::Duration;

use foundry_core::{FlowId, RepositoryId, Result};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, enqueue, stage};
use foundry_git::{CommitId, GitErrorKind, Mirror, MirrorLimits};
use foundry_store::WriteSet;

use crate::context::Context;
use crate::domain::repository::Repository;
use crate::store::{clones, jobs, work_versions, works};

/// Key and subject are the repository's id.
pub static COLLECT: Flow<Context> = Flow::new(
    "mirror_collection",
    &[Stage::new(
        "collecting",
        Duration::from_secs(15 * 60),
        Retry {
            initial: Duration::from_secs(60),
            factor: 4,
            max_delay: Duration::from_secs(3600),
            budget: 4,
        },
        |cx, flow| stage(collect(cx, flow)),
    )],
)
// It reads and writes whole mirrors.
.concurrency(1);

/// Adds a collection, unless one is on its way.
pub async fn schedule(cx: &Context, ws: &mut WriteSet, repository: &Repository) -> Result<()> {
    let id = repository.repository_id.as_str();
    if foundry_flow::unfinished(&cx.store, &COLLECT, id).await?.is_empty() {
        let flow = NewFlow::new(&COLLECT, FlowId::generate(&cx.env), id, id);
        enqueue(ws, flow.organization(&repository.organization_id));
    }
    Ok(())
}

async fn collect(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let id: RepositoryId = flow.subject_id().parse()?;
    let bases = [clones::bases_of(&cx.store, &id).await?, works::bases_of(&cx.store, &id).await?].concat();
    let versions = work_versions::commits_of(&cx.store, &id).await?;
    let keep =
        bases.iter().chain(&versions).map(|commit| CommitId::parse(commit)).collect::<Result<Vec<_>, _>>()?;
    let collected = async {
        let mirror = Mirror::open(&cx.git, cx.mirror_path(&id), MirrorLimits::default()).await?;
        // What is kept is listed first: a job that begins since has its row, and nothing to forget.
        let kept = mirror.kept_jobs().await?;
        let known = jobs::ids_of_repository(&cx.store, &id).await;
        let gone = known.map(|known| kept.difference(&known).cloned().collect());
        match gone {
            Ok(gone) => mirror.forget_jobs(&gone).await?,
            // They are forgotten the next time.
            Err(e) => tracing::warn!(repository = %id, reason = e.reason(), "the jobs are not known"),
        }
        mirror.collect_garbage(&keep).await
    };
    let collected = tokio::select! {
        collected = collected => collected,
        () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the collection was stopped")),
    };
    Ok(match collected {
        // The repository was deleted.
        Err(e) if e.kind() == GitErrorKind::NotFound => Outcome::done(),
        Err(e) => {
            tracing::warn!(repository = %id, reason = e.reason(), stderr = e.stderr(), "collecting garbage failed");
            Outcome::retry(e.reason(), e.message())
        }
        Ok(()) => Outcome::done(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, git};

    #[tokio::test]
    async fn a_synchronization_that_leaves_many_packs_is_followed_by_a_collection() {
        let f = Fixture::new().await;
        let id: RepositoryId = f.mirrored().await.repository_id.parse().unwrap();
        let mirror = f.cx.mirror_path(&id);
        let pack = pack(&mirror);
        for n in 0..51 {
            let name = format!("objects/pack/pack-{n:040x}.pack");
            std::fs::copy(&pack, mirror.join(&name)).unwrap();
            git(&mirror, &["index-pack", &name]);
        }
        git(&f.origin, &["commit", "-q", "--allow-empty", "-m", "second"]);
        let refresh = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
            repository_id: id.to_string(),
            ..Default::default()
        };
        let refreshed = crate::ops::request_repository_refresh::request_repository_refresh;
        refreshed(&f.cx, &f.member, refresh).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let left = std::fs::read_dir(mirror.join("objects/pack")).unwrap().count();
        assert!(left < 10, "{left} files");
        git(&mirror, &["fsck"]);
    }

    #[tokio::test]
    async fn the_base_of_a_task_that_has_changed_nothing_is_kept_after_its_sandbox_is_gone() {
        let f = Fixture::new().await;
        git(&f.origin, &["commit", "-q", "--allow-empty", "-m", "second"]);
        let repository = f.mirrored().await;
        let id: RepositoryId = repository.repository_id.parse().unwrap();
        let (mirror, base) = (f.cx.mirror_path(&id), git(&f.origin, &["rev-parse", "HEAD"]));
        for _ in 0..2 {
            let task = foundry_core::TaskId::generate(&f.env.env);
            let nothing = f.handed_over(&repository, &task, &base, &base, Vec::new());
            let provisioner = foundry_authn::Caller::service("provisioner");
            crate::ops::import_work::import_work(&f.cx, &provisioner, crate::testing::stream(nothing))
                .await
                .unwrap();
        }
        // The branch is reset, and two months pass.
        git(&mirror, &["update-ref", "refs/heads/main", &format!("{base}^")]);
        let aged = std::process::Command::new("find")
            .args(["objects", "-type", "f", "-exec", "touch", "-d", "2 months ago", "{}", "+"])
            .current_dir(&mirror)
            .status();
        assert!(aged.unwrap().success());
        let mut ws = WriteSet::new();
        let repository = crate::store::repositories::find(&f.cx.store, &id).await.unwrap().unwrap();
        schedule(&f.cx, &mut ws, &repository).await.unwrap();
        f.cx.store.commit(ws).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert_eq!(git(&mirror, &["cat-file", "-t", &base]), "commit");
    }

    #[tokio::test]
    async fn an_earlier_version_of_a_work_can_still_be_compared_with_although_no_branch_has_it() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let id: RepositoryId = repository.repository_id.parse().unwrap();
        let (mirror, task) = (f.cx.mirror_path(&id), foundry_core::TaskId::generate(&f.env.env));
        let provisioner = foundry_authn::Caller::service("provisioner");
        for content in ["one\n", "two\n"] {
            let parts = f.work(&repository, &task, &[("a.txt", content)]);
            let import = crate::ops::import_work::import_work;
            import(&f.cx, &provisioner, crate::testing::stream(parts)).await.unwrap();
            f.engine.run_until_idle().await.unwrap();
        }
        let aged = std::process::Command::new("find")
            .args(["objects", "-type", "f", "-exec", "touch", "-d", "2 months ago", "{}", "+"])
            .current_dir(&mirror)
            .status();
        assert!(aged.unwrap().success());
        let mut ws = WriteSet::new();
        let repository = crate::store::repositories::find(&f.cx.store, &id).await.unwrap().unwrap();
        schedule(&f.cx, &mut ws, &repository).await.unwrap();
        f.cx.store.commit(ws).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let request = foundry_proto::repo::v1::ListWorkChangesRequest {
            task_id: task.to_string(),
            since_version: 1,
            ..Default::default()
        };
        let list = crate::ops::list_work_changes::list_work_changes;
        assert_eq!(list(&f.cx, &f.member, request).await.unwrap().changes.len(), 1);
    }

    fn pack(mirror: &std::path::Path) -> std::path::PathBuf {
        git(mirror, &["repack", "-q", "-a", "-d"]);
        let mut packs = std::fs::read_dir(mirror.join("objects/pack")).unwrap().map(|e| e.unwrap().path());
        packs.find(|p| p.extension().is_some_and(|e| e == "pack")).unwrap()
    }
}
