//! `foundry repo webhook`: where hosts of repositories announce changes.

use std::process::ExitCode;

use foundry_proto::repo::v1::create_repository_webhook_request::Target;
use foundry_proto::repo::v1::{
    CreateRepositoryWebhookRequest, CreateRepositoryWebhookResponse, DeleteRepositoryWebhookRequest,
    ListRepositoryWebhooksRequest, Repository, RepositoryWebhook, RepositoryWebhookForge,
    RepositoryWebhookRefusals,
};

use crate::cli::Output;
use crate::cli::webhook::{Forge, Webhook};
use crate::client::{Gateway, request_id};
use crate::commands::credential::looks_like_a_host;
use crate::commands::{follow, repo};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Webhook) -> Result<ExitCode, Failure> {
    match command {
        Webhook::Add { target, forge } => add(gateway, output, target, forge).await?,
        Webhook::List => list(gateway, output).await?,
        Webhook::Remove { webhook } => {
            let repository_webhook_id = resolve(gateway, &webhook).await?.repository_webhook_id;
            let request = DeleteRepositoryWebhookRequest { request_id: request_id(), repository_webhook_id };
            let answer = gateway.repo().delete_repository_webhook(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("removed"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(gateway: &Gateway, output: Output, target: String, forge: Option<Forge>) -> Result<(), Failure> {
    let repository = match looks_like_a_host(&target) {
        true => repo::find(gateway, &target).await?,
        false => Some(repo::resolve(gateway, Some(&target)).await?),
    };
    let address = repository.as_ref().map_or(target.as_str(), |r| &r.url);
    let forge = forge.or_else(|| guessed(address)).ok_or_else(|| {
        Failure::new("which software the host runs is not known")
            .next("name it with --forge github, gitlab, gitea or forgejo")
            .exit(2)
    })?;
    let request = CreateRepositoryWebhookRequest {
        request_id: request_id(),
        organization_id: gateway.organization().await?,
        forge: wire(forge).into(),
        target: Some(match repository {
            Some(repository) => Target::RepositoryId(repository.repository_id),
            None => Target::Host(target),
        }),
    };
    let answer = gateway.repo().create_repository_webhook(request).await?.into_inner();
    output::one(output, &answer, |answer| show_new(gateway, answer))
}

fn show_new(gateway: &Gateway, answer: &CreateRepositoryWebhookResponse) {
    let webhook = answer.repository_webhook.clone().unwrap_or_default();
    output::line(&webhook.repository_webhook_id);
    output::line(&format!("  address       {}", gateway.address_of(&webhook.path)));
    output::line("  content type  application/json");
    let secret = answer.secret.as_ref().map_or("", |secret| &secret.value);
    output::line(&format!("  secret        {secret}"));
    output::line(
        "Enter them at the host, which must be able to reach the address. The secret is not shown again.",
    );
}

/// By the name of the host.
fn guessed(address: &str) -> Option<Forge> {
    let known = [
        ("github", Forge::Github),
        ("gitlab", Forge::Gitlab),
        ("gitea", Forge::Gitea),
        ("forgejo", Forge::Forgejo),
        ("codeberg", Forge::Forgejo),
    ];
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host).split(':').next().unwrap_or_default();
    let host = host.to_ascii_lowercase();
    known.into_iter().find(|(name, _)| host.contains(name)).map(|(_, forge)| forge)
}

fn wire(forge: Forge) -> RepositoryWebhookForge {
    match forge {
        Forge::Github => RepositoryWebhookForge::Github,
        Forge::Gitlab => RepositoryWebhookForge::Gitlab,
        Forge::Gitea => RepositoryWebhookForge::Gitea,
        Forge::Forgejo => RepositoryWebhookForge::Forgejo,
    }
}

async fn list(gateway: &Gateway, output: Output) -> Result<(), Failure> {
    let all = all(gateway).await?;
    if output == Output::Json {
        return all.iter().try_for_each(|it| output::json(it).map(|text| output::line(&text)));
    }
    let repositories = repo::all(gateway).await?;
    let rows = all.iter().map(|it| {
        let last = it.last_delivery.clone().unwrap_or_default();
        let result = output::state(last.result().as_str_name(), "REPOSITORY_WEBHOOK_RESULT_");
        vec![
            it.repository_webhook_id.clone(),
            output::state(it.forge().as_str_name(), "REPOSITORY_WEBHOOK_FORGE_"),
            it.host.clone(),
            output::inert(&target(it, &repositories)),
            last.receive_time.as_ref().map_or_else(|| "none yet".to_owned(), |at| output::time(Some(at))),
            last.event.clone(),
            if it.last_delivery.is_some() { result } else { String::new() },
            it.refusals.as_ref().map(refused).unwrap_or_default(),
        ]
    });
    let header = ["id", "forge", "host", "repository", "last delivery", "event", "result", "refused"];
    output::table(&header, rows.collect());
    all.iter().for_each(|it| follow::print_condition(it.notice.as_ref()));
    Ok(())
}

/// What the webhook is for, as people know it.
fn target(it: &RepositoryWebhook, repositories: &[Repository]) -> String {
    match repositories.iter().find(|r| r.repository_id == it.repository_id) {
        Some(repository) => repository.name.clone(),
        None if it.repository_id.is_empty() => format!("all at {}", it.host),
        None => it.repository_id.clone(),
    }
}

/// Deliveries with a wrong signature.
fn refused(it: &RepositoryWebhookRefusals) -> String {
    let from = if it.last_address.is_empty() { "an unknown address" } else { &it.last_address };
    format!("{}, last {} from {from}", it.count, output::time(it.last_time.as_ref()))
}

async fn all(gateway: &Gateway) -> Result<Vec<RepositoryWebhook>, Failure> {
    let organization_id = gateway.organization().await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListRepositoryWebhooksRequest {
            organization_id: organization_id.clone(),
            page_size: 0,
            page_token,
        };
        let page = gateway.repo().list_repository_webhooks(request).await?.into_inner();
        all.extend(page.repository_webhooks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// Finds a webhook by its id, or by the repository or host that it is for.
async fn resolve(gateway: &Gateway, wanted: &str) -> Result<RepositoryWebhook, Failure> {
    let all = all(gateway).await?;
    let repository = repo::find(gateway, wanted).await?.map(|r| r.repository_id);
    let is_wanted = |it: &&RepositoryWebhook| {
        it.repository_webhook_id == wanted
            || repository.as_ref().is_some_and(|id| it.repository_id == *id)
            || (it.repository_id.is_empty() && it.host == wanted)
    };
    let mut matching = all.iter().filter(is_wanted);
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => Err(Failure::new(format!("no such webhook: {wanted}"))
            .next("`foundry repo webhook list` shows those that there are")
            .exit(4)),
        (Some(_), Some(_)) => {
            Err(Failure::new("several webhooks match").next("choose one by its id").exit(2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_listed_with_the_name_of_its_repository_or_its_host() {
        let repository =
            Repository { repository_id: "repo_1".into(), name: "widgets".into(), ..Repository::default() };
        let of = |repository_id: &str| {
            let (repository_id, host) = (repository_id.into(), "git.example.org".into());
            target(
                &RepositoryWebhook { repository_id, host, ..RepositoryWebhook::default() },
                std::slice::from_ref(&repository),
            )
        };
        assert_eq!((of("repo_1"), of("")), ("widgets".to_owned(), "all at git.example.org".to_owned()));
        assert_eq!(of("repo_2"), "repo_2", "it was removed since");
    }

    #[test]
    fn the_name_of_a_host_says_what_runs_there() {
        for (address, forge) in [
            ("https://github.com/a/b", Some(Forge::Github)),
            ("git@gitlab.example.org:a/b", Some(Forge::Gitlab)),
            ("ssh://git@Codeberg.org:22/a/b", Some(Forge::Forgejo)),
            ("gitea.local", Some(Forge::Gitea)),
            ("https://git.example.org/github/x", None),
            ("/srv/github/x", None),
        ] {
            assert_eq!(guessed(address), forge, "{address}");
        }
    }
}
