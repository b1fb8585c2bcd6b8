//! Watches one repository.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::WatchRepositoryRequest;
use foundry_store::WriteSet;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::domain::repository::Repository;
use crate::flow::background;
use crate::view::repositories;

/// Watches of one repository write at most this often that it is used.
const NOTED: Duration = Duration::from_secs(5 * 60);

/// Authorizes the watch.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn grant(cx: &Context, caller: &Caller, request: &mut WatchRepositoryRequest) -> Result<Granted> {
    let found = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    note_use(cx, &found).await;
    let view = repositories::of_repository(&found.organization_id, &found.repository_id);
    Ok(Granted::of_member(view, &found.organization_id))
}

/// A repository that somebody looks at is synchronized more often.
async fn note_use(cx: &Context, repository: &Repository) {
    if cx.env.clock.now().since(repository.sync.used) < NOTED {
        return;
    }
    let mut ws = WriteSet::new();
    background::used(cx, &mut ws, &repository.repository_id);
    if let Err(e) = cx.store.commit(ws).await {
        tracing::debug!(repository = %repository.repository_id, error = %e, "a use was not noted");
    }
}
