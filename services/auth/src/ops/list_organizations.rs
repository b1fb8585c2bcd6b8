//! ListOrganizations: the caller's organizations that its token covers, sorted by name.

use foundry_authn::Caller;
use foundry_core::{PageRequest, PageToken, Result};
use foundry_proto::auth::v1::{ListOrganizationsRequest, ListOrganizationsResponse};

use super::reach;
use crate::auth::Auth;
use crate::store::organizations::{self, Organization};

pub(crate) async fn list_organizations(
    auth: &Auth,
    caller: &Caller,
    request: ListOrganizationsRequest,
) -> Result<ListOrganizationsResponse> {
    let user = caller.require_user()?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let after = page.begins_after(String::new(), |name| Some(name.to_owned()))?;
    let only = reach(user);
    let found = organizations::of_user(&auth.store, &user.user_id, &only, &after, page.limit()).await?;
    let (found, next) = page.cut(found, |o| o.name.clone());
    let organizations = found.iter().map(Organization::message).collect();
    Ok(ListOrganizationsResponse { organizations, next_page_token: PageToken::encode_next(next) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn pages_by_name_through_the_callers_own() {
        let f = Fixture::new().await;
        f.member("bob", "bobs").await;
        for name in ["c", "a", "b"] {
            f.member("alice", name).await;
        }
        let (alice, _) = f.member("alice", "a").await;
        let mut seen = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListOrganizationsRequest { page_size: 2, page_token };
            let answer = list_organizations(&f.auth, &alice, request).await.unwrap();
            assert!(answer.organizations.len() <= 2);
            seen.extend(answer.organizations.into_iter().map(|o| o.name));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn shows_a_personal_access_token_its_own() {
        let f = Fixture::new().await;
        f.member("alice", "a").await;
        let (alice, b) = f.member("alice", "b").await;
        let token = f.access_token(&alice, &b, None).await;
        let caller = f.caller(&token.secret).await.unwrap();
        let answer = list_organizations(&f.auth, &caller, ListOrganizationsRequest::default()).await.unwrap();
        assert_eq!(answer.organizations.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
