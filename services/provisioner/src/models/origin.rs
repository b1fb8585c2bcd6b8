//! `origin` inside a sandbox: which repository it may fetch from, and the fetch itself, by the repo service.

use foundry_core::{Error, SandboxId};
use foundry_model_gateway::{OriginAccess, OriginRefused, SandboxProof};
use foundry_proto::repo::v1::{ServeFetchRequest, ServeFetchResponse};
use foundry_sandbox::key::same;
use tonic::{Status, Streaming};

use crate::shared::Shared;
use crate::store::sandboxes;

/// The repository of the sandbox with this token, if the request came through its own runtime.
///
/// # Errors
/// When there is no such sandbox, or it is being destroyed.
pub async fn access(
    shared: &Shared,
    token: &str,
    proof: Option<&SandboxProof>,
) -> Result<OriginAccess, OriginRefused> {
    let unavailable = |e: Error| OriginRefused::Unavailable(e.to_string());
    let proof = proof.ok_or(OriginRefused::Token)?;
    let id: SandboxId = proof.sandbox.parse().map_err(|_| OriginRefused::Token)?;
    let found = sandboxes::find(&shared.store, &id).await.map_err(unavailable)?;
    let ours = found.filter(|sandbox| {
        let facts = sandbox.facts.as_ref().filter(|f| f.key.is_set() && !sandbox.state.is_ending());
        facts.is_some_and(|facts| {
            proof.instance == facts.runtime_instance
                && proof.verify(&facts.key)
                && same(token, &facts.key.git_token(id.as_str()))
        })
    });
    let sandbox = ours.ok_or(OriginRefused::Token)?;
    Ok(OriginAccess {
        sandbox: id.to_string(),
        organization: sandbox.organization_id.to_string(),
        repository: sandbox.repository_id,
        task: sandbox.task_id.to_string(),
    })
}

/// Has the repo service answer one request of a fetch.
///
/// # Errors
/// As it refuses it.
pub async fn fetch(
    shared: &Shared,
    request: ServeFetchRequest,
) -> Result<Streaming<ServeFetchResponse>, Status> {
    Ok(shared.repo.clone().serve_fetch(request).await?.into_inner())
}

#[cfg(test)]
mod tests {
    use foundry_model_gateway::Ledger as _;
    use foundry_proto::provisioner::v1::DestroySandboxRequest;
    use foundry_sandbox::{RuntimeFacts, RuntimeKey};
    use foundry_store::WriteSet;

    use super::*;
    use crate::models::mcp_tests::ledger;
    use crate::ops::destroy_sandbox::destroy_sandbox;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn only_a_living_sandbox_with_its_own_token_and_proof_gets_its_own_repository() {
        let f = Fixture::new().await;
        let sandbox = f.ensure().await;
        f.run().await;
        let id = sandbox.sandbox_id.as_str();
        let sandbox = f.sandbox(id).await;
        let key = RuntimeKey::generate(&f.env.env);
        let facts = RuntimeFacts { key: key.clone(), ..sandbox.facts.clone().unwrap() };
        let mut ws = WriteSet::new();
        sandboxes::update(&mut ws, &sandbox, vec![("facts", sandboxes::facts_value(&facts).unwrap())]);
        f.shared.store.commit(ws).await.unwrap();
        let ledger = ledger(&f);
        let (nonce, instance) = ("9".repeat(64), facts.runtime_instance.as_str());
        let (token, proof) = (key.git_token(id), SandboxProof::of(&key, id, instance, &nonce));
        let found = ledger.origin(&token, Some(&proof)).await.unwrap();
        assert_eq!(
            (found.organization, found.repository, found.task),
            (sandbox.organization_id.to_string(), sandbox.repository_id.clone(), sandbox.task_id.to_string())
        );

        let other = RuntimeKey::generate(&f.env.env);
        let of_session = key.model_token("ses_1");
        for (token, proof) in [
            (&token, None),
            (&token, Some(SandboxProof::of(&other, id, instance, &nonce))),
            (&token, Some(SandboxProof::of(&key, id, "run9", &nonce))),
            (&token, Some(SandboxProof::of(&key, "sbx_00000000000000000000000000000000", instance, &nonce))),
            (&other.git_token(id), Some(proof.clone())),
            (&of_session, Some(proof.clone())),
            (&String::new(), Some(proof.clone())),
        ] {
            let refused = ledger.origin(token, proof.as_ref()).await;
            assert_eq!(refused, Err(OriginRefused::Token), "{token} {proof:?}");
        }
        let request = DestroySandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
        destroy_sandbox(&f.shared, &f.task, request).await.unwrap();
        assert_eq!(ledger.origin(&token, Some(&proof)).await, Err(OriginRefused::Token));
    }
}
