//! Finds out which names cannot be pushed as a new branch.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{BranchConflict, CheckBranchNamesRequest, CheckBranchNamesResponse};

use crate::context::Context;
use crate::store::branches;

/// Most names in a request.
const MAX_NAMES: usize = 16;

/// A stored read.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_ARGUMENT` for too many names.
pub async fn check_branch_names(
    cx: &Context,
    caller: &Caller,
    request: CheckBranchNamesRequest,
) -> Result<CheckBranchNamesResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    let repository = cx.repository(caller, &request.repository_id, Role::Viewer).await?;
    if repository.organization_id != organization {
        return Err(Error::not_found("repository", &request.repository_id));
    }
    if request.names.len() > MAX_NAMES {
        return Err(Error::invalid_field("names", "must be at most 16"));
    }
    let mut conflicts = Vec::new();
    for name in request.names {
        if let Some(taken_by) = branches::conflict(&cx.store, &repository.repository_id, &name).await? {
            conflicts.push(BranchConflict { name, taken_by });
        }
    }
    Ok(CheckBranchNamesResponse { conflicts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, git};

    #[tokio::test]
    async fn names_the_branch_that_is_the_same_below_or_above() {
        let f = Fixture::new().await;
        for name in ["feature/x", "fix", "a%b"] {
            git(&f.origin, &["branch", name]);
        }
        let repository_id = f.mirrored().await.repository_id;
        let names = ["feature", "feature/x/y", "feature/y", "features", "fix", "fix/a", "a_b", "aXb/c", "ma"];
        let request = CheckBranchNamesRequest {
            organization_id: f.organization.to_string(),
            repository_id,
            names: names.map(str::to_owned).to_vec(),
        };
        let caller = Caller::service("task");
        let answer = check_branch_names(&f.cx, &caller, request.clone()).await.unwrap();
        let found: Vec<_> = answer.conflicts.iter().map(|c| (c.name.as_str(), c.taken_by.as_str())).collect();
        assert_eq!(
            found,
            [("feature", "feature/x"), ("feature/x/y", "feature/x"), ("fix", "fix"), ("fix/a", "fix")]
        );
        let foreign = CheckBranchNamesRequest {
            organization_id: OrganizationId::generate(&f.env.env).to_string(),
            ..request
        };
        let refused = check_branch_names(&f.cx, &caller, foreign).await.unwrap_err();
        assert_eq!(refused.code(), foundry_core::Code::NotFound);
    }
}
