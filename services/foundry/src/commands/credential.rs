//! `foundry repo credential`: credentials for private repositories.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use foundry_proto::common::v1::SecretText;
use foundry_proto::repo::v1::create_repository_credential_request::Target;
use foundry_proto::repo::v1::{
    CreateRepositoryCredentialRequest, DeleteRepositoryCredentialRequest, ListRepositoryCredentialsRequest,
    Repository, RepositoryCredential, RepositoryCredentialKind, RepositoryCredentialState,
    RepositoryGithubApp, TestRepositoryCredentialRequest,
};

use crate::cli::Output;
use crate::cli::credential::{Credential, CredentialKind};
use crate::client::{Gateway, request_id};
use crate::commands::{follow, repo, secret};
use crate::failure::Failure;
use crate::output;

/// How long to wait for a test.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Credential) -> Result<ExitCode, Failure> {
    match command {
        Credential::Add {
            target,
            kind,
            github_app,
            installation,
            user,
            file,
            host_keys,
            replace,
            no_wait,
        } => {
            let mut request = CreateRepositoryCredentialRequest {
                request_id: request_id(),
                organization_id: gateway.organization().await?,
                username: user,
                replace,
                host_keys: host_keys.map_or(Ok(String::new()), |path| read(&path))?,
                ..CreateRepositoryCredentialRequest::default()
            };
            aim(gateway, &mut request, target, kind).await?;
            if let (Some(app_id), Some(installation_id)) = (github_app, installation) {
                request.set_kind(RepositoryCredentialKind::GithubApp);
                request.github_app = Some(RepositoryGithubApp { app_id, installation_id });
            }
            request.secret = Some(the_secret(request.kind(), file.as_deref())?);
            let answer = gateway.repo().create_repository_credential(request).await?.into_inner();
            settle(gateway, output, answer.repository_credential.unwrap_or_default(), !no_wait).await
        }
        Credential::List => list(gateway, output).await,
        Credential::Test { credential, accept_host_key } => {
            let repository_credential_id = resolve(gateway, &credential).await?.repository_credential_id;
            let request = TestRepositoryCredentialRequest {
                request_id: request_id(),
                repository_credential_id,
                accept_host_key,
            };
            let answer = gateway.repo().test_repository_credential(request).await?.into_inner();
            settle(gateway, output, answer.repository_credential.unwrap_or_default(), true).await
        }
        Credential::Remove { credential } => {
            let repository_credential_id = resolve(gateway, &credential).await?.repository_credential_id;
            let request =
                DeleteRepositoryCredentialRequest { request_id: request_id(), repository_credential_id };
            let answer = gateway.repo().delete_repository_credential(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("removed"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Sets target and kind by what the user named: a repository, or else a host.
async fn aim(
    gateway: &Gateway,
    request: &mut CreateRepositoryCredentialRequest,
    target: String,
    kind: Option<CredentialKind>,
) -> Result<(), Failure> {
    let repository = match looks_like_a_host(&target) {
        true => repo::find(gateway, &target).await?,
        false => Some(repo::resolve(gateway, Some(&target)).await?),
    };
    let by_ssh = repository.as_ref().map_or(target.starts_with("ssh://"), is_by_ssh);
    let kind = kind.unwrap_or(if by_ssh { CredentialKind::SshKey } else { CredentialKind::Token });
    request.set_kind(match kind {
        CredentialKind::Token => RepositoryCredentialKind::Token,
        CredentialKind::Basic => RepositoryCredentialKind::Basic,
        CredentialKind::SshKey => RepositoryCredentialKind::SshKey,
    });
    if is_open(repository.as_ref().map_or(&target, |r| &r.url)) {
        eprintln!("warning: http sends the secret unencrypted; use https where the host offers it");
    }
    request.target = Some(match repository {
        Some(repository) => Target::RepositoryId(repository.repository_id),
        None => Target::Host(target),
    });
    Ok(())
}

/// Whether a word can be a host; a repository of that name goes first.
pub fn looks_like_a_host(word: &str) -> bool {
    !word.starts_with("repo_") && (word.contains(['.', ':']) || word == "localhost")
}

/// Whether everybody on the way can read what is sent there; on this host nobody can.
fn is_open(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    !["localhost", "127.", "[::1]"].iter().any(|local| rest.starts_with(local))
}

fn is_by_ssh(repository: &Repository) -> bool {
    let url = &repository.url;
    url.starts_with("ssh://") || (!url.contains("://") && !url.starts_with('/') && url.contains('@'))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())).exit(2))
}

/// A key is all of the input, anything else its only line.
fn the_secret(kind: RepositoryCredentialKind, file: Option<&Path>) -> Result<SecretText, Failure> {
    let is_key = matches!(kind, RepositoryCredentialKind::SshKey | RepositoryCredentialKind::GithubApp);
    let what = match kind {
        RepositoryCredentialKind::SshKey | RepositoryCredentialKind::GithubApp => "private key",
        RepositoryCredentialKind::Basic => "password",
        _ => "token",
    };
    let ways = "pipe it in, or name a file with --file";
    let value = match file {
        Some(path) => read(path)?,
        None if is_key => secret::whole("private key")?,
        None => return secret::read_from(what, ways),
    };
    if !is_key {
        return secret::line(what, &value, ways);
    }
    if value.trim().is_empty() {
        return Err(Failure::new(format!("no {what} given")).next(ways).exit(2));
    }
    Ok(SecretText { value })
}

/// Waits for the end of a test and prints its result.
async fn settle(
    gateway: &Gateway,
    output: Output,
    credential: RepositoryCredential,
    wait: bool,
) -> Result<ExitCode, Failure> {
    let mut credential = credential;
    if wait {
        let id = credential.repository_credential_id.clone();
        let organization = credential.organization_id.clone();
        let rev = credential.rev;
        let tested =
            |c: &RepositoryCredential| c.rev >= rev && c.state() != RepositoryCredentialState::Testing;
        credential = follow::credential(gateway, &organization, &id, LIMIT, tested).await?;
    }
    output::one(output, &credential, show)?;
    let failed = credential.state() == RepositoryCredentialState::Failed;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(c: &RepositoryCredential) {
    let state = output::state(c.state().as_str_name(), "REPOSITORY_CREDENTIAL_STATE_");
    output::line(&format!("{}  {}  {state}", c.repository_credential_id, c.origin));
    if let Some(app) = &c.github_app {
        output::line(&output::inert(&format!("  GitHub App  {}", installed(app))));
    }
    for key in &c.host_keys {
        let how = if key.given { "given" } else { "recorded on the first connection" };
        output::line(&output::inert(&format!("  host key  {} {} ({how})", key.algorithm, key.fingerprint)));
    }
    if !c.public_key.is_empty() {
        output::line(&output::inert(&format!("  deploy key  {}", c.public_key)));
    }
    follow::print_condition(c.condition.as_ref());
}

/// An app and its installation.
fn installed(app: &RepositoryGithubApp) -> String {
    format!("{}, installation {}", app.app_id, app.installation_id)
}

async fn list(gateway: &Gateway, output: Output) -> Result<ExitCode, Failure> {
    let all = all(gateway).await?;
    if output == Output::Json {
        all.iter().try_for_each(|c| output::json(c).map(|text| output::line(&text)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let names: HashMap<_, _> =
        repo::all(gateway).await?.into_iter().map(|r| (r.repository_id, r.name)).collect();
    let rows = all.iter().map(|c| {
        let named = names.get(&c.repository_id).unwrap_or(&c.repository_id);
        let target = if c.repository_id.is_empty() { "all there" } else { named };
        vec![
            c.repository_credential_id.clone(),
            c.origin.clone(),
            target.to_owned(),
            output::state(c.kind().as_str_name(), "REPOSITORY_CREDENTIAL_KIND_"),
            c.github_app.as_ref().map_or_else(|| c.username.clone(), installed),
            c.hint.clone(),
            output::state(c.state().as_str_name(), "REPOSITORY_CREDENTIAL_STATE_"),
            c.condition.as_ref().map(|c| c.reason.clone()).unwrap_or_default(),
        ]
    });
    let header = ["id", "origin", "repository", "kind", "user", "secret", "state", "reason"];
    output::table(&header, rows.collect());
    Ok(ExitCode::SUCCESS)
}

async fn all(gateway: &Gateway) -> Result<Vec<RepositoryCredential>, Failure> {
    let organization_id = gateway.organization().await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListRepositoryCredentialsRequest {
            organization_id: organization_id.clone(),
            page_size: 0,
            page_token,
        };
        let page = gateway.repo().list_repository_credentials(request).await?.into_inner();
        all.extend(page.repository_credentials);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// Finds a credential by its id, or by the repository or host that it is for.
async fn resolve(gateway: &Gateway, wanted: &str) -> Result<RepositoryCredential, Failure> {
    let all = all(gateway).await?;
    let repository = repo::find(gateway, wanted).await?.map(|r| r.repository_id);
    let is_wanted = |c: &&RepositoryCredential| {
        let at = c.origin.split_once("://").map_or("", |(_, host)| host);
        c.repository_credential_id == wanted
            || repository.as_ref().is_some_and(|id| c.repository_id == *id)
            || (c.repository_id.is_empty() && (c.origin == wanted || at == wanted))
    };
    let mut matching = all.iter().filter(is_wanted);
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => Err(Failure::new(format!("no such credential: {wanted}"))
            .next("`foundry repo credential list` shows those that there are")
            .exit(4)),
        (Some(_), Some(_)) => {
            Err(Failure::new("several credentials match").next("choose one by its id").exit(2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_dot_or_a_port_and_a_repository_has_neither() {
        for (word, is_host) in [
            ("github.com", true),
            ("git:2222", true),
            ("http://10.0.0.1:3000", true),
            ("localhost", true),
            ("demo", false),
            ("repo_0190", false),
        ] {
            assert_eq!(looks_like_a_host(word), is_host, "{word}");
        }
    }

    #[test]
    fn only_http_to_another_host_is_open_to_others() {
        assert!(is_open("http://git.example.org") && is_open("http://10.0.0.1:3000/a"));
        for url in
            ["https://git.example.org", "http://127.0.0.1:3000", "http://localhost/a", "git@h:a", "demo"]
        {
            assert!(!is_open(url), "{url}");
        }
    }

    #[test]
    fn a_repository_is_reached_by_ssh_in_both_notations() {
        for (url, by_ssh) in
            [("git@h:a/b", true), ("ssh://git@h/a", true), ("https://h/a@b", false), ("/srv/a@b", false)]
        {
            let repository = Repository { url: url.to_owned(), ..Repository::default() };
            assert_eq!(is_by_ssh(&repository), by_ssh, "{url}");
        }
    }
}
