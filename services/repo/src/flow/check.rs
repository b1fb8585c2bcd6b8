//! Brings a stored credential into use: synchronizes the repositories that wait for it, and tests it.

use std::time::Duration;

use foundry_core::{
    Code, Error, FlowId, OrganizationId, PageRequest, RepositoryCredentialId, RepositoryId, Result,
};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Projection, Retry, Stage, StageContext, Transition, stage,
};
use foundry_git::{Mirror, MirrorLimits, RemoteUrl};
use foundry_proto::common::v1::Condition;
use foundry_store::WriteSet;

use super::{pulls, sync};
use crate::broker::{self, Remote};
use crate::context::Context;
use crate::domain::credential::{self, Credential, State};
use crate::domain::pull_request::CREDENTIAL;
use crate::domain::repository::{Repository, State as RepositoryState};
use crate::store::{credentials, repositories};

const RETRY: Retry =
    Retry { initial: Duration::from_secs(1), factor: 2, max_delay: Duration::from_secs(10), budget: 3 };

/// The subject is the credential's id; each test is a flow of its own.
pub static CHECK: Flow<Context> = Flow::new(
    "repository_credential_check",
    &[
        Stage::new("synchronizing", Duration::from_secs(60), RETRY, |cx, flow| stage(synchronize(cx, flow))),
        Stage::new(TESTING, Duration::from_secs(90), RETRY, |cx, flow| stage(test(cx, flow))),
    ],
)
// Most of them wait for a remote.
.concurrency(8);

const TESTING: &str = "testing";

/// Most repositories that a GitHub App is tried with.
const MAX_TRIED: usize = 50;

/// Adds a test for a user, as part of a request.
pub fn enqueue(cx: &Context, ws: &mut WriteSet, credential: &Credential, (user, trace): (&str, &str)) {
    let id = FlowId::generate(&cx.env);
    let flow = NewFlow::new(&CHECK, id.clone(), id.as_str(), credential.credential_id.as_str())
        .organization(&credential.organization_id)
        .on_behalf_of(user)
        .traced(trace);
    foundry_flow::enqueue(ws, flow);
}

async fn load(cx: &Context, flow: &StageContext) -> Result<Option<Credential>> {
    let id: RepositoryCredentialId = flow.subject_id().parse()?;
    credentials::find(&cx.store, &id).await
}

/// Starts the synchronization of every repository that the credential may mend.
async fn synchronize(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let Some(credential) = load(cx, flow).await? else { return Ok(Outcome::done()) };
    let waiting = using(cx, &credential).await?.into_iter().filter(credential::may_mend);
    for repository in waiting {
        start(cx, flow, &repository.repository_id).await?;
    }
    let mut ws = WriteSet::new();
    for repository in stale_pulls(cx, &credential).await? {
        pulls::want(cx, &mut ws, &repository, CREDENTIAL);
    }
    Ok(Outcome::done().recording(ws))
}

async fn start(cx: &Context, flow: &StageContext, id: &RepositoryId) -> Result<()> {
    let committed = cx
        .store
        .retry_on_conflict(|| async {
            let mut ws = WriteSet::new();
            let found = repositories::find(&cx.store, id).await?;
            // It may have been mended or deleted by now.
            if let Some(repository) = found.filter(credential::may_mend) {
                sync::schedule(cx, &mut ws, &repository, (&flow.flow().user_id, flow.traceparent())).await?;
            }
            Ok((ws, ()))
        })
        .await;
    committed.map(drop).map_err(Into::into)
}

/// The repositories whose pull requests could not be read, and are read with this credential.
async fn stale_pulls(cx: &Context, credential: &Credential) -> Result<Vec<Repository>> {
    let all = match &credential.repository_id {
        Some(id) => repositories::find(&cx.store, id).await?.into_iter().collect(),
        None => registered(cx, &credential.organization_id).await?,
    };
    let mut found = Vec::new();
    for r in all.into_iter().filter(|r| r.pulls.sync.as_ref().is_some_and(|sync| sync.stale.is_some())) {
        let Ok(place) = broker::place(cx, &r) else { continue };
        let used = broker::api_credential(cx, &r, &place).await;
        if used.is_ok_and(|used| used.credential_id == credential.credential_id) {
            found.push(r);
        }
    }
    Ok(found)
}

/// The repositories of an organization.
async fn registered(cx: &Context, organization: &OrganizationId) -> Result<Vec<Repository>> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = PageRequest::parse(500, &token)?;
        let (some, next) = repositories::list(&cx.store, organization, &page).await?;
        found.extend(some);
        token = foundry_core::PageToken::encode_next(next);
        if token.is_empty() {
            return Ok(found);
        }
    }
}

/// The repositories that the credential is for, without those that have one of their own.
async fn using(cx: &Context, credential: &Credential) -> Result<Vec<Repository>> {
    if let Some(id) = &credential.repository_id {
        return Ok(repositories::find(&cx.store, id).await?.into_iter().collect());
    }
    let mut found = Vec::new();
    let is_there = |r: &Repository| {
        let url = RemoteUrl::parse(&r.url, &cx.urls).ok();
        url.and_then(|url| url.origin()).is_some_and(|origin| origin == credential.origin)
    };
    for repository in registered(cx, &credential.organization_id).await?.into_iter().filter(is_there) {
        let own = repository.repository_id.as_str();
        if credentials::find_for(&cx.store, &credential.organization_id, own).await?.is_none() {
            found.push(repository);
        }
    }
    Ok(found)
}

/// Asks the remote for its HEAD with the credential.
async fn test(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let Some(credential) = load(cx, flow).await? else { return Ok(Outcome::done()) };
    let mut ws = WriteSet::new();
    let found = using(cx, &credential).await?;
    let found: Vec<_> = found.into_iter().filter(|r| r.state != RepositoryState::Deleting).collect();
    if found.is_empty() {
        let mut new = credential.clone();
        new.state = State::Untested;
        new.condition = Condition {
            message: format!("no repository at {} is registered yet", credential.origin),
            ..Condition::default()
        };
        credentials::record(&mut ws, credential.rev, &new)?;
        return Ok(Outcome::done().recording(ws));
    }
    // What is tested is the key, not a token that it has got before.
    cx.app_tokens.forget(&credential.credential_id);
    let opened = tokio::select! {
        opened = opened(cx, &credential, &found) => opened,
        () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the test was stopped")),
    };
    let remote = match opened {
        Ok(remote) => remote,
        Err(e) if matches!(e.code(), Code::Internal | Code::Unavailable) => return Err(e),
        Err(e) => return failed(&credential, e.reason(), e.message()),
    };
    let tested = tokio::select! {
        tested = Mirror::check_remote(&cx.git, &remote.url, MirrorLimits::default()) => tested,
        () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the test was stopped")),
    };
    match tested {
        Err(e) if e.retryable() => Ok(Outcome::retry(e.reason(), e.message())),
        Err(e) if !broker::is_about_access(&e) => failed(&credential, e.reason(), e.message()),
        tested => {
            remote.tested(cx, &mut ws, tested.as_ref().map(drop)).await?;
            Ok(Outcome::done().recording(ws))
        }
    }
}

/// The first of these repositories that the credential is good for: the installation of an app includes some alone.
async fn opened(cx: &Context, credential: &Credential, found: &[Repository]) -> Result<Remote> {
    let mut left_out = None;
    for repository in found.iter().take(MAX_TRIED) {
        let url = RemoteUrl::parse(&repository.url, &cx.urls)?;
        match broker::with(cx, url, credential.clone()).await {
            Err(e) if broker::is_left_out(&e) => left_out = left_out.or(Some(e)),
            opened => return opened,
        }
    }
    Err(left_out.unwrap_or_else(|| Error::internal("there is no repository to test a credential with")))
}

fn failed(credential: &Credential, reason: &str, message: &str) -> Result<Outcome> {
    let mut ws = WriteSet::new();
    let mut new = credential.clone();
    (new.state, new.condition) = (State::Failed, broker::condition(reason, message));
    credentials::record(&mut ws, credential.rev, &new)?;
    Ok(Outcome::done().recording(ws))
}

/// Ends the test of a credential whose flow has failed.
pub struct Shown;

impl Projection for Shown {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut ws = WriteSet::new();
        let ended = matches!(flow.transition, Some(Transition::Failed | Transition::Parked));
        if let (true, Some(organization)) = (ended, &flow.organization_id) {
            let condition = foundry_flow::condition(&CHECK, flow);
            let next_action = broker::next_action(&flow.reason).unwrap_or("test it again").to_owned();
            let condition = Condition { next_action, retryable: true, ..condition };
            credentials::fail(&mut ws, organization, &flow.subject_id, &condition);
        }
        ws
    }
}
