//! TestModelProvider: makes one small call to the provider and returns the result; nothing is stored.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{TestModelProviderRequest, TestModelProviderResponse};

use super::model_provider_for;
use crate::domain::{ModelProvider, head, model_provider};
use crate::profiles::{CONCURRENT_TESTS, ModelAccess, ModelFinding, Probed};
use crate::shared::Shared;

/// How long the provider may take to answer.
const LIMIT: Duration = Duration::from_secs(9);
/// Longest text of the provider that is shown, in bytes.
const MAX_DETAIL: usize = 500;

/// Calls the provider once, with the requested model or the first one it lists. The admins of every organization may
/// test one of the environment, since their tasks can use it in any case.
///
/// # Errors
/// `NOT_FOUND`; `LIMIT_REACHED` when too many tests are running. Failures of the provider are in the answer.
pub async fn test_model_provider(
    shared: &Shared,
    caller: &Caller,
    request: TestModelProviderRequest,
) -> Result<TestModelProviderResponse> {
    let provider = model_provider_for(shared, caller, &request.model_provider_id, Role::Admin).await?;
    let model = [&request.model].into_iter().chain(&provider.view.models).find(|m| !m.is_empty());
    let begun = shared.env.clock.now();
    let access = ModelAccess::of(shared, &provider)?;
    let probed = match foreseen(&provider, &request.model) {
        Some(probed) => probed,
        None => {
            let Ok(_place) = shared.profiles.tests.try_acquire() else { return Err(busy()) };
            tokio::select! {
                probed = shared.profiles.probe.probe(&access, model.map(String::as_str)) => probed?,
                () = shared.env.clock.sleep(LIMIT) => Probed {
                    finding: ModelFinding::Host,
                    model: String::new(),
                    detail: format!("no response within {LIMIT:?}"),
                },
            }
        }
    };
    let took = shared.env.clock.now().since(begun);
    let (words, next_action) = probed.finding.words();
    let detail = access.scrub(&probed.detail);
    let (detail, _) = head(&detail, MAX_DETAIL);
    Ok(TestModelProviderResponse {
        result: probed.finding.to_proto().into(),
        message: if detail.is_empty() { words.to_owned() } else { format!("{words}: {detail}") },
        next_action: next_action.to_owned(),
        model: probed.model,
        duration_millis: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
    })
}

/// A finding that needs no call.
fn foreseen(provider: &ModelProvider, model: &str) -> Option<Probed> {
    let says = |finding, detail: String| Some(Probed { finding, model: String::new(), detail });
    let view = &provider.view;
    if !model.is_empty() && !provider.offers(model) {
        return says(ModelFinding::Model, format!("{model} is not among the models of {}", view.name));
    }
    let has_key = view.credential.as_ref().is_some_and(|c| c.has_key);
    let at_home = view.base_url == model_provider::default_url(view.kind());
    if !has_key && view.headers.is_empty() && at_home {
        return says(ModelFinding::Key, format!("{} has none", view.name));
    }
    None
}

fn busy() -> Error {
    let most = CONCURRENT_TESTS as u64;
    Error::quota("model_tests", "this server", most, most)
        .retry_after(Duration::from_secs(1))
        .next_action("try again; other model providers are being tested")
}
