//! Gives one operation on a remote the credential that is stored for it. Everything that talks to a remote gets its
//! [`RemoteUrl`] here; the secret is decrypted for it, and forgotten with it.

use std::path::PathBuf;

use foundry_core::{Error, OrganizationId, RepositoryCredentialId, Result};
use foundry_forge::{Forge, ForgeError, ForgeErrorKind, ForgeKind, Place};
use foundry_git::{Access, GitError, RemoteUrl};
use foundry_proto::common::v1::Condition;
use foundry_secrets::{Column, Keys, Sealed, Secret};
use foundry_store::{Guard, WriteSet};

use crate::app_tokens;
use crate::context::Context;
use crate::domain::credential::{self, Credential, Kind, State};
use crate::domain::finding;
use crate::domain::pull_request;
use crate::domain::repository::Repository;
use crate::store::credentials::{self, CREDENTIALS};

/// What decrypts credentials, and where keys for ssh are written while they are used.
pub struct Broker {
    pub keys: Keys,
    /// Emptied when the service starts.
    pub directory: PathBuf,
}

/// A remote for one operation. What gives access to it is removed when this is dropped.
pub struct Remote {
    pub url: RemoteUrl,
    access: Option<Access>,
    credential: Option<Credential>,
    /// Why the app that is stored for the host gives no access to this repository.
    left_out: Option<Error>,
}

/// The remote of a repository, with the credential for the repository, or else the one of its organization for the
/// host, if there is one. A repository that the installation of its host's app does not include is reached without access:
/// it may be public.
///
/// # Errors
/// When the URL is no longer allowed; `SECRET_UNREADABLE` when the key that encrypted the credential is missing.
pub async fn remote(cx: &Context, repository: &Repository) -> Result<Remote> {
    let url = RemoteUrl::parse(&repository.url, &cx.urls)?;
    let checks = finding::allowed(&cx.allow_findings, &url);
    let url = url.allowing(checks);
    let Some(origin) = url.origin() else { return Ok(Remote::open(url)) };
    let organization = &repository.organization_id;
    let own = credentials::find_for(&cx.store, organization, repository.repository_id.as_str()).await?;
    let found = match own {
        Some(own) => Some(own),
        None => credentials::find_for(&cx.store, organization, &origin).await?,
    };
    let Some(credential) = found else { return Ok(Remote::open(url)) };
    match with(cx, url.clone(), credential.clone()).await {
        Err(e) if is_left_out(&e) && credential.repository_id.is_none() => {
            Ok(Remote { credential: Some(credential), left_out: Some(e), ..Remote::open(url) })
        }
        Err(e) => {
            app_shown(cx, &credential, Err(&e)).await?;
            Err(e)
        }
        remote => remote,
    }
}

/// Another remote, such as that of a submodule, with the credential of the organization for its host, if there is one. A
/// credential for a single repository is for no other.
///
/// # Errors
/// As [`remote`].
pub async fn at_host(cx: &Context, organization: &OrganizationId, url: RemoteUrl) -> Result<Remote> {
    let Some(origin) = url.origin() else { return Ok(Remote::open(url)) };
    let Some(credential) = credentials::find_for(&cx.store, organization, &origin).await? else {
        return Ok(Remote::open(url));
    };
    match with(cx, url.clone(), credential).await {
        // It may be public.
        Err(e) if is_left_out(&e) => Ok(Remote::open(url)),
        remote => remote,
    }
}

/// Whether the installation of an app does not include the repository.
pub fn is_left_out(e: &Error) -> bool {
    e.reason() == "GITHUB_APP_NOT_INSTALLED"
}

/// Where the pull requests of a repository are.
///
/// # Errors
/// `FORGE_UNKNOWN` when its host is no known forge; when the URL is no longer allowed.
pub fn place(cx: &Context, repository: &Repository) -> Result<Place> {
    let url = RemoteUrl::parse(&repository.url, &cx.urls)?;
    let (host, path) = url.host_and_path().unwrap_or_default();
    let place = cx.forge_hosts.place(&host, path);
    place.ok_or_else(|| pull_request::no_forge(repository.repository_id.as_str(), &host))
}

/// A forge for one operation.
pub struct OpenForge {
    pub api: Box<dyn Forge>,
    /// Whose token it has, if that was made for an earlier operation by the key of an app.
    kept: Option<(RepositoryCredentialId, Place)>,
}

impl OpenForge {
    /// Whether a call was refused with a token that an app got for an earlier operation. It is forgotten then: the
    /// installation may have been changed since, and a token that is opened now has what it has now.
    pub fn is_outdated(&self, cx: &Context, e: &ForgeError) -> bool {
        let refused = matches!(e.kind(), ForgeErrorKind::CredentialsRefused | ForgeErrorKind::Forbidden);
        let Some((id, place)) = self.kept.as_ref().filter(|_| refused) else { return false };
        cx.app_tokens.forget_for(id, place);
        true
    }
}

/// The forge of a repository with the token that is stored for the repository, or else for its host.
///
/// # Errors
/// As [`place`]; `FORGE_CREDENTIALS_REQUIRED` without a token; `SECRET_UNREADABLE` when it cannot be decrypted;
/// `GITHUB_APP_REFUSED` or `GITHUB_APP_NOT_INSTALLED` when the host gives none.
pub async fn forge(cx: &Context, repository: &Repository) -> Result<OpenForge> {
    let place = place(cx, repository)?;
    let credential = api_credential(cx, repository, &place).await?;
    let sealed = Sealed::from_bytes(credential.sealed.as_ref());
    let mut token = cx.broker.keys.open(column(&credential.binding()), &sealed)?;
    let mut kept = None;
    if credential.kind == Kind::GitHubApp {
        let given = app_tokens::token(cx, &credential, &place, &token).await;
        // An earlier token says nothing of the app by now.
        if !given.as_ref().is_ok_and(|given| given.is_kept) {
            app_shown(cx, &credential, given.as_ref().map(drop)).await?;
        }
        let given = given?;
        kept = given.is_kept.then(|| (credential.credential_id.clone(), place.clone()));
        token = given.token;
    }
    Ok(OpenForge { api: cx.forges.open(&place, token, cx.env.clock.clone()), kept })
}

/// Shows at the credential of an app whether its host gives a token. That the installation lacks one repository says
/// nothing of the others.
async fn app_shown(
    cx: &Context,
    credential: &Credential,
    given: std::result::Result<(), &Error>,
) -> Result<()> {
    let (state, mut condition) = match given {
        Ok(()) if credential.condition.reason.starts_with("GITHUB_APP_") => {
            (State::Working, Condition::default())
        }
        Err(e) if says_of_app(credential, e) => (State::Failed, condition(e.reason(), e.message())),
        _ => return Ok(()),
    };
    if state == credential.state && condition.reason == credential.condition.reason {
        return Ok(());
    }
    let now = cx.env.clock.now();
    condition.since_time = Some(now.to_proto());
    let shown = Credential { state, condition, test_time: Some(now), ..credential.clone() };
    let mut ws = WriteSet::new();
    credentials::record(&mut ws, credential.rev, &shown)?;
    cx.store.commit(ws).await?;
    Ok(())
}

fn says_of_app(credential: &Credential, e: &Error) -> bool {
    let is_own = credential.repository_id.is_some();
    e.reason() == "GITHUB_APP_REFUSED" || (is_own && is_left_out(e))
}

/// The credential that the API of a host takes: a token, or a password in its place.
///
/// # Errors
/// `FORGE_CREDENTIALS_REQUIRED` when there is none.
pub async fn api_credential(cx: &Context, repository: &Repository, place: &Place) -> Result<Credential> {
    let (organization, id) = (&repository.organization_id, repository.repository_id.as_str());
    let url = RemoteUrl::parse(&repository.url, &cx.urls)?;
    let origin = url.origin().filter(|origin| !origin.starts_with("ssh:"));
    let origin = origin.unwrap_or_else(|| format!("https://{}", place.host));
    let mut has_key = false;
    for target in [id, origin.as_str()] {
        match credentials::find_for(&cx.store, organization, target).await? {
            Some(found) if found.kind != Kind::SshKey => return Ok(found),
            found => has_key |= found.is_some(),
        }
    }
    Err(pull_request::no_token(id, &origin, has_key))
}

/// A remote with this credential and no other.
///
/// # Errors
/// As [`remote`].
pub async fn with(cx: &Context, url: RemoteUrl, credential: Credential) -> Result<Remote> {
    let broker = &cx.broker;
    let sealed = Sealed::from_bytes(credential.sealed.as_ref());
    let secret = broker.keys.open(column(&credential.binding()), &sealed)?;
    let origin = credential.origin.clone();
    let access = match credential.kind {
        Kind::Token | Kind::Basic => Access::basic(origin, &credential.username, &secret),
        Kind::GitHubApp => {
            let (host, path) = url.host_and_path().unwrap_or_default();
            let place = cx.forge_hosts.place(&host, path).filter(|place| place.kind == ForgeKind::GitHub);
            let place =
                place.ok_or_else(|| pull_request::no_forge(credential.credential_id.as_str(), &host))?;
            let token = app_tokens::token(cx, &credential, &place, &secret).await?.token;
            Access::basic(origin, &credential.username, &token)
        }
        Kind::SshKey => {
            let known = credential.host_keys.iter().map(|key| key.public_key.clone()).collect();
            Access::ssh(origin, secret, known, &broker.directory).await?
        }
    };
    let url = url.with_access(access.clone());
    Ok(Remote { url, access: Some(access), credential: Some(credential), left_out: None })
}

impl Remote {
    /// Without a credential.
    const fn open(url: RemoteUrl) -> Self {
        Self { url, access: None, credential: None, left_out: None }
    }

    /// Reason and text of a failure. Where the app of the host gave no token and the remote wants one, it is that.
    pub fn why<'a>(&'a self, e: &'a GitError) -> (&'static str, &'a str) {
        const CLOSED: [&str; 3] =
            ["REPOSITORY_CREDENTIALS_REQUIRED", "GIT_AUTH_REQUIRED", "GIT_REMOTE_NOT_FOUND"];
        match &self.left_out {
            Some(left_out) if CLOSED.contains(&e.reason()) => (left_out.reason(), left_out.message()),
            _ => (e.reason(), e.message()),
        }
    }

    /// Guards a write set that says that the repository cannot be reached: nobody has stored another credential for it
    /// while it was tried. Otherwise it is tried again.
    pub fn is_newest(&self, ws: &mut WriteSet, repository: &Repository) {
        let organization = ("organization_id", repository.organization_id.as_str().into());
        let mut absent = |target: &str| {
            let is = [organization.clone(), ("target", target.into())];
            ws.guard(Guard::absent(&CREDENTIALS, &is));
        };
        let Some(used) = &self.credential else {
            absent(repository.repository_id.as_str());
            if let Some(origin) = self.url.origin() {
                absent(&origin);
            }
            return;
        };
        if used.repository_id.is_none() {
            absent(repository.repository_id.as_str());
        }
        let is = [("credential_id", used.credential_id.as_str().into())];
        ws.guard(Guard::exists(&CREDENTIALS, &is));
    }

    /// Adds what the use of the credential has shown to a write set: whether it was accepted, and the key of the host
    /// on the first connection. That one repository refuses the credential of its host says nothing of the others.
    ///
    /// # Errors
    /// `INTERNAL` when it cannot be encoded.
    pub async fn learned(
        &self,
        cx: &Context,
        ws: &mut WriteSet,
        result: std::result::Result<(), &GitError>,
    ) -> Result<()> {
        let is_own = self.credential.as_ref().is_some_and(|c| c.repository_id.is_some());
        self.judged(cx, ws, result, |e| is_own || e.reason() == "REPOSITORY_HOST_KEY_CHANGED").await
    }

    /// As [`Self::learned`], after a test of the credential itself.
    ///
    /// # Errors
    /// `INTERNAL` when it cannot be encoded.
    pub async fn tested(
        &self,
        cx: &Context,
        ws: &mut WriteSet,
        result: std::result::Result<(), &GitError>,
    ) -> Result<()> {
        self.judged(cx, ws, result, |_| true).await
    }

    async fn judged(
        &self,
        cx: &Context,
        ws: &mut WriteSet,
        result: std::result::Result<(), &GitError>,
        fails: impl Fn(&GitError) -> bool,
    ) -> Result<()> {
        let (Some(old), Some(access)) = (&self.credential, &self.access) else { return Ok(()) };
        let now = cx.env.clock.now();
        let mut new = old.clone();
        if old.kind == Kind::SshKey && old.host_keys.is_empty() {
            new.host_keys = credential::shown_host_keys(&access.host_keys().await, now);
        }
        if result.is_err_and(is_about_access) {
            // It may have been taken back before its end.
            cx.app_tokens.forget(&old.credential_id);
        }
        match result {
            Ok(()) => (new.state, new.condition) = (State::Working, Condition::default()),
            Err(e) if is_about_access(e) && fails(e) => {
                (new.state, new.condition) = (State::Failed, condition(e.reason(), e.message()));
            }
            // Whether the remote accepts it is not known.
            Err(_) => {}
        }
        let is_known = |condition: &Condition| condition.reason.clone();
        let same = new.state == old.state && is_known(&new.condition) == is_known(&old.condition);
        if same && new.host_keys == old.host_keys {
            return Ok(());
        }
        new.condition.since_time = Some(now.to_proto());
        new.test_time = Some(now);
        credentials::record(ws, old.rev, &new)
    }
}

/// Whether the remote has judged the credential, or the host is not the known one.
pub fn is_about_access(e: &GitError) -> bool {
    ["REPOSITORY_CREDENTIALS_REFUSED", "REPOSITORY_HOST_KEY_CHANGED"].contains(&e.reason())
}

/// A condition with what can be done about it.
pub fn condition(reason: &str, message: &str) -> Condition {
    Condition {
        reason: reason.to_owned(),
        message: message.to_owned(),
        next_action: next_action(reason).unwrap_or("test it again").to_owned(),
        retryable: true,
        ..Condition::default()
    }
}

/// What can be done about a remote that lets nobody in.
pub fn next_action(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "URL_HOST_NOT_ALLOWED" => "have an operator add the host to `repo.allowed_hosts`",
        "REPOSITORY_CREDENTIALS_REQUIRED" => {
            "store a credential in the repository's settings or with `foundry repo credential add`"
        }
        "REPOSITORY_CREDENTIALS_REFUSED" => {
            "store a credential that may read the repository, with `foundry repo credential add --replace`"
        }
        "REPOSITORY_HOST_KEY_CHANGED" => {
            "ask the operator of the host whether its key has changed; then accept the new one with \
             `foundry repo credential test --accept-host-key`"
        }
        "GITHUB_APP_REFUSED" => {
            "check the ids of the app and its installation at the host and that it is not suspended; then store its key \
             with `foundry repo credential add --replace`"
        }
        "GITHUB_APP_NOT_INSTALLED" => {
            "add the repository to the installation of the app at the host, then test the credential"
        }
        _ => return None,
    })
}

/// Encrypts a secret for the row of a credential.
///
/// # Errors
/// When it cannot be encrypted.
pub fn seal(cx: &Context, credential: &Credential, secret: &Secret) -> Result<bytes::Bytes, Error> {
    let sealed = cx.broker.keys.seal(column(&credential.binding()), secret)?;
    Ok(bytes::Bytes::copy_from_slice(sealed.as_bytes()))
}

/// The column of the secret; its encryption is bound to it.
pub const fn column(row: &str) -> Column<'_> {
    Column { service: "repo", table: CREDENTIALS.name(), row, column: "secret" }
}
