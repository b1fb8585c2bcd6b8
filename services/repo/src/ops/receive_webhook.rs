//! Checks and stores a delivery of a webhook, with what it leads to.

use std::net::IpAddr;

use foundry_authn::Caller;
use foundry_core::{Code, Error, RepositoryId, Result};
use foundry_proto::repo::v1::{ReceiveWebhookRequest, ReceiveWebhookResponse};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::pull_request::WEBHOOK;
use crate::domain::webhook::{self, About, Delivery, Forge, Outcome, Webhook, host_name, is_named, notice};
use crate::flow::{background, pulls};
use crate::store::{repositories, webhooks as rows};
use crate::webhooks;

/// Checks the signature over the bytes as they arrived, and only then reads them; writes the delivery and what it leads to
/// in one commit, once for each id of a delivery. What is announced is read in the background.
///
/// # Errors
/// `UNAUTHENTICATED` for a wrong signature and `NOT_FOUND` for an unknown webhook, with one reason, text and cost;
/// `INVALID_ARGUMENT` for a delivery that cannot be read.
pub async fn receive_webhook(
    cx: &Context,
    _gateway: &Caller,
    request: ReceiveWebhookRequest,
) -> Result<ReceiveWebhookResponse> {
    let webhook = find(cx, &request).await?;
    let secret = match &webhook {
        Some(webhook) => webhooks::open(cx, webhook)?,
        None => webhooks::decoy(cx)?,
    };
    let forge = Forge::parse(&request.forge).unwrap_or(Forge::GitHub);
    let is_genuine = webhook::is_genuine(forge, secret.expose(), &request.headers, &request.body);
    let Some(webhook) = webhook else { return Err(refused(Code::NotFound)) };
    if !is_genuine {
        tracing::info!(webhook = %webhook.webhook_id, "a delivery has no right signature");
        record_refusal(cx, &webhook, &request.peer_address).await;
        return Err(refused(Code::Unauthenticated));
    }
    let delivery = match webhook::read(forge, &request.headers, &request.body) {
        Ok(delivery) => delivery,
        Err(malformed) => {
            record_malformed(cx, &webhook, &webhook::event(forge, &request.headers)).await;
            return Err(malformed);
        }
    };
    let decided = cx.store.retry_on_conflict(|| async { decide(cx, &webhook, &delivery).await });
    let (_, (outcome, duplicate)) = decided.await?;
    if outcome == Outcome::Unreadable {
        let text = "the body is not what the host sends: JSON with the event";
        return Err(Error::new(Code::InvalidArgument, "WEBHOOK_MALFORMED", text));
    }
    Ok(ReceiveWebhookResponse { result: outcome.to_proto().into(), duplicate })
}

/// The webhook of an address.
async fn find(cx: &Context, request: &ReceiveWebhookRequest) -> Result<Option<Webhook>> {
    let Ok(id) = request.repository_webhook_id.parse() else { return Ok(None) };
    let found = rows::find(&cx.store, &id).await?;
    Ok(found.filter(|webhook| Forge::parse(&request.forge) == Some(webhook.forge)))
}

/// One text, so that nobody learns which webhooks there are.
fn refused(code: Code) -> Error {
    Error::new(code, "WEBHOOK_REFUSED", "there is no such webhook, or its secret is another one").next_action(
        "compare address and secret at the host with those that were shown when the webhook was added",
    )
}

/// Shows the owner that deliveries are refused; the answer does not depend on it.
async fn record_refusal(cx: &Context, webhook: &Webhook, address: &str) {
    let now = cx.env.clock.now();
    // Only what is an address, in its one form.
    let address = address.parse::<IpAddr>().map(|it| it.to_string()).unwrap_or_default();
    let Some(more) = cx.refusals.add(webhook, &address, now) else { return };
    let recorded = cx.store.retry_on_conflict(|| async {
        let mut ws = WriteSet::new();
        if let Some(webhook) = rows::find(&cx.store, &webhook.webhook_id).await? {
            ws.scope(Scope::organization(&webhook.organization_id));
            rows::refuse(&mut ws, &webhook, more, &address, now);
        }
        Ok((ws, ()))
    });
    if let Err(e) = recorded.await {
        tracing::warn!(webhook = %webhook.webhook_id, "a refused delivery was not recorded: {e}");
    }
}

/// Shows the owner a delivery that has the right signature and no id or event; the answer does not depend on it.
async fn record_malformed(cx: &Context, webhook: &Webhook, event: &str) {
    let mut ws = WriteSet::new();
    if webhook.last.as_ref().is_none_or(|(_, _, last)| *last != Outcome::Unreadable) {
        ws.scope(Scope::organization(&webhook.organization_id));
    }
    rows::malformed(&mut ws, &webhook.webhook_id, event, cx.env.clock.now());
    if let Err(e) = cx.store.commit(ws).await {
        tracing::warn!(webhook = %webhook.webhook_id, "a malformed delivery was not recorded: {e}");
    }
}

async fn decide(cx: &Context, webhook: &Webhook, delivery: &Delivery) -> Result<(WriteSet, (Outcome, bool))> {
    let id = &webhook.webhook_id;
    if let Some(before) = rows::received(&cx.store, id, &delivery.id).await? {
        return Ok((WriteSet::new(), (before, true)));
    }
    let Some(webhook) = rows::find(&cx.store, id).await? else { return Err(refused(Code::NotFound)) };
    let (now, notice) = (cx.env.clock.now(), notice(delivery, cx.env.clock.now()));
    let mut ws = WriteSet::new();
    let matching = matching(cx, &webhook, delivery).await?;
    let outcome = match &delivery.about {
        About::Ping => Outcome::Ping,
        About::Nothing => Outcome::Ignored,
        About::Unreadable => Outcome::Unreadable,
        // By then the host knows the repository by another name.
        About::Renamed { .. } | About::Deleted => Outcome::Noted,
        _ if matching.is_empty() => Outcome::Unmatched,
        About::PullRequests => {
            for repository in &matching {
                if let Some(repository) = repositories::find(&cx.store, repository).await? {
                    pulls::want(cx, &mut ws, &repository, WEBHOOK);
                }
            }
            Outcome::PullRequests
        }
        About::Branches => {
            for repository in &matching {
                repositories::announce(&mut ws, repository, now);
            }
            background::wake(cx, &mut ws);
            Outcome::Branches
        }
    };
    if webhook.last.as_ref().is_none_or(|(_, _, last)| *last != outcome) || notice.is_some() {
        // Pages load the webhooks again; a burst of the same kind is no reason to.
        ws.scope(Scope::organization(&webhook.organization_id));
    }
    rows::receive(&mut ws, id, delivery, outcome, notice.as_ref(), now);
    Ok((ws, (outcome, false)))
}

/// The registered repositories that a delivery is about.
async fn matching(cx: &Context, webhook: &Webhook, delivery: &Delivery) -> Result<Vec<RepositoryId>> {
    if !matches!(delivery.about, About::Branches | About::PullRequests) {
        return Ok(Vec::new());
    }
    let Some(name) = &delivery.repository else {
        return Ok(webhook.repository_id.clone().into_iter().collect());
    };
    let remotes = match &webhook.repository_id {
        Some(id) => {
            let found = repositories::find(&cx.store, id).await?;
            found.into_iter().map(|r| (r.repository_id, r.url)).collect()
        }
        None => repositories::remotes(&cx.store, &webhook.organization_id).await?,
    };
    let is_meant = |url: &str| {
        let host = host_name(url);
        // A local path has another name at no host.
        (host.is_empty() && webhook.repository_id.is_some()) || (host == webhook.host && is_named(url, name))
    };
    Ok(remotes.into_iter().filter(|(_, url)| is_meant(url)).map(|(id, _)| id).collect())
}

#[cfg(test)]
mod tests;
