//! Finds out who came back from an identity provider, and lets them in or not.

use std::time::Duration;

use foundry_core::{Error, Result, SignInId};
use foundry_flow::{Flow, FlowStatus, Outcome, Projection, Retry, Stage, StageContext, Transition, stage};
use foundry_secrets::Secret;
use foundry_service::{audit_as, with_detail};
use foundry_store::WriteSet;

use super::admit::admit;
use crate::auth::Auth;
use crate::domain::account::Identified;
use crate::domain::sign_in::{SignInRow, State};
use crate::sign_in::Tokens;
use crate::store::sign_ins::{self, Held};

/// Key and subject are the id of the sign-in. A person waits for it, so it gives up early; signing in again is cheap.
pub(crate) static SIGN_IN: Flow<Auth> = Flow::new(
    "sign_in",
    &[
        // A provider takes a code once: after an attempt with an unknown end the next one is refused, and that is typed.
        Stage::new("exchanging", Duration::from_secs(12), SOON, |cx, flow| stage(exchange(cx, flow))),
        Stage::new("identifying", Duration::from_secs(30), SOON, |cx, flow| stage(identify(cx, flow))),
        Stage::new("admitting", Duration::from_secs(10), Retry::DEFAULT, |cx, flow| stage(admit(cx, flow))),
    ],
)
.concurrency(32)
.kept_for(Duration::from_secs(3600));

const SOON: Retry =
    Retry { initial: Duration::from_millis(300), factor: 3, max_delay: Duration::from_secs(3), budget: 3 };

/// Shows the end of the flow in the row that gateway and page look at.
pub(crate) struct Shown;

impl Projection for Shown {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        let mut set = WriteSet::new();
        if !matches!(flow.transition, Some(Transition::Failed | Transition::Parked | Transition::Cancelled)) {
            return set;
        }
        sign_ins::refuse(&mut set, &flow.subject_id, &flow.reason, &flow.message);
        if let Some(organization) = &flow.organization_id {
            let record = audit_as("service:auth", organization, "sign_in.refuse", &flow.subject_id, "");
            let who = serde_json::from_value::<Identified>(flow.state.clone()).unwrap_or_default();
            let detail = serde_json::json!({
                "reason": flow.reason, "issuer": who.issuer, "subject": who.subject, "login": who.login,
            });
            set.audit(with_detail(record, detail));
        }
        set
    }
}

/// The sign-in of a flow; none when it is over or gone.
pub(super) async fn load(cx: &Auth, flow: &StageContext) -> Result<Option<SignInRow>> {
    let id: SignInId = flow.subject_id().parse()?;
    Ok(sign_ins::find(&cx.store, &id).await?.filter(|row| row.state == State::Received))
}

/// A secret that the sign-in holds.
pub(super) async fn open(cx: &Auth, id: &SignInId, what: Held) -> Result<Secret> {
    let sealed = sign_ins::held(&cx.store, id, what).await?;
    let sealed = sealed.ok_or_else(|| Error::internal("a sign-in has lost what it held"))?;
    cx.sign_in.keys.open(what.bound_to(id), &sealed)
}

/// Exchanges the code for tokens.
async fn exchange(cx: &Auth, flow: &StageContext) -> Result<Outcome> {
    let Some(row) = load(cx, flow).await? else { return Ok(Outcome::done()) };
    let id = &row.sign_in_id;
    let (code, verifier) = (open(cx, id, Held::Code).await?, open(cx, id, Held::Verifier).await?);
    let text =
        |secret: &Secret| secret.expose_str().map(str::to_owned).ok_or_else(|| Error::internal("no text"));
    let provider = cx.sign_in.provider(&row.provider)?;
    let tokens = provider.exchange(&text(&code)?, &text(&verifier)?, &row.redirect_uri).await?;
    let json = serde_json::to_vec(&tokens).map_err(Error::internal)?;
    let sealed = cx.sign_in.keys.seal(Held::Tokens.bound_to(id), &Secret::new(json))?;
    let mut set = WriteSet::new();
    let used = foundry_store::Value::Null;
    let changes = [("tokens", sealed.as_bytes().to_vec().into()), ("code", used.clone()), ("verifier", used)];
    sign_ins::hold(&mut set, id, &changes);
    Ok(Outcome::done().recording(set))
}

/// The tokens of a sign-in.
pub(super) async fn tokens(cx: &Auth, id: &SignInId) -> Result<Tokens> {
    let secret = open(cx, id, Held::Tokens).await?;
    serde_json::from_slice(secret.expose()).map_err(|_| Error::internal("stored tokens cannot be read"))
}

/// Asks the provider who it is, or verifies what it has said.
async fn identify(cx: &Auth, flow: &StageContext) -> Result<Outcome> {
    let Some(row) = load(cx, flow).await? else { return Ok(Outcome::done()) };
    let tokens = tokens(cx, &row.sign_in_id).await?;
    let provider = cx.sign_in.provider(&row.provider)?;
    let who = provider.identify(&tokens, &row.nonce, cx.env.clock.now()).await?;
    Ok(Outcome::done().with_state(&who))
}
