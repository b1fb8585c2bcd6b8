//! Schedules a test of a credential against its remote.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{TestRepositoryCredentialRequest, TestRepositoryCredentialResponse};
use foundry_server::RequestContext;
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::credential::State;
use crate::flow::check;
use crate::store::credentials;

/// Schedules a test; forgets the recorded keys of the host on request.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn test_repository_credential(
    cx: &Context,
    caller: &Caller,
    request: TestRepositoryCredentialRequest,
) -> Result<TestRepositoryCredentialResponse> {
    let id = &request.repository_credential_id;
    let organization = cx.credential(caller, id, Role::Admin).await?.organization_id;
    let method = "TestRepositoryCredential";
    let key = RequestKey::new(organization.as_str(), caller, method, &request.request_id, &request)?;
    if let Some((answer, rev)) = key.first_answer::<TestRepositoryCredentialResponse>(&cx.store).await? {
        return Ok(revised(answer, rev));
    }
    let scope = Scope::organization(&organization);
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let (mut ws, answer) = decide(cx, caller, &request).await?;
            key.remember(&mut ws, &answer, &cx.env);
            Ok((ws, answer))
        })
        .await;
    let (answer, rev) = key.settle(&cx.store, Some(&scope), decided).await?;
    Ok(revised(answer, rev))
}

async fn decide(
    cx: &Context,
    caller: &Caller,
    request: &TestRepositoryCredentialRequest,
) -> Result<(WriteSet, TestRepositoryCredentialResponse)> {
    let id = &request.repository_credential_id;
    let mut credential = cx.credential(caller, id, Role::Admin).await?;
    let organization = credential.organization_id.clone();
    credential.state = State::Testing;
    credential.condition =
        Condition { since_time: Some(cx.env.clock.now().to_proto()), ..Condition::default() };
    let mut ws = WriteSet::new();
    let mut action = "repository_credential.test";
    let mut set = vec![
        ("state", credential.state.as_str().into()),
        ("condition", prost::Message::encode_to_vec(&credential.condition).into()),
    ];
    if request.accept_host_key {
        action = "repository_credential.accept_host_key";
        credential.host_keys.clear();
        set.push(("host_keys", credentials::host_keys(&[])?));
    }
    credentials::update(&mut ws, &credential, set);
    // One that is under way may have begun with what is changed here.
    check::enqueue(cx, &mut ws, &credential, (&caller.actor(), &RequestContext::current_traceparent()));
    ws.audit(audit(&organization, caller, "", action, id, &request.request_id));
    Ok((ws, TestRepositoryCredentialResponse { repository_credential: Some(credential.to_proto()), rev: 0 }))
}

fn revised(mut answer: TestRepositoryCredentialResponse, rev: i64) -> TestRepositoryCredentialResponse {
    answer.rev = rev;
    if let Some(credential) = &mut answer.repository_credential {
        credential.rev = rev;
    }
    answer
}
