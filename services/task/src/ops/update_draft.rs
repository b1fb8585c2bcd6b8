//! Stores what a user has typed but not sent.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, RepositoryId, Result, SessionId, TaskId};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{UpdateDraftRequest, UpdateDraftResponse};
use foundry_store::{CommitError, Guard, WriteSet};

use crate::context::Context;
use crate::domain::validate;
use crate::store::user_state::{self, DRAFTS, Owner};
use crate::store::{sessions, tasks};

/// Most drafts of a user in an organization.
const MAX_DRAFTS: i64 = 500;

/// The newest text wins; an empty one removes the draft, and the same one writes nothing.
///
/// # Errors
/// `INVALID_ARGUMENT` for a text over 12 KiB or a malformed subject, `NOT_FOUND` for an organization,
/// session, repository or task that the caller cannot see, `RESOURCE_EXHAUSTED` for a 501st draft, `UNAVAILABLE` for an
/// unknown repository that cannot be looked up now.
pub async fn update_draft(
    cx: &Context,
    caller: &Caller,
    request: UpdateDraftRequest,
) -> Result<UpdateDraftResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let owner = Owner { organization, user: caller.require_user()?.user_id.clone() };
    validate::draft("text", &request.text)?;
    let subject = Subject::parse(&request.subject)?;
    let before = user_state::draft(&cx.store, &owner, &request.subject).await?;
    if let Some(before) = before.as_ref().filter(|d| d.entity.text == request.text) {
        return Ok(UpdateDraftResponse { rev: before.rev });
    }
    // An existing draft can be cleared even if its subject is gone.
    if before.is_none() || !request.text.is_empty() {
        subject.require(cx, &owner).await?;
    }
    if before.is_none() && request.text.is_empty() {
        return Ok(UpdateDraftResponse { rev: cx.store.head(&owner.scope()).await? });
    }
    let mut ws = WriteSet::new();
    let rev = if request.text.is_empty() {
        user_state::remove_draft(&mut ws, &owner, &request.subject)
    } else {
        let rev = ws.scope(owner.scope());
        if before.is_none() {
            let own = [("organization_id", (&owner.organization).into()), ("user_id", (&owner.user).into())];
            ws.guard(Guard::count_below(&DRAFTS, &own, MAX_DRAFTS, "drafts"));
        }
        user_state::put_draft(&mut ws, rev, &owner, &request.subject, &request.text, cx.env.clock.now());
        rev
    };
    let committed = cx.store.commit(ws).await.map_err(|e| match e {
        CommitError::LimitReached { .. } => quota(&owner),
        e => e.into(),
    })?;
    Ok(UpdateDraftResponse { rev: committed.rev(rev) })
}

/// What a draft belongs to: a session, a new task in a repository, or the review of a task.
enum Subject {
    Session(SessionId),
    NewTask(RepositoryId),
    Review(TaskId),
}

impl Subject {
    fn parse(text: &str) -> Result<Self> {
        let parsed = match text.split_once('/') {
            Some(("new_task", id)) => id.parse().map(Self::NewTask),
            Some(("review", id)) => id.parse().map(Self::Review),
            _ => text.parse().map(Self::Session),
        };
        let says = "must be a session id, new_task/<repository id>, or review/<task id>";
        parsed.map_err(|_| Error::invalid_field("subject", says))
    }

    /// Checks that it exists in the organization.
    async fn require(&self, cx: &Context, owner: &Owner) -> Result<()> {
        let (found, kind, id) = match self {
            Self::Session(id) => {
                let found = sessions::find(&cx.store, id).await?;
                (found.map(|s| s.organization_id.to_string()), "session", id.as_str())
            }
            Self::Review(id) => {
                let found = tasks::find(&cx.store, id).await?;
                (found.map(|t| t.organization_id.to_string()), "task", id.as_str())
            }
            Self::NewTask(id) => {
                // The draft goes with the repository, which this service learns from then on.
                cx.followed.ensure(&owner.organization);
                let found = cx.repository(id).await?;
                (found.map(|r| r.organization_id), "repository", id.as_str())
            }
        };
        if found.as_deref() == Some(owner.organization.as_str()) {
            return Ok(());
        }
        Err(Error::not_found(kind, id))
    }
}

fn quota(owner: &Owner) -> Error {
    let maximum = u64::try_from(MAX_DRAFTS).unwrap_or_default();
    Error::quota("drafts", owner.user.as_str(), maximum, maximum)
        .next_action("send or clear some of your drafts in this organization")
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;
    use foundry_store::Scope;

    use super::*;
    use crate::store::upstream;
    use crate::testing::{Running, Tenant, World};

    async fn keep(running: &Running, tenant: &Tenant, subject: &str, text: &str) -> Result<i64> {
        let request = UpdateDraftRequest {
            organization_id: tenant.organization.to_string(),
            subject: subject.into(),
            text: text.into(),
        };
        update_draft(&running.cx, &tenant.caller, request).await.map(|a| a.rev)
    }

    fn owner(tenant: &Tenant) -> Owner {
        let user = tenant.caller.as_user().unwrap().user_id.clone();
        Owner { organization: tenant.organization.clone(), user }
    }

    #[tokio::test]
    async fn keeps_the_newest_text_writes_the_same_one_once_and_buries_an_empty_one() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Viewer).await, world.start().await);
        let member = world.tenant(Role::Member).await;
        let session = running.create(&member, "x").await.session.unwrap().session_id;
        let owner = owner(&member);
        assert_eq!(keep(&running, &member, &session, "").await.unwrap(), 0, "nothing to clear");
        assert_eq!(keep(&running, &member, &session, "one").await.unwrap(), 1);
        assert_eq!(keep(&running, &member, &session, "one").await.unwrap(), 1, "no write");
        assert_eq!(keep(&running, &member, &session, "two").await.unwrap(), 2);
        let found = user_state::draft(&running.cx.store, &owner, &session).await.unwrap().unwrap();
        assert_eq!((found.rev, found.entity.text.as_str()), (2, "two"));
        assert_eq!(keep(&running, &member, &session, "").await.unwrap(), 3);
        assert_eq!(keep(&running, &member, &session, "").await.unwrap(), 3, "no write");
        assert_eq!(user_state::draft(&running.cx.store, &owner, &session).await.unwrap(), None);
        let snapshot = running.cx.store.snapshot().await.unwrap();
        let tombstones = snapshot.tombstones_after(&owner.scope(), Some("draft"), 0, 9).await.unwrap();
        assert_eq!(
            (tombstones.len(), tombstones[0].key.as_str(), tombstones[0].rev),
            (1, session.as_str(), 3)
        );
        let shared = snapshot.head(&Scope::organization(&tenant.organization)).await.unwrap();
        assert_eq!(shared, 0, "nobody else is told");
        let foreign = keep(&running, &tenant, &session, "x").await.unwrap_err();
        let absent = SessionId::generate(&world.env);
        let missing = keep(&running, &tenant, absent.as_str(), "x").await.unwrap_err();
        assert_eq!((foreign.code(), missing.code()), (Code::NotFound, Code::NotFound));
        assert_eq!(foreign.message().replace(&session, ""), missing.message().replace(absent.as_str(), ""));
        running.stop().await;
    }

    #[tokio::test]
    async fn takes_no_foreign_organization_no_strange_subject_and_no_byte_too_many() {
        let world = World::new().await;
        let (tenant, other) = (world.tenant(Role::Viewer).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        let session = running.create(&other, "x").await.session.unwrap().session_id;
        let request = UpdateDraftRequest {
            organization_id: other.organization.to_string(),
            subject: session,
            text: "x".into(),
        };
        let lost = update_draft(&running.cx, &tenant.caller, request).await.unwrap_err();
        assert_eq!(lost.code(), Code::NotFound);
        for (subject, text, field) in [
            ("", "x".to_owned(), "subject"),
            ("new_task/", "x".to_owned(), "subject"),
            ("../x", "x".to_owned(), "subject"),
            (&format!("new_task/{}", other.repository), "x".repeat(validate::MAX_DRAFT + 1), "text"),
        ] {
            let e = keep(&running, &other, subject, &text).await.unwrap_err();
            assert_eq!((e.code(), e.violations()[0].field.as_str()), (Code::InvalidArgument, field));
        }
        running.stop().await;
    }

    #[tokio::test]
    async fn keeps_five_hundred_drafts_of_a_user_and_no_more() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
        let session = running.create(&tenant, "x").await.session.unwrap().session_id;
        let owner = owner(&tenant);
        let mut ws = WriteSet::new();
        let rev = ws.scope(owner.scope());
        for n in 0..MAX_DRAFTS {
            user_state::put_draft(&mut ws, rev, &owner, &format!("s{n}"), "x", world.env.clock.now());
        }
        running.cx.store.commit(ws).await.unwrap();
        let e = keep(&running, &tenant, &session, "x").await.unwrap_err();
        assert_eq!((e.code(), e.reason()), (Code::ResourceExhausted, "LIMIT_REACHED"));
        let mut ws = WriteSet::new();
        user_state::remove_draft(&mut ws, &owner, "s0");
        running.cx.store.commit(ws).await.unwrap();
        keep(&running, &tenant, &session, "x").await.unwrap();
        keep(&running, &tenant, &session, "y").await.unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn takes_a_draft_for_a_repository_in_an_organization_that_nobody_watched() {
        let world = World::new().await;
        let (tenant, other) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        assert_eq!(
            keep(&running, &tenant, &format!("new_task/{}", tenant.repository), "later").await.unwrap(),
            1
        );
        let foreign = keep(&running, &tenant, &format!("new_task/{}", other.repository), "x").await;
        assert_eq!(foreign.unwrap_err().code(), Code::NotFound);
        running.stop().await;
    }

    #[tokio::test]
    async fn a_draft_for_a_repository_goes_with_the_repository() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
        let owner = owner(&tenant);
        let subject = format!("new_task/{}", tenant.repository);
        running.cx.followed.ensure(&tenant.organization);
        let mut hint = running.cx.store.subscribe(&Scope::organization(&tenant.organization));
        while upstream::repository(&running.cx.store, &tenant.repository).await.unwrap().is_none() {
            hint.changed().await;
        }
        keep(&running, &tenant, &subject, "later").await.unwrap();
        let mut hint = running.cx.store.subscribe(&owner.scope());
        world.repo.remove(&tenant.organization, &tenant.repository).await;
        while user_state::draft(&running.cx.store, &owner, &subject).await.unwrap().is_some() {
            hint.changed().await;
        }
        let snapshot = running.cx.store.snapshot().await.unwrap();
        let tombstones = snapshot.tombstones_after(&owner.scope(), Some("draft"), 0, 9).await.unwrap();
        assert_eq!(tombstones[0].key, subject);
        let gone = keep(&running, &tenant, &subject, "again").await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
        running.stop().await;
    }
}
