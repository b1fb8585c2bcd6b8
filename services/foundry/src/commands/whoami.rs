//! `foundry whoami`: who is signed in, how, and until when.

use std::process::ExitCode;

use foundry_proto::auth::v1::get_user_response::Credential;
use foundry_proto::auth::v1::{GetUserRequest, GetUserResponse};

use super::logins::{device, means};
use crate::cli::Global;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// Prints the caller.
pub async fn run(gateway: &Gateway, global: &Global) -> Result<ExitCode, Failure> {
    let found = gateway.auth().get_user(GetUserRequest {}).await?.into_inner();
    // Without an organization, or with several and none chosen, the rest is still worth saying.
    let chosen = gateway.organization().await.ok();
    output::one(global.output, &found, |found| {
        for (name, value) in lines(found, &global.address, chosen.as_deref()) {
            output::line(&format!("{name:<14}{value}"));
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn lines(found: &GetUserResponse, address: &str, chosen: Option<&str>) -> Vec<(&'static str, String)> {
    let user = found.user.clone().unwrap_or_default();
    let name = match user.display_name.as_str() {
        "" => user.login,
        name if name == user.login => user.login,
        name => format!("{} ({name})", user.login),
    };
    let organization = found.memberships.iter().find(|it| Some(it.organization_id.as_str()) == chosen);
    let organization = organization.map_or_else(
        || "none".to_owned(),
        |it| {
            let role = output::state(it.role().as_str_name(), "ROLE_");
            format!("{} ({role})", it.organization_name)
        },
    );
    let (how, ends) = match &found.credential {
        Some(Credential::Session(it)) => {
            (format!("{}, as {}", means(it), device(it)), output::time(it.expire_time.as_ref()))
        }
        Some(Credential::AccessToken(it)) => {
            let ends = output::time(it.expire_time.as_ref());
            (
                format!("personal access token {}", it.name),
                if ends.is_empty() { "never".to_owned() } else { ends },
            )
        }
        None => ("with a session that has ended".to_owned(), "now".to_owned()),
    };
    vec![
        ("user", name),
        ("organization", organization),
        ("mesh", address.to_owned()),
        ("signed in", how),
        ("ends", ends),
    ]
}

#[cfg(test)]
mod tests {
    use foundry_proto::auth::v1::{AccessToken, Membership, Session, SignInMeans, User};
    use foundry_proto::common::v1::Role;

    use super::*;

    #[test]
    fn says_who_where_and_how() {
        let membership = Membership {
            organization_id: "org_1".into(),
            organization_name: "acme".into(),
            role: Role::Owner.into(),
            ..Default::default()
        };
        let session = Session {
            device: "foundry on laptop".into(),
            means: SignInMeans::DeviceCode.into(),
            expire_time: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 }),
            ..Default::default()
        };
        let mut found = GetUserResponse {
            user: Some(User { login: "ada".into(), display_name: "Ada L.".into(), ..Default::default() }),
            memberships: vec![membership],
            credential: Some(Credential::Session(session)),
        };
        let said = |found: &GetUserResponse, chosen| {
            lines(found, "http://x", chosen).into_iter().map(|(_, value)| value).collect::<Vec<_>>()
        };
        assert_eq!(
            said(&found, Some("org_1")),
            [
                "ada (Ada L.)",
                "acme (owner)",
                "http://x",
                "by device code, as foundry on laptop",
                "2026-01-01 00:00:00"
            ]
        );
        let token = AccessToken { name: "ci".into(), ..Default::default() };
        found.credential = Some(Credential::AccessToken(token));
        assert_eq!(said(&found, None)[1], "none");
        assert_eq!(said(&found, None)[3..], ["personal access token ci", "never"]);
    }
}
