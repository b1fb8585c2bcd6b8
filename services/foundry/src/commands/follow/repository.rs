//! Waits until a repository is mirrored or removed.

use std::process::ExitCode;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_proto::repo::v1::{
    BranchOverview, Repository, RepositoryCredential, RepositoryItem, WatchRepositoriesRequest,
    WatchRepositoryRequest, repository_item::Item,
};
use foundry_watch::{Consumer, ConsumerConfig, Event, Op, State};
use tonic::{Code, Status};

use crate::client::Gateway;
use crate::failure::Failure;

/// Follows a repository until it is as wanted, at most `limit`.
///
/// # Errors
/// When it takes longer, or the watch is refused.
pub async fn repository(
    gateway: &Gateway,
    repository_id: &str,
    limit: Duration,
    wanted: impl Fn(&Repository) -> bool,
) -> Result<Repository, Failure> {
    let tasks = super::tasks();
    let mut watch = watch(gateway, &tasks, repository_id);
    let key = format!("repository/{repository_id}");
    let mut state = State::default();
    let settled = async {
        loop {
            let event = watch.next().await?;
            super::tell_connection(&event);
            state.apply(&event);
            if let Some(RepositoryItem { item: Some(Item::Repository(r)) }) = state.get(&key)
                && wanted(r)
            {
                return Ok(r.clone());
            }
        }
    };
    let late =
        || Failure::new("the repository is still being mirrored").next("check it with `foundry repo list`");
    tokio::time::timeout(limit, settled).await.unwrap_or_else(|_| Err(late()))
}

/// Follows a credential until it is as wanted, at most `limit`.
///
/// # Errors
/// When it takes longer, when it is deleted, or the watch is refused.
pub async fn credential(
    gateway: &Gateway,
    organization_id: &str,
    credential_id: &str,
    limit: Duration,
    wanted: impl Fn(&RepositoryCredential) -> bool,
) -> Result<RepositoryCredential, Failure> {
    let tasks = super::tasks();
    let (client, id) = (gateway.repo(), organization_id.to_owned());
    let mut watch: Consumer<RepositoryItem> =
        Consumer::start(&tasks, Env::system(), ConsumerConfig::new("credentials"), move |options| {
            let (mut client, organization_id) = (client.clone(), id.clone());
            async move {
                let request = WatchRepositoriesRequest { options: Some(options), organization_id };
                Ok(client.watch_repositories(request).await?.into_inner())
            }
        });
    let key = format!("credential/{credential_id}");
    let mut state = State::default();
    let settled = async {
        loop {
            let event = watch.next().await?;
            super::tell_connection(&event);
            state.apply(&event);
            match state.get(&key) {
                Some(RepositoryItem { item: Some(Item::RepositoryCredential(c)) }) if wanted(c) => {
                    return Ok(c.clone());
                }
                None if matches!(event, Event::Delta { .. }) => {
                    return Err(Failure::new("the credential was removed").exit(4));
                }
                _ => {}
            }
        }
    };
    let late = || {
        Failure::new("the credential is still being tested")
            .next("check it with `foundry repo credential list`")
    };
    tokio::time::timeout(limit, settled).await.unwrap_or_else(|_| Err(late()))
}

/// Follows a repository until it is gone, at most `limit`.
///
/// # Errors
/// When it takes longer, or the watch is refused.
pub async fn removal(gateway: &Gateway, repository_id: &str, limit: Duration) -> Result<(), Failure> {
    let tasks = super::tasks();
    let mut watch = watch(gateway, &tasks, repository_id);
    let gone = async {
        loop {
            let event = watch.next().await;
            if let Ok(event) = &event {
                super::tell_connection(event);
            }
            if is_gone(&event) {
                return Ok(());
            }
            event?;
        }
    };
    let late =
        || Failure::new("the repository is still being removed").next("check it with `foundry repo list`");
    tokio::time::timeout(limit, gone).await.unwrap_or_else(|_| Err(late()))
}

/// Follows a repository and its branches: `see` is called with each state that is complete, until Ctrl-C.
///
/// # Errors
/// When the watch is refused.
pub async fn branches(
    gateway: &Gateway,
    repository_id: &str,
    mut see: impl AsyncFnMut(&Repository, Vec<&BranchOverview>) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let tasks = super::tasks();
    let mut watch = watch(gateway, &tasks, repository_id);
    let key = format!("repository/{repository_id}");
    let mut state = State::default();
    super::until_interrupted("nothing else is changed by that", async {
        loop {
            let event = watch.next().await;
            let gone = is_gone(&event);
            let event = event?;
            super::tell_connection(&event);
            state.apply(&event);
            if gone {
                return Err(Failure::new("the repository has been removed"));
            }
            let Some(RepositoryItem { item: Some(Item::Repository(r)) }) = state.get(&key) else { continue };
            let branches = state.rows().values().filter_map(|(_, item)| match &item.item {
                Some(Item::Branch(branch)) => Some(branch),
                _ => None,
            });
            see(r, branches.collect()).await?;
        }
    })
    .await
}

/// Whether a watch of one repository shows that it does not exist any more.
fn is_gone<T>(event: &Result<Event<T>, Status>) -> bool {
    match event {
        Err(status) => status.code() == Code::NotFound,
        // Removed between the permission to watch and the snapshot.
        Ok(Event::Snapshot { rows, .. }) => rows.is_empty(),
        // A branch that is deleted has another key.
        Ok(Event::Delta { changes, .. }) => changes
            .iter()
            .any(|change| change.key.starts_with("repository/") && matches!(change.op, Op::Deleted)),
        Ok(_) => false,
    }
}

fn watch(gateway: &Gateway, tasks: &Tasks, repository_id: &str) -> Consumer<RepositoryItem> {
    let (client, id) = (gateway.repo(), repository_id.to_owned());
    Consumer::start(tasks, Env::system(), ConsumerConfig::new("repository"), move |options| {
        let (mut client, repository_id) = (client.clone(), id.clone());
        async move {
            let request = WatchRepositoryRequest { options: Some(options), repository_id };
            Ok(client.watch_repository(request).await?.into_inner())
        }
    })
}
