//! Lists the changed files of a work.

use foundry_authn::Caller;
use foundry_core::{PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListWorkChangesRequest, ListWorkChangesResponse};

use crate::context::Context;
use crate::store::changes::{self, Against};

/// A stored read of the newest complete version.
///
/// # Errors
/// `NOT_FOUND`; `WORK_CHANGED` for the next page of a version that a newer one has replaced.
pub async fn list_work_changes(
    cx: &Context,
    caller: &Caller,
    request: ListWorkChangesRequest,
) -> Result<ListWorkChangesResponse> {
    let (work, moment) = cx.work_and_moment(caller, &request.task_id, Role::Viewer).await?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) =
        changes::list(&moment, Against::of(&work, request.whole), &work.task_id, work.version, &page).await?;
    Ok(ListWorkChangesResponse {
        work: Some(work.to_proto()),
        changes: found,
        next_page_token: PageToken::encode_next(next),
    })
}

#[cfg(test)]
mod tests {
    use foundry_core::TaskId;

    use super::*;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, stream};

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
            let request =
                ListWorkChangesRequest { task_id: task.to_string(), page_size: 1, page_token, whole: false };
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
}
