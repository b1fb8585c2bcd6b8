//! ListMembers: the members of an organization, sorted by login.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::auth::v1::{ListMembersRequest, ListMembersResponse};
use foundry_proto::common::v1::Role;

use crate::auth::Auth;
use crate::store::memberships::{self, Membership};

pub(crate) async fn list_members(
    auth: &Auth,
    caller: &Caller,
    request: ListMembersRequest,
) -> Result<ListMembersResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let after = page.begins_after(String::new(), |login| Some(login.to_owned()))?;
    let found = memberships::of_organization(&auth.store, &organization, &after, page.limit()).await?;
    let (found, next) = page.cut(found, |m| m.login.clone());
    Ok(ListMembersResponse {
        members: found.iter().map(Membership::message).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn pages_by_login() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        for login in ["dora", "bob", "carol"] {
            f.add(&alice, &acme, login, Role::Viewer).await;
        }
        let request =
            |page_token| ListMembersRequest { organization_id: acme.to_string(), page_size: 3, page_token };
        let first = list_members(&f.auth, &alice, request(String::new())).await.unwrap();
        let rest = list_members(&f.auth, &alice, request(first.next_page_token)).await.unwrap();
        let logins: Vec<_> = first.members.iter().chain(&rest.members).map(|m| m.login.as_str()).collect();
        assert_eq!(logins, ["alice", "bob", "carol", "dora"]);
        assert_eq!(rest.next_page_token, "");
    }

    #[tokio::test]
    async fn a_foreign_organization_looks_absent() {
        let f = Fixture::new().await;
        let (_, acme) = f.member("alice", "acme").await;
        let (bob, _) = f.member("bob", "").await;
        let ask = async |id: String| {
            let request = ListMembersRequest { organization_id: id, ..Default::default() };
            list_members(&f.auth, &bob, request).await.unwrap_err()
        };
        let absent = OrganizationId::generate(&f.auth.env);
        let (foreign, none) = (ask(acme.to_string()).await, ask(absent.to_string()).await);
        assert_eq!((foreign.code(), none.code()), (Code::NotFound, Code::NotFound));
        assert_eq!(foreign.message().replace(acme.as_str(), ""), none.message().replace(absent.as_str(), ""));
        assert_eq!(ask("org_../../x".into()).await.code(), Code::InvalidArgument);
    }
}
