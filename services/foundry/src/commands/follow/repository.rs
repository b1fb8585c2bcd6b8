//! Waits until a repository is mirrored.

use std::time::Duration;

use foundry_core::Env;
use foundry_proto::repo::v1::{
    Repository, RepositoryItem, RepositoryState, WatchRepositoryRequest, repository_item::Item,
};
use foundry_watch::{Consumer, ConsumerConfig, State};

use crate::client::Gateway;
use crate::failure::Failure;

/// Follows a repository until it is ready or in error, at most `limit`.
///
/// # Errors
/// When it takes longer, or the watch is refused.
pub async fn repository(
    gateway: &Gateway,
    repository_id: &str,
    limit: Duration,
) -> Result<Repository, Failure> {
    let tasks = super::tasks();
    let (client, id) = (gateway.repo(), repository_id.to_owned());
    let mut watch: Consumer<RepositoryItem> =
        Consumer::start(&tasks, Env::system(), ConsumerConfig::new("repository"), move |options| {
            let (mut client, repository_id) = (client.clone(), id.clone());
            async move {
                let request = WatchRepositoryRequest { options: Some(options), repository_id };
                Ok(client.watch_repository(request).await?.into_inner())
            }
        });
    let key = format!("repository/{repository_id}");
    let mut state = State::default();
    let settled = async {
        loop {
            let event = watch.next().await?;
            super::tell_connection(&event);
            state.apply(&event);
            if let Some(RepositoryItem { item: Some(Item::Repository(r)) }) = state.get(&key)
                && matches!(r.state(), RepositoryState::Ready | RepositoryState::Error)
            {
                return Ok(r.clone());
            }
        }
    };
    let late =
        || Failure::new("the repository is still being mirrored").next("check it with `foundry repo list`");
    tokio::time::timeout(limit, settled).await.unwrap_or_else(|_| Err(late()))
}
