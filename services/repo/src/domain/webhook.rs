//! Webhooks: which deliveries are genuine, and what follows from one. What a forge sends is read as little as possible.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Error, OrganizationId, RepositoryId, RepositoryWebhookId, Result, Timestamp};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1;
use foundry_proto::repo::v1::{RepositoryWebhookForge, RepositoryWebhookResult, WebhookHeader};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::sync::host_of;

/// Longest name of an event and longest id of a delivery, in bytes.
const MAX_NAME: usize = 128;
/// Longest name of a repository that is shown.
const MAX_SHOWN: usize = 200;

/// The software of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    GitHub,
    GitLab,
    Gitea,
    Forgejo,
}

impl Forge {
    const ALL: [(Self, &'static str, RepositoryWebhookForge); 4] = [
        (Self::GitHub, "github", RepositoryWebhookForge::Github),
        (Self::GitLab, "gitlab", RepositoryWebhookForge::Gitlab),
        (Self::Gitea, "gitea", RepositoryWebhookForge::Gitea),
        (Self::Forgejo, "forgejo", RepositoryWebhookForge::Forgejo),
    ];

    /// From a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for none.
    pub fn of_request(forge: i32) -> Result<Self> {
        let found = Self::ALL.iter().find(|(.., wire)| i32::from(*wire) == forge).map(|(it, ..)| *it);
        found.ok_or_else(|| Error::invalid_field("forge", "must be github, gitlab, gitea or forgejo"))
    }

    /// As in an address and in a column; none for any other word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == text).map(|(it, ..)| *it)
    }

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(it, ..)| *it == self).map_or("", |(_, text, _)| text)
    }

    fn to_proto(self) -> RepositoryWebhookForge {
        Self::ALL.iter().find(|(it, ..)| *it == self).map_or(Default::default(), |(.., wire)| *wire)
    }

    /// The headers that may hold the signature; the first one that is there counts.
    fn signatures(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &["x-hub-signature-256"],
            Self::GitLab => &["x-gitlab-token"],
            Self::Gitea => &["x-gitea-signature", "x-hub-signature-256"],
            Self::Forgejo => &["x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256"],
        }
    }

    fn events(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &["x-github-event"],
            Self::GitLab => &["x-gitlab-event"],
            Self::Gitea => &["x-gitea-event"],
            Self::Forgejo => &["x-forgejo-event", "x-gitea-event"],
        }
    }

    fn deliveries(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &["x-github-delivery"],
            // The first is the same in every attempt to deliver one event to one webhook; older versions lack it.
            Self::GitLab => &["idempotency-key", "x-gitlab-event-uuid"],
            Self::Gitea => &["x-gitea-delivery"],
            Self::Forgejo => &["x-forgejo-delivery", "x-gitea-delivery"],
        }
    }
}

/// The value of the first of these headers that is there; none too when it was sent twice, since programs on the way might
/// have looked at the other one.
fn first<'a>(headers: &'a [WebhookHeader], names: &[&str]) -> Option<&'a str> {
    let name = names.iter().find(|name| headers.iter().any(|h| h.name == **name))?;
    let mut values = headers.iter().filter(|h| h.name == **name);
    let value = values.next()?;
    values.next().is_none().then_some(value.value.as_str())
}

/// Whether the sender of a delivery knows the secret; compared in constant time.
pub fn is_genuine(forge: Forge, secret: &[u8], headers: &[WebhookHeader], body: &[u8]) -> bool {
    let shown = first(headers, forge.signatures()).unwrap_or_default();
    if forge == Forge::GitLab {
        // Of digests, so that not even the length shows.
        let [shown, secret] = [shown.as_bytes(), secret].map(Sha256::digest);
        return shown.ct_eq(&secret).into();
    }
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
    let shown = hex::decode(shown.strip_prefix("sha256=").unwrap_or(shown)).unwrap_or_default();
    mac.chain_update(body).verify_slice(&shown).is_ok()
}

/// What a delivery is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, unique for the webhook.
    pub id: String,
    /// Name of the event.
    pub event: String,
    /// Full name of the repository at the host, if it names one.
    pub repository: Option<String>,
    /// What follows from it.
    pub about: About,
}

/// What follows from a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Branches may have changed.
    Branches,
    /// Pull requests, their checks or reviews may have changed.
    PullRequests,
    /// It is a test.
    Ping,
    /// The repository has another name.
    Renamed {
        /// Its full name before, as far as it is known.
        from: String,
    },
    /// The repository is gone.
    Deleted,
    /// Something that Foundry takes no notice of.
    Nothing,
    /// Its content is not what the forge sends.
    Unreadable,
}

/// Reads a delivery whose signature is right.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the header that is absent, sent twice, or no name.
pub fn read(forge: Forge, headers: &[WebhookHeader], body: &[u8]) -> Result<Delivery> {
    let (id, event) = (named(headers, forge.deliveries())?, named(headers, forge.events())?);
    // A list would be taken for the fields in their order.
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    let payload = serde_json::from_slice::<Payload<'_>>(body).ok().filter(|_| is_object);
    let Some(payload) = payload else {
        return Ok(Delivery { id, event, repository: None, about: About::Unreadable });
    };
    let about =
        if forge == Forge::GitLab { of_gitlab(&event, &payload) } else { of_github(&event, &payload) };
    Ok(Delivery { id, event, repository: payload.repository(), about })
}

/// The event that the headers name; empty if they name none.
pub fn event(forge: Forge, headers: &[WebhookHeader]) -> String {
    named(headers, forge.events()).unwrap_or_default()
}

fn named(headers: &[WebhookHeader], names: &[&str]) -> Result<String> {
    let value = first(headers, names).unwrap_or_default();
    let is_name = |c: u8| c.is_ascii_graphic() || c == b' ';
    if value.is_empty() || value.len() > MAX_NAME || !value.bytes().all(is_name) {
        let text = format!(
            "the header {} must be sent once, with 1 to {MAX_NAME} printable letters",
            names.join(" or ")
        );
        return Err(Error::new(foundry_core::Code::InvalidArgument, "WEBHOOK_MALFORMED", text));
    }
    Ok(value.to_owned())
}

/// GitHub, Gitea and Forgejo.
fn of_github(event: &str, payload: &Payload<'_>) -> About {
    match event {
        "push" | "create" | "delete" => About::Branches,
        "ping" => About::Ping,
        "check_run" | "check_suite" | "status" | "workflow_run" => About::PullRequests,
        "repository" => match text(payload.action).as_deref() {
            Some("renamed" | "transferred") => About::Renamed { from: payload.name_before() },
            Some("deleted") => About::Deleted,
            // The default branch, or who may read it.
            Some("edited" | "publicized" | "privatized" | "archived" | "unarchived") => About::Branches,
            _ => About::Nothing,
        },
        // `pull_request_review`, and in Gitea `pull_request_approved`.
        event if event.starts_with("pull_request") => About::PullRequests,
        _ => About::Nothing,
    }
}

fn of_gitlab(event: &str, payload: &Payload<'_>) -> About {
    match event {
        "Push Hook" | "Tag Push Hook" => return About::Branches,
        "Merge Request Hook" | "Pipeline Hook" | "Job Hook" | "Note Hook" => return About::PullRequests,
        _ => {}
    }
    // Of a group or of the whole host.
    match text(payload.event_name).or_else(|| text(payload.object_kind)).as_deref() {
        Some("push" | "tag_push" | "repository_update") => About::Branches,
        Some("merge_request") => About::PullRequests,
        Some("project_rename" | "project_transfer") => About::Renamed { from: payload.name_before() },
        Some("project_destroy") => About::Deleted,
        _ => About::Nothing,
    }
}

/// The parts of a payload that are looked at; any of them may be something else in an event that is not known.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    repository: Option<&'a RawValue>,
    #[serde(borrow, default)]
    project: Option<&'a RawValue>,
    #[serde(borrow, default)]
    changes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object_kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    path_with_namespace: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_path_with_namespace: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    full_name: Option<String>,
    #[serde(default)]
    path_with_namespace: Option<String>,
}

#[derive(Default, Deserialize)]
struct Changes {
    #[serde(default)]
    repository: ChangedRepository,
    #[serde(default)]
    owner: ChangedOwner,
}

#[derive(Default, Deserialize)]
struct ChangedRepository {
    #[serde(default)]
    name: Before<String>,
}

#[derive(Default, Deserialize)]
struct ChangedOwner {
    #[serde(default)]
    from: FormerOwner,
}

#[derive(Default, Deserialize)]
struct FormerOwner {
    user: Option<Login>,
    organization: Option<Login>,
}

#[derive(Deserialize)]
struct Login {
    login: String,
}

#[derive(Default, Deserialize)]
struct Before<T> {
    from: Option<T>,
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

impl Payload<'_> {
    fn repository(&self) -> Option<String> {
        let of = |raw: Option<&RawValue>| {
            let named: Named = serde_json::from_str(raw?.get()).ok()?;
            named.full_name.or(named.path_with_namespace)
        };
        of(self.project).or_else(|| of(self.repository)).or_else(|| text(self.path_with_namespace))
    }

    /// The full name before a renaming or a transfer.
    fn name_before(&self) -> String {
        if let Some(before) = text(self.old_path_with_namespace) {
            return before;
        }
        let (now, changes) = (self.repository().unwrap_or_default(), self.changes);
        let changes: Changes =
            changes.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let (owner, name) = now.split_once('/').unwrap_or(("", &now));
        let former = changes.owner.from.user.or(changes.owner.from.organization).map(|it| it.login);
        let (owner, name) = (
            former.unwrap_or_else(|| owner.to_owned()),
            changes.repository.name.from.unwrap_or_else(|| name.to_owned()),
        );
        format!("{owner}/{name}")
    }
}

/// The host of a remote, without a port; empty for a local path.
pub fn host_name(url: &str) -> String {
    let host = host_of(url);
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.to_ascii_lowercase()
}

/// Whether the remote of a repository is the one that a host calls by this full name. The host may be below a path.
pub fn is_named(url: &str, full_name: &str) -> bool {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => url.split_once(':').map_or(url, |(_, path)| path),
    };
    let path = path.trim_matches('/').to_lowercase();
    let (path, name) = (path.strip_suffix(".git").unwrap_or(&path), full_name.to_lowercase());
    !name.is_empty() && (path == name || path.strip_suffix(&name).is_some_and(|above| above.ends_with('/')))
}

/// What has followed from a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Branches,
    PullRequests,
    Ping,
    Ignored,
    Unmatched,
    Noted,
    Unreadable,
}

impl Outcome {
    const ALL: [(Self, &'static str, RepositoryWebhookResult); 7] = [
        (Self::Branches, "branches", RepositoryWebhookResult::Branches),
        (Self::PullRequests, "pull_requests", RepositoryWebhookResult::PullRequests),
        (Self::Ping, "ping", RepositoryWebhookResult::Ping),
        (Self::Ignored, "ignored", RepositoryWebhookResult::Ignored),
        (Self::Unmatched, "unmatched", RepositoryWebhookResult::Unmatched),
        (Self::Noted, "noted", RepositoryWebhookResult::Noted),
        (Self::Unreadable, "unreadable", RepositoryWebhookResult::Unreadable),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(it, ..)| *it == self).map_or("", |(_, text, _)| text)
    }

    /// Parses the stored text; an unknown one counts as ignored.
    pub fn parse(text: &str) -> Self {
        Self::ALL.iter().find(|(_, known, _)| *known == text).map_or(Self::Ignored, |(it, ..)| *it)
    }

    pub fn to_proto(self) -> RepositoryWebhookResult {
        Self::ALL.iter().find(|(it, ..)| *it == self).map_or(Default::default(), |(.., wire)| *wire)
    }
}

/// A stored webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub webhook_id: RepositoryWebhookId,
    pub organization_id: OrganizationId,
    pub forge: Forge,
    /// None = for all repositories of the organization at the host.
    pub repository_id: Option<RepositoryId>,
    /// Host of the repositories, without a port.
    pub host: String,
    pub create_time: Timestamp,
    /// When the newest accepted delivery arrived, its event, and what followed.
    pub last: Option<(Timestamp, String, Outcome)>,
    /// What the host has reported about its repositories.
    pub notice: Condition,
    /// Deliveries that were not signed with the secret.
    pub refused: Refused,
    /// The encrypted secret.
    pub sealed: Bytes,
}

/// Deliveries of a webhook with a wrong signature, as far as they are recorded.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// How many there were.
    pub count: i64,
    /// When the last recorded one arrived.
    pub time: Timestamp,
    /// The IP address that it came from.
    pub address: String,
}

impl Refused {
    fn to_proto(&self) -> Option<v1::RepositoryWebhookRefusals> {
        (self.count > 0).then(|| v1::RepositoryWebhookRefusals {
            count: self.count,
            last_time: Some(self.time.to_proto()),
            last_address: self.address.clone(),
        })
    }
}

/// Counts refused deliveries of each webhook between two records of them: a stranger who knows the address of a webhook
/// causes one commit in [`Refusals::PACE`], however many are sent. A list adds what is not recorded yet.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<RepositoryWebhookId, Pending>>);

/// Refused deliveries of a webhook that are not recorded yet, and the last of them.
#[derive(Debug)]
struct Pending {
    recorded: Timestamp,
    refused: Refused,
}

impl Refusals {
    /// Least time between two records of one webhook.
    pub const PACE: Duration = Duration::from_secs(10);
    /// Webhooks that are remembered before those without a pending count are dropped.
    const MAX: usize = 4_096;

    /// Counts one that came from this address; returns how many to record now, if it is time to.
    pub fn add(&self, webhook: &Webhook, address: &str, now: Timestamp) -> Option<i64> {
        let mut all = foundry_core::lock(&self.0);
        if all.len() >= Self::MAX {
            all.retain(|_, pending| pending.refused.count > 0);
        }
        let recorded = webhook.refused.time;
        let new = || Pending { recorded, refused: Refused::default() };
        let pending = all.entry(webhook.webhook_id.clone()).or_insert_with(new);
        let count = pending.refused.count + 1;
        pending.refused = Refused { count, time: now, address: address.to_owned() };
        if now < recorded.max(pending.recorded).plus(Self::PACE) {
            return None;
        }
        pending.recorded = now;
        Some(std::mem::take(&mut pending.refused).count)
    }

    /// The webhook with those that are counted here and not recorded yet.
    pub fn added_to(&self, mut webhook: Webhook) -> Webhook {
        let all = foundry_core::lock(&self.0);
        if let Some(Pending { refused, .. }) = all.get(&webhook.webhook_id).filter(|p| p.refused.count > 0) {
            webhook.refused = Refused { count: webhook.refused.count + refused.count, ..refused.clone() };
        }
        webhook
    }
}

impl Webhook {
    /// To what its encryption is bound: moved to another row or organization, it cannot be read.
    pub fn binding(&self) -> String {
        format!("{} of {} for {}", self.webhook_id, self.organization_id, self.forge.as_str())
    }

    /// The wire form, which has no secret.
    pub fn to_proto(&self) -> v1::RepositoryWebhook {
        let last = self.last.as_ref().map(|(at, event, outcome)| v1::RepositoryWebhookDelivery {
            event: event.clone(),
            result: outcome.to_proto().into(),
            receive_time: Some(at.to_proto()),
        });
        v1::RepositoryWebhook {
            repository_webhook_id: self.webhook_id.to_string(),
            organization_id: self.organization_id.to_string(),
            forge: self.forge.to_proto().into(),
            repository_id: self.repository_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            host: self.host.clone(),
            path: format!("/webhooks/{}/{}", self.forge.as_str(), self.webhook_id),
            create_time: Some(self.create_time.to_proto()),
            last_delivery: last,
            notice: Some(self.notice.clone()),
            refusals: self.refused.to_proto(),
        }
    }
}

/// What is shown of a repository that was renamed or deleted at its host; nothing is done about it.
pub fn notice(delivery: &Delivery, now: Timestamp) -> Option<Condition> {
    let shown = |name: &str| name.chars().take(MAX_SHOWN).collect::<String>();
    let name = shown(delivery.repository.as_deref().unwrap_or("the repository"));
    let (reason, message, next) = match &delivery.about {
        About::Renamed { from } => (
            "REPOSITORY_RENAMED",
            format!("the host reports that {} is now {name}", shown(from)),
            "register the repository under its new address, and remove the old one when its tasks are done",
        ),
        About::Deleted => (
            "REPOSITORY_DELETED_AT_HOST",
            format!("the host reports that {name} was deleted"),
            "publish what is still wanted elsewhere, then delete the repository here",
        ),
        _ => return None,
    };
    Some(Condition {
        reason: reason.to_owned(),
        message,
        since_time: Some(now.to_proto()),
        next_action: next.to_owned(),
        ..Condition::default()
    })
}

#[cfg(test)]
mod tests;
