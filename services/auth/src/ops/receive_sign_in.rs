//! ReceiveSignIn: records what came back from a provider, once, and starts to find out who it is. The browser that came
//! back gets a secret, which the session needs beside the claim.

use foundry_core::{FlowId, OrganizationId, Result};
use foundry_flow::NewFlow;
use foundry_proto::auth::v1::{ReceiveSignInRequest, ReceiveSignInResponse};
use foundry_secrets::Secret;
use foundry_service::{audit_as, with_detail};
use foundry_store::{Value, WriteSet};

use crate::auth::Auth;
use crate::domain::sign_in::{SignInRow, State, hash, new_secret, unknown, used, wrong_provider};
use crate::flow::sign_in::SIGN_IN;
use crate::store::organizations;
use crate::store::sign_ins::{self, Held};

/// Longest code, state or error that is looked at.
const MAX_TEXT: usize = 4 << 10;

pub(crate) async fn receive_sign_in(
    auth: &Auth,
    request: ReceiveSignInRequest,
) -> Result<ReceiveSignInResponse> {
    for text in [&request.state, &request.code, &request.error, &request.issuer, &request.browser_binding] {
        if text.len() > MAX_TEXT {
            return Err(unknown());
        }
    }
    let row = sign_ins::by_state(&auth.store, hash(&request.state)).await?.ok_or_else(unknown)?;
    row.check_return(&request.provider, &request.browser_binding, auth.env.clock.now())?;
    if !auth.sign_in.provider(&row.provider)?.is_sender(&request.issuer) {
        return Err(wrong_provider());
    }
    let mut set = WriteSet::new();
    // Refusals are audited where the user would have come in.
    let organization = organizations::home(&auth.store).await?;
    let return_secret = new_secret(&auth.env);
    let returned = ("return_hash", hash(&return_secret).to_vec().into());
    if request.code.is_empty() {
        deny(&mut set, &row, returned, &request.error, organization.as_ref());
    } else {
        receive(auth, &mut set, &row, returned, request.code, organization.as_ref())?;
    }
    match auth.store.commit(set).await {
        Ok(_) => Ok(ReceiveSignInResponse { sign_in_id: row.sign_in_id.to_string(), return_secret }),
        // The same address was called twice at once.
        Err(e) if e.is_concurrent_change() => Err(used()),
        Err(e) => Err(e.into()),
    }
}

fn receive(
    auth: &Auth,
    set: &mut WriteSet,
    row: &SignInRow,
    returned: (&'static str, Value),
    code: String,
    organization: Option<&OrganizationId>,
) -> Result<()> {
    let id = &row.sign_in_id;
    let sealed = auth.sign_in.keys.seal(Held::Code.bound_to(id), &Secret::new(code))?;
    let code = ("code", sealed.as_bytes().to_vec().into());
    sign_ins::advance(set, id, State::Begun, State::Received, &[code, returned]);
    let mut flow = NewFlow::new(&SIGN_IN, FlowId::generate(&auth.env), id.as_str(), id.as_str());
    if let Some(organization) = organization {
        flow = flow.organization(organization);
    }
    foundry_flow::enqueue(set, flow);
    Ok(())
}

/// The user said no at the provider, or the provider did.
fn deny(
    set: &mut WriteSet,
    row: &SignInRow,
    returned: (&'static str, Value),
    error: &str,
    organization: Option<&OrganizationId>,
) {
    let shown: String = error.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(40).collect();
    let message = match shown.as_str() {
        "" | "access_denied" => "the identity provider reports that the sign-in was not allowed".to_owned(),
        other => format!("the identity provider reports {other}"),
    };
    let reason = "SIGN_IN_DENIED";
    let mut more = vec![("reason", reason.into()), ("message", message.into()), returned];
    more.extend(sign_ins::forgotten());
    sign_ins::advance(set, &row.sign_in_id, State::Begun, State::Refused, &more);
    if let Some(organization) = organization {
        let record = audit_as("service:auth", organization, "sign_in.refuse", row.sign_in_id.as_str(), "");
        set.audit(with_detail(record, serde_json::json!({ "reason": reason })));
    }
}
