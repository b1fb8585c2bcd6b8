//! Lists the changed files of a work.

use foundry_authn::Caller;
use foundry_core::{PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListWorkChangesRequest, ListWorkChangesResponse};

use crate::comparison::Comparison;
use crate::context::Context;
use crate::store::changes::{self, Against};

/// A stored read of the newest complete version, or a comparison of it with an earlier one.
///
/// # Errors
/// `NOT_FOUND`; `WORK_CHANGED` for the next page of a version that a newer one has replaced; `WORK_VERSION_GONE` for an earlier
/// one that is not kept.
pub async fn list_work_changes(
    cx: &Context,
    caller: &Caller,
    request: ListWorkChangesRequest,
) -> Result<ListWorkChangesResponse> {
    let (work, moment) = cx.work_and_moment(caller, &request.task_id, Role::Viewer).await?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (mut since_version, mut with_merged) = (0, false);
    let (found, next) = if request.since_version == 0 {
        changes::list(&moment, Against::of(&work, request.whole), &work.task_id, work.version, &page).await?
    } else {
        // Git may take seconds.
        drop(moment);
        let compared = Comparison::since(cx, &work, request.since_version, request.whole).await?;
        (since_version, with_merged) = (compared.since, compared.with_merged);
        compared.files(&work, &page).await?
    };
    Ok(ListWorkChangesResponse {
        work: Some(work.to_proto()),
        changes: found,
        next_page_token: PageToken::encode_next(next),
        since_version,
        with_merged,
    })
}

#[cfg(test)]
mod tests {
    use foundry_core::{Code, TaskId};
    use foundry_proto::repo::v1::GetWorkPatchRequest;

    use super::*;
    use crate::ops::get_work_patch::get_work_patch;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, git, stream};

    #[tokio::test]
    async fn the_next_page_of_a_version_that_was_replaced_is_refused() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let import = async |files: &[(&str, &str)]| {
            let parts = f.work(&repository, &task, files);
            import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
            f.engine.run_until_idle().await.unwrap();
        };
        let list = async |page_token: String| {
            let request = ListWorkChangesRequest {
                task_id: task.to_string(),
                page_size: 1,
                page_token,
                ..Default::default()
            };
            list_work_changes(&f.cx, &f.member, request).await
        };
        import(&[("a.txt", "a\n"), ("b.txt", "b\n")]).await;
        let first = list(String::new()).await.unwrap();
        assert_eq!(list(first.next_page_token.clone()).await.unwrap().changes[0].path, "b.txt");
        import(&[("a.txt", "a\n"), ("c.txt", "c\n")]).await;
        let refused = list(first.next_page_token).await.unwrap_err();
        assert_eq!(refused.reason(), "WORK_CHANGED");
        assert_eq!(list("Zm9v".to_owned()).await.unwrap_err().code(), foundry_core::Code::InvalidArgument);
    }

    #[tokio::test]
    async fn what_changed_since_a_version_is_listed_with_its_patches_also_when_that_is_in_no_history() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let import = async |files: &[(&str, &str)]| {
            let parts = f.work(&repository, &task, files);
            import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
            f.engine.run_until_idle().await.unwrap();
        };
        let list = async |since_version, page_size, page_token: String| {
            let task_id = task.to_string();
            let request =
                ListWorkChangesRequest { task_id, page_size, page_token, since_version, whole: false };
            list_work_changes(&f.cx, &f.member, request).await
        };
        let paths =
            |r: &ListWorkChangesResponse| r.changes.iter().map(|c| c.path.clone()).collect::<Vec<_>>();
        // Each hand-over begins at the base: none is an ancestor of the next.
        import(&[("a.txt", "a\n"), ("b.txt", "one\ntwo\n")]).await;
        let first = list(0, 50, String::new()).await.unwrap();
        import(&[("a.txt", "a\n"), ("b.txt", "one\n2\n"), ("c.txt", "c\n")]).await;
        let second = list(0, 50, String::new()).await.unwrap();
        assert_eq!(first.changes[0].content, second.changes[0].content, "another file has changed");
        assert_ne!(first.changes[1].content, second.changes[1].content);
        let since = list(1, 50, String::new()).await.unwrap();
        assert_eq!(paths(&since), ["b.txt", "c.txt"]);
        assert_eq!(since.changes[0].content, second.changes[1].content, "the same in each comparison");
        let page = list(1, 1, String::new()).await.unwrap();
        let next = list(1, 1, page.next_page_token.clone()).await.unwrap();
        assert_eq!((paths(&page), paths(&next)), (vec!["b.txt".to_owned()], vec!["c.txt".to_owned()]));
        assert!(next.next_page_token.is_empty());
        assert_eq!(list(0, 1, page.next_page_token.clone()).await.unwrap_err().code(), Code::InvalidArgument);
        assert!(list(2, 50, String::new()).await.unwrap().changes.is_empty(), "nothing since the newest");
        let patch = async |path: &str, since_version| {
            let path = path.to_owned();
            let request =
                GetWorkPatchRequest { task_id: task.to_string(), path, since_version, ..Default::default() };
            get_work_patch(&f.cx, &f.member, request).await
        };
        let since = patch("b.txt", 1).await.unwrap();
        let text = String::from_utf8(since.patch.to_vec()).unwrap();
        assert!(text.contains("-two\n+2\n") && !text.contains("+one"), "{text}");
        assert_eq!(since.change.unwrap().content, second.changes[1].content);
        assert_eq!(patch("a.txt", 1).await.unwrap_err().code(), Code::NotFound, "it is the same");
        // The agent undoes everything, which needs no import.
        let base = git(&f.origin, &["rev-parse", "HEAD"]);
        let nothing = f.handed_over(&repository, &task, &base, &base, Vec::new());
        import_work(&f.cx, &Caller::service("provisioner"), stream(nothing)).await.unwrap();
        let undone = list(2, 50, String::new()).await.unwrap();
        assert_eq!((undone.since_version, undone.with_merged), (2, false));
        assert_eq!(paths(&undone), ["a.txt", "b.txt", "c.txt"]);
        assert!(undone.changes.iter().all(|c| c.content == "deleted"));
        assert_eq!(list(1, 1, page.next_page_token).await.unwrap_err().reason(), "WORK_CHANGED");
        assert_eq!(list(4, 1, String::new()).await.unwrap_err().code(), Code::InvalidArgument);
        let mut ws = foundry_store::WriteSet::new();
        let second = [task.as_str().into(), 2.into()];
        ws.remove(&crate::store::work_versions::WORK_VERSIONS, &second);
        f.cx.store.commit(ws).await.unwrap();
        let before = list(2, 50, String::new()).await.unwrap();
        assert_eq!((before.since_version, paths(&before).len()), (1, 2), "the newest one before it");
        let mut ws = foundry_store::WriteSet::new();
        crate::store::work_versions::forget_all(&mut ws, task.as_str());
        f.cx.store.commit(ws).await.unwrap();
        assert_eq!(list(1, 1, String::new()).await.unwrap_err().reason(), "WORK_VERSION_GONE");
    }
}
