//! Lists the repositories of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{ListRepositoriesRequest, ListRepositoriesResponse};

use crate::context::Context;
use crate::domain::repository::Repository;
use crate::store::repositories;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND` for an organization that is not the caller's.
pub async fn list_repositories(
    cx: &Context,
    caller: &Caller,
    request: ListRepositoriesRequest,
) -> Result<ListRepositoriesResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let (found, next) = repositories::list(&cx.store, &organization, &page).await?;
    Ok(ListRepositoriesResponse {
        repositories: found.iter().map(Repository::to_proto).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}

#[cfg(test)]
mod tests {
    use foundry_proto::repo::v1::RepositoryItem;
    use foundry_proto::repo::v1::repository_item::Item;
    use foundry_store::DialectSql;
    use foundry_watch::Op;
    use foundry_watch_hub::View as _;
    use prost::Message as _;

    use super::*;
    use crate::testing::Fixture;
    use crate::view;

    #[tokio::test]
    async fn a_damaged_repository_is_listed_and_watched_as_damaged_until_its_next_state() {
        let f = Fixture::new().await;
        f.mirrored().await;
        const SQL: &str = "UPDATE repositories SET condition = $1";
        let sql = DialectSql { sqlite: SQL, postgres: SQL };
        f.cx.store.write(sql, &[vec![0xff; 3].into()]).await.unwrap();
        let request =
            ListRepositoriesRequest { organization_id: f.organization.to_string(), ..Default::default() };
        let listed = list_repositories(&f.cx, &f.member, request).await.unwrap().repositories;
        assert_eq!(listed[0].condition.as_ref().unwrap().reason, "STORED_DATA_DAMAGED");
        let snapshot = f.cx.store.snapshot().await.unwrap();
        let view = view::repositories::of_organization(&f.organization);
        let rows = view.rows_after(&snapshot, 0, 100).await.unwrap().changes;
        let Op::Upsert(item) = &rows[0].op else { panic!("{rows:?}") };
        let item = RepositoryItem::decode(item.clone()).unwrap().item;
        assert_eq!(item, Some(Item::Repository(listed[0].clone())));
    }
}
