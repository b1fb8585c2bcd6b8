//! The stage `admitting`: whether an account lets its owner in, and as whom.

use foundry_authn::{role_key, role_name};
use foundry_core::{AccountId, Error, OrganizationId, Result, UserId};
use foundry_flow::{Outcome, StageContext};
use foundry_proto::common::v1::Role;
use foundry_secrets::Secret;
use foundry_service::{audit_as, with_detail};
use foundry_store::WriteSet;

use super::sign_in::{load, tokens};
use crate::auth::Auth;
use crate::domain::account::{AdmittedBy, Identified, is_listed, is_login_for, login_like, numbered};
use crate::domain::sign_in::{
    Purpose, SignInRow, State, no_organization, not_admitted, set_up_done, set_up_required,
};
use crate::store::accounts::{self, Account};
use crate::store::organizations::{self, Organization};
use crate::store::users::{self, User};
use crate::store::{memberships, revocations, shell, sign_ins};

/// Where somebody comes in, as what, and why.
pub(super) struct Way {
    organization: OrganizationId,
    /// The organization, if it is a new one.
    created: Option<Organization>,
    role: Role,
    /// Whether the role is given here. Else it is what was read, and must still be so at the commit.
    grants: bool,
    by: AdmittedBy,
}

/// Decides, and records all of it in one commit: user, account, membership, audit.
pub(super) async fn admit(cx: &Auth, flow: &StageContext) -> Result<Outcome> {
    let Some(row) = load(cx, flow).await? else { return Ok(Outcome::done()) };
    let who: Identified = flow.state()?;
    let known = accounts::of_subject(&cx.store, &who.issuer, &who.subject).await?;
    let mut set = WriteSet::new();
    let way = match row.purpose {
        Purpose::SetUp => set_up(cx, &row).await?,
        Purpose::SignIn => allowed(cx, &row, &who, known.as_ref()).await?,
    };
    let user = enter(cx, &mut set, &who, known.as_ref(), &way).await?;
    account(cx, &mut set, &row, &who, (known.as_ref(), &user), way.by).await?;
    if row.purpose == Purpose::SetUp {
        organizations::set_up(&mut set, &way.organization, cx.env.clock.now());
    }
    if way.created.is_some() {
        let id = &way.organization;
        set.audit(audit_as(user.as_str(), id, "organization.create", id.as_str(), ""));
    }
    let mut more = vec![("user_id", (&user).into()), ("organization_id", (&way.organization).into())];
    more.extend(sign_ins::forgotten());
    sign_ins::advance(&mut set, &row.sign_in_id, State::Received, State::Admitted, &more);
    let record = audit_as(user.as_str(), &way.organization, "sign_in.admit", row.sign_in_id.as_str(), "");
    let detail = serde_json::json!({
        "provider": row.provider, "issuer": who.issuer, "subject": who.subject, "login": who.login,
        "by": way.by.as_str(), "role": role_name(way.role), "granted": way.grants, "created": way.created.is_some(),
    });
    set.audit(with_detail(record, detail));
    Ok(Outcome::done().recording(set))
}

/// The first owner, who knew the set-up secret. An organization of the development sign-in is taken over by name: who
/// can read the data directory has it already.
async fn set_up(cx: &Auth, row: &SignInRow) -> Result<Way> {
    if organizations::home(&cx.store).await?.is_some() {
        return Err(set_up_done());
    }
    let name = &row.organization_name;
    let found = organizations::by_name(&cx.store, name).await?;
    let created = found.is_none().then(|| Organization {
        organization_id: OrganizationId::generate(&cx.env),
        name: name.clone(),
        created_at: cx.env.clock.now(),
    });
    let organization = found.as_ref().or(created.as_ref()).map(|o| o.organization_id.clone());
    let organization = organization.ok_or_else(|| Error::internal("neither found nor created"))?;
    Ok(Way { organization, created, role: Role::Owner, grants: true, by: AdmittedBy::SetUp })
}

/// Somebody who is in already, or whom a list of the configuration names.
pub(super) async fn allowed(
    cx: &Auth,
    row: &SignInRow,
    who: &Identified,
    known: Option<&Account>,
) -> Result<Way> {
    let settings = &cx.sign_in.provider(&row.provider)?.settings;
    let listed = is_listed(who, &settings.allow_email_domains);
    if let Some(account) = known {
        // A list counts at each sign-in. Who was removed here does not come back by one.
        if account.admitted_by == AdmittedBy::List && !listed {
            return Err(not_admitted());
        }
        let all = memberships::of_user(&cx.store, &account.user.user_id, &crate::store::Reach::All).await?;
        let active = all.iter().find(|m| account.user.active.as_ref() == Some(&m.organization_id));
        let membership = active.or(all.first()).ok_or_else(not_admitted)?;
        let organization = membership.organization_id.clone();
        let (role, by) = (membership.role, account.admitted_by);
        return Ok(Way { organization, created: None, role, grants: false, by });
    }
    if !listed {
        return Err(not_admitted());
    }
    // Nobody joins before the set-up, whichever organizations there are.
    let home = organizations::home(&cx.store).await?.ok_or_else(set_up_required)?;
    let organization = match settings.organization.as_str() {
        "" => home,
        name => match organizations::by_name(&cx.store, name).await? {
            Some(found) => found.organization_id,
            None => return Err(no_organization(&row.provider, name)),
        },
    };
    Ok(Way { organization, created: None, role: Role::Member, grants: true, by: AdmittedBy::List })
}

/// Makes the user, or refreshes it, and a member of the organization.
pub(super) async fn enter(
    cx: &Auth,
    set: &mut WriteSet,
    who: &Identified,
    known: Option<&Account>,
    way: &Way,
) -> Result<UserId> {
    let now = cx.env.clock.now();
    let login = free_login(cx, who, known.map(|account| &account.user)).await?;
    let display_name = if who.display_name.is_empty() { login.clone() } else { who.display_name.clone() };
    if let Some(created) = &way.created {
        created.insert(set);
    }
    let organization = &way.organization;
    let Some(Account { user, .. }) = known else {
        let user_id = UserId::generate(&cx.env);
        let active = Some(organization.clone());
        let user = User { user_id, login, display_name, created_at: now, active };
        user.insert(set);
        memberships::insert(set, organization, &user.user_id, way.role, now);
        return Ok(user.user_id);
    };
    if user.login != login || user.display_name != display_name {
        user.rename(set, &login, &display_name);
    }
    if !way.grants {
        // Removed or given another role in between: the stage runs again, and decides by what it finds then.
        memberships::still(set, organization, &user.user_id, way.role);
        return Ok(user.user_id.clone());
    }
    let member = memberships::get(&cx.store, organization, &user.user_id).await?;
    match member.map(|member| member.role) {
        Some(role) if role >= way.role => memberships::still(set, organization, &user.user_id, role),
        Some(role) => {
            memberships::update(set, organization, &user.user_id, role, way.role);
            revocations::add(set, &role_key(&user.user_id, organization), now);
        }
        None => {
            memberships::insert(set, organization, &user.user_id, way.role, now);
            shell::joined(set, user, organization);
            revocations::add(set, &role_key(&user.user_id, organization), now);
        }
    }
    Ok(user.user_id.clone())
}

/// The login that comes next to the one at the provider and belongs to nobody else. A login that changed hands at the
/// provider never finds the user of before: users are found by issuer and subject only.
async fn free_login(cx: &Auth, who: &Identified, own: Option<&User>) -> Result<String> {
    let wanted = login_like(&who.login);
    if let Some(own) = own.filter(|own| is_login_for(&own.login, &wanted)) {
        return Ok(own.login.clone());
    }
    let small: [String; users::CANDIDATES] = std::array::from_fn(|at| match at {
        0 => wanted.clone(),
        at => numbered(&wanted, u32::try_from(at + 1).unwrap_or(u32::MAX)),
    });
    // Where the small numbers are taken, a large one costs no further look at each of those before it.
    let large: [String; users::CANDIDATES] = std::array::from_fn(|_| {
        let mut bytes = [0; 4];
        cx.env.random.fill(&mut bytes);
        numbered(&wanted, 100_000 + u32::from_le_bytes(bytes) % 900_000)
    });
    for candidates in [small, large] {
        let taken = users::taken(&cx.store, &candidates).await?;
        if let Some(free) = candidates.into_iter().find(|login| !taken.contains(login)) {
            return Ok(free);
        }
    }
    Err(Error::already_exists("user", &wanted))
}

/// Records the account with the provider's token, encrypted.
async fn account(
    cx: &Auth,
    set: &mut WriteSet,
    row: &SignInRow,
    who: &Identified,
    (known, user): (Option<&Account>, &UserId),
    by: AdmittedBy,
) -> Result<()> {
    let token = Secret::new(tokens(cx, &row.sign_in_id).await?.access_token);
    let now = cx.env.clock.now();
    match known {
        Some(account) => {
            let sealed = cx.sign_in.keys.seal(accounts::bound_to(&account.account_id), &token)?;
            accounts::refresh(set, &account.account_id, who, by, &sealed, now);
        }
        None => {
            let id = AccountId::generate(&cx.env);
            let sealed = cx.sign_in.keys.seal(accounts::bound_to(&id), &token)?;
            accounts::insert(set, (&id, user), (&row.provider, who), by, &sealed, now);
        }
    }
    Ok(())
}
