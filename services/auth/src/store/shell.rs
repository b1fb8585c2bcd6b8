//! The app shell: the parts of a user and its memberships that clients show on every page. Made of rows of `users` and
//! `memberships`, with revisions in the user's own scope.

use foundry_core::{OrganizationId, Result, UserId};
use foundry_proto::auth::v1::app_shell_item::Item;
use foundry_proto::auth::v1::{
    AppShellItem, OrganizationSync, OrganizationSyncState, ShellOrganization, ShellUser,
};
use foundry_store::{Row, Scope, Store, WriteSet};
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

use super::memberships::{self, LOST, Membership, lost_in};
use super::users::{self, User};
use super::{Reach, id};

/// Name of the view, the same as its rpc's.
pub(crate) const NAME: &str = "WatchAppShell";
/// Increase it whenever keys or items change their meaning.
const SCHEMA: u32 = 1;

const ORGANIZATION: &str = "organization/";

/// After a user joined an organization: makes it the active one if there was none.
pub(crate) fn joined(set: &mut WriteSet, user: &User, organization: &OrganizationId) {
    match user.active {
        Some(_) => user.still_active(set),
        None => user.activate(set, Some(organization)),
    }
}

/// After a user left an organization: if it was the active one, the first of the remaining ones in `all` replaces it.
pub(crate) fn left(set: &mut WriteSet, user: &User, organization: &OrganizationId, all: &[Membership]) {
    if user.active.as_ref() != Some(organization) {
        return user.still_active(set);
    }
    let next = all.iter().find(|m| m.organization_id != *organization);
    if let Some(next) = next {
        memberships::still(set, &next.organization_id, &user.user_id, next.role);
    }
    user.activate(set, next.map(|m| &m.organization_id));
}

/// The shell as of one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shell {
    pub(crate) rev: i64,
    pub(crate) user: ShellUser,
    pub(crate) organizations: Vec<ShellOrganization>,
}

/// The part of a user's shell that a token covers; none if there is no such user.
pub(crate) async fn read(store: &Store, user: &UserId, reach: &Reach) -> Result<Option<Shell>> {
    const USER: &str =
        "SELECT user_id, login, display_name, active_organization_id FROM users WHERE user_id = $1";
    const ORGANIZATIONS: &str = "SELECT m.organization_id, o.name, m.role FROM memberships m \
         JOIN organizations o ON o.organization_id = m.organization_id \
         WHERE m.user_id = $1 AND ($2 = '' OR m.organization_id = $2) ORDER BY o.name";
    let snapshot = store.snapshot().await?;
    let rows = snapshot.query(USER, &[user.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let organizations = snapshot.query(ORGANIZATIONS, &[user.into(), reach.value()]).await?;
    Ok(Some(Shell {
        rev: snapshot.head(&Scope::user(user)).await?,
        user: shell_user(row, reach)?,
        organizations: organizations.iter().map(shell_organization).collect::<Result<_>>()?,
    }))
}

/// The view of `WatchAppShell`, limited to what a token covers.
pub(crate) fn view(user: &UserId, reach: &Reach) -> TableView {
    const USER: &str = "SELECT user_id, login, display_name, active_organization_id, rev FROM users \
         WHERE user_id = $1 AND rev > $2 ORDER BY rev LIMIT $3";
    const ORGANIZATIONS: &str = "SELECT m.organization_id, o.name, m.role, m.rev FROM memberships m \
         JOIN organizations o ON o.organization_id = m.organization_id \
         WHERE m.user_id = $1 AND ($2 = '' OR m.organization_id = $2) AND m.rev > $3 \
         ORDER BY m.rev, m.organization_id LIMIT $4";
    let shown = reach.clone();
    let of_user = Source::new(USER, [user.into()], move |row| {
        let user = shell_user(row, &shown)?;
        let key = format!("user/{}", user.user_id);
        Ok(Change::upsert(key, row.int("rev")?, &AppShellItem { item: Some(Item::User(user)) }))
    });
    let of_organizations = Source::new(ORGANIZATIONS, [user.into(), reach.value()], |row| {
        let organization = shell_organization(row)?;
        let key = format!("{ORGANIZATION}{}", organization.organization_id);
        let item = AppShellItem { item: Some(Item::Organization(organization)) };
        Ok(Change::upsert(key, row.int("rev")?, &item))
    });
    // A token for one organization must not learn from a tombstone that there was another.
    let lost = reach.one().map_or_else(|| LOST.to_owned(), lost_in);
    let fingerprint = Fingerprint::new(NAME, SCHEMA)
        .filter("user", user.as_str())
        .filter("organization", reach.one().map_or("", OrganizationId::as_str));
    TableView::new(NAME, Scope::user(user), fingerprint)
        .source(of_user)
        .source(of_organizations.tombstones(lost, ORGANIZATION))
}

fn shell_user(row: &Row, reach: &Reach) -> Result<ShellUser> {
    let active = users::active(row)?.filter(|o| reach.includes(o));
    Ok(ShellUser {
        user_id: id::<UserId>(row, "user_id")?.to_string(),
        login: row.text("login")?.to_owned(),
        display_name: row.text("display_name")?.to_owned(),
        active_organization_id: active.map(|o| o.to_string()).unwrap_or_default(),
    })
}

fn shell_organization(row: &Row) -> Result<ShellOrganization> {
    let sync = OrganizationSync { state: OrganizationSyncState::Local.into(), ..Default::default() };
    Ok(ShellOrganization {
        organization_id: id::<OrganizationId>(row, "organization_id")?.to_string(),
        name: row.text("name")?.to_owned(),
        role: memberships::role(row)?.into(),
        sync: Some(sync),
    })
}

#[cfg(test)]
mod tests {
    use foundry_store::{Migrations, StoreOptions};
    use foundry_testkit::{PostgresDatabase, test_env};
    use foundry_watch_hub::View as _;

    use super::*;
    use crate::store::MIGRATIONS;

    const BEFORE: Migrations = Migrations { owner: MIGRATIONS.owner, steps: MIGRATIONS.steps.split_at(1).0 };

    /// Rows of the previous schema.
    const ROWS: [&str; 4] = [
        "INSERT INTO organizations (organization_id, name, created_at) VALUES ($1, 'acme', 1) RETURNING 1 AS n",
        "INSERT INTO organizations (organization_id, name, created_at) VALUES ($1, 'zeta', 1) RETURNING 1 AS n",
        "INSERT INTO users (user_id, login, display_name, created_at) VALUES ($1, 'alice', 'Alice', 1) RETURNING 1 AS n",
        "INSERT INTO users (user_id, login, display_name, created_at) VALUES ($1, 'bob', 'Bob', 1) RETURNING 1 AS n",
    ];
    const MEMBER: &str = "INSERT INTO memberships (organization_id, user_id, role, created_at) \
         VALUES ($1, $2, 4, 1) RETURNING 1 AS n";

    async fn users_of_before_find_their_shell(url: &str) {
        let env = test_env().env;
        let (acme, zeta) = (OrganizationId::generate(&env), OrganizationId::generate(&env));
        let (alice, bob) = (UserId::generate(&env), UserId::generate(&env));
        let old = Store::connect(url, &[&BEFORE], &env, StoreOptions::default()).await.unwrap();
        let ids = [acme.as_str(), zeta.as_str(), alice.as_str(), bob.as_str()];
        let both = |sql| foundry_store::DialectSql { sqlite: sql, postgres: sql };
        for (sql, id) in ROWS.into_iter().zip(ids) {
            old.write(both(sql), &[id.into()]).await.unwrap();
        }
        for organization in [&zeta, &acme] {
            old.write(both(MEMBER), &[organization.into(), (&alice).into()]).await.unwrap();
        }
        old.close().await;

        let store = Store::connect(url, &[&MIGRATIONS], &env, StoreOptions::default()).await.unwrap();
        let shell = read(&store, &alice, &Reach::All).await.unwrap().unwrap();
        assert_eq!((shell.rev, shell.organizations.len()), (1, 2));
        assert_eq!(shell.user.active_organization_id, acme.as_str(), "the first by name");
        let snapshot = store.snapshot().await.unwrap();
        let rows = view(&alice, &Reach::All).rows_after(&snapshot, 0, 10).await.unwrap();
        assert_eq!(rows.changes.len(), 3);
        assert_eq!(read(&store, &bob, &Reach::All).await.unwrap().unwrap().user.active_organization_id, "");
        drop(snapshot);
        store.close().await;
    }

    #[tokio::test]
    async fn users_of_before_find_their_shell_on_sqlite() {
        let dir = tempfile::tempdir().unwrap();
        users_of_before_find_their_shell(&format!("sqlite:{}", dir.path().join("auth.db").display())).await;
    }

    #[tokio::test]
    async fn users_of_before_find_their_shell_on_postgres() {
        users_of_before_find_their_shell(&PostgresDatabase::create().await.unwrap().url).await;
    }
}
