//! Checks of what a new task or session names, before it is created. The services check the same when they start the
//! agent, so that a task fails later with the same reason; here the answer comes at once.

use std::time::Duration;

use foundry_proto::provisioner::v1::AgentProfile;
use foundry_proto::repo::v1::{ListBranchesRequest, Repository, RepositoryState};

use super::offers::{Offers, Used};
use super::{profile, repo};
use crate::client::Gateway;
use crate::failure::Failure;

/// Most names that a refusal lists.
const SHOWN: usize = 10;

/// The agent, profile and model of a new task or session; empty = not named.
pub struct Wanted<'a> {
    /// Name of the agent.
    pub agent: &'a str,
    /// Id or name of the profile.
    pub profile: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// The agent without either; none = that of the default profile, or the default agent.
    pub otherwise: Option<&'a str>,
}

/// Refuses a profile that does not exist or cannot be used, an agent without a suitable model provider, and a model for an
/// agent that takes none. If the provisioner does not respond, the check is left to it.
///
/// # Errors
/// `PROFILE_NOT_FOUND`, `MODEL_PROVIDER_NOT_FOUND`, `AGENT_MODEL_MISSING`, or what is wrong with the arguments.
pub async fn agent(gateway: &Gateway, organization_id: &str, wanted: &Wanted<'_>) -> Result<(), Failure> {
    if wanted.agent.is_empty() && wanted.profile.is_empty() && wanted.model.is_empty() {
        return Ok(());
    }
    let known = async {
        let profiles = profile::of(gateway, organization_id).await?;
        Ok::<_, Failure>((profiles, Offers::of(gateway, organization_id).await?))
    };
    match known.await {
        Ok((profiles, offers)) => check(&profiles, &offers, wanted),
        Err(Failure { code: 5, .. }) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn check(profiles: &[AgentProfile], offers: &Offers, wanted: &Wanted<'_>) -> Result<(), Failure> {
    let settings = || profiles.iter().filter_map(|p| p.settings.as_ref());
    let named = match wanted.profile {
        "" => None,
        name => Some(profile::named(profiles, name).ok_or_else(|| {
            let known = listed(settings().map(|s| s.name.as_str()));
            Failure::new(format!(
                "the organization has no agent profile {name} (PROFILE_NOT_FOUND); it has: {known}"
            ))
            .next("choose one from `foundry profile list`, or add it with `foundry profile add`")
            .exit(4)
        })?),
    };
    let named = named.and_then(|p| p.settings.as_ref());
    let otherwise = || match wanted.otherwise {
        Some(agent) => Some(agent),
        None => settings().find(|s| s.is_default).map(|s| s.agent.as_str()),
    };
    let agent = match (named, wanted.agent) {
        (Some(settings), _) => settings.agent.as_str(),
        (None, "") => otherwise().or(offers.agents.first().map(|a| a.name.as_str())).unwrap_or_default(),
        (None, agent) => agent,
    };
    let provider = named.map(|s| s.model_provider_id.as_str()).unwrap_or_default();
    match offers.used(agent, provider) {
        Some(Used::NoModel) if !wanted.model.is_empty() => {
            Err(Failure::new(format!("{agent} uses no model, so --model has no effect"))
                .next("omit --model, or choose another agent or profile; `foundry agents` lists the agents")
                .exit(2))
        }
        Some(Used::Missing(kinds)) if named.is_some() || !wanted.agent.is_empty() => {
            let kinds = kinds.join(" or ");
            Err(Failure::new(format!(
                "{agent} needs a model provider of kind {kinds}, and the organization has none (AGENT_MODEL_MISSING)"
            ))
            .next("add one with `foundry model add`, or choose another agent or profile"))
        }
        Some(Used::Gone) => {
            let text = format!(
                "the model provider of profile {} does not exist (MODEL_PROVIDER_NOT_FOUND)",
                wanted.profile
            );
            Err(Failure::new(text).next("choose another with `foundry profile update --model-provider`"))
        }
        _ => Ok(()),
    }
}

/// Refuses a base branch that the repository does not have. One that its mirror does not have may be new: then the
/// repository is refreshed first. Without a mirror, or without a refresh, the check is left to the services.
///
/// # Errors
/// `BRANCH_NOT_FOUND`.
pub async fn base_branch(gateway: &Gateway, repository: &Repository, base: &str) -> Result<(), Failure> {
    if base.is_empty() || repository.sync_time.is_none() || in_mirror(gateway, repository, base).await.is_ok()
    {
        return Ok(());
    }
    match repo::refreshed(gateway, repository, REFRESH).await {
        Ok(fresh) if fresh.state() == RepositoryState::Ready => in_mirror(gateway, &fresh, base).await,
        _ => Ok(()),
    }
}

/// How long to wait for a refresh before the services are left to find out.
const REFRESH: Duration = Duration::from_secs(15);

async fn in_mirror(gateway: &Gateway, repository: &Repository, base: &str) -> Result<(), Failure> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let repository_id = repository.repository_id.clone();
        let request = ListBranchesRequest { repository_id, page_size: 500, page_token };
        let page = gateway.repo().list_branches(request).await?.into_inner();
        names.extend(page.branches.into_iter().map(|branch| branch.name));
        page_token = page.next_page_token;
        if names.iter().any(|name| name == base) {
            return Ok(());
        }
        if page_token.is_empty() {
            return Err(no_branch(repository, base, &names));
        }
    }
}

fn no_branch(repository: &Repository, base: &str, names: &[String]) -> Failure {
    let name = &repository.name;
    let known = listed(names.iter().map(String::as_str));
    Failure::new(format!("{name} has no branch {base} (BRANCH_NOT_FOUND); it has: {known}"))
        .next("choose one of its branches")
        .exit(4)
}

/// The first names of a list as text.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.collect();
    match all.len() {
        0 => "none".to_owned(),
        n if n > SHOWN => format!("{}, and {} more", all[..SHOWN].join(", "), n - SHOWN),
        _ => all.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::provisioner::v1::AgentProfileSettings;

    use super::*;
    use crate::commands::offers::testing::offers;

    fn profile(name: &str, agent: &str, provider: &str) -> AgentProfile {
        let settings = AgentProfileSettings {
            name: name.into(),
            agent: agent.into(),
            model_provider_id: provider.into(),
            is_default: name == "usual",
            ..AgentProfileSettings::default()
        };
        AgentProfile {
            profile_id: format!("prf_{name}"),
            settings: Some(settings),
            ..AgentProfile::default()
        }
    }

    fn checked(agent: &str, profile_name: &str, model: &str, otherwise: Option<&str>) -> Result<(), Failure> {
        let profiles = [
            profile("night", "claude", "mpr_b"),
            profile("old", "claude", "mpr_x"),
            profile("plain", "demo", "mpr_a"),
            profile("stars", "gemini", ""),
            profile("usual", "qwen", ""),
        ];
        check(&profiles, &offers(), &Wanted { agent, profile: profile_name, model, otherwise })
    }

    #[test]
    fn refuses_a_profile_that_is_unknown_or_cannot_be_used_and_lists_those_that_exist() {
        for (profile, reason) in [
            ("gone", "PROFILE_NOT_FOUND); it has: night, old, plain, stars, usual"),
            ("old", "MODEL_PROVIDER_NOT_FOUND"),
            ("stars", "AGENT_MODEL_MISSING"),
        ] {
            let refused = checked("", profile, "", None).unwrap_err();
            assert!(refused.message.contains(reason), "{profile}: {}", refused.message);
        }
        for profile in ["night", "prf_night", "plain", "usual"] {
            assert!(checked("", profile, "", None).is_ok(), "{profile}");
        }
        assert!(checked("gemini", "", "", None).unwrap_err().message.contains("AGENT_MODEL_MISSING"));
        assert!(checked("hal", "", "", None).is_ok(), "the service names the agents");
    }

    #[test]
    fn refuses_a_model_for_an_agent_without_one_whichever_way_the_agent_is_chosen() {
        for (agent, profile, otherwise) in [("demo", "", None), ("", "plain", None), ("", "", Some("demo"))] {
            let refused = checked(agent, profile, "m1", otherwise).unwrap_err();
            assert!(refused.message.contains("demo uses no model") && refused.code == 2);
        }
        for (agent, profile, otherwise) in [("claude", "", None), ("", "night", None), ("", "", None)] {
            assert!(checked(agent, profile, "m1", otherwise).is_ok(), "{agent} {profile}");
        }
    }

    #[test]
    fn names_some_branches_of_a_repository_that_lacks_the_base() {
        let repository = Repository { name: "widgets".into(), ..Repository::default() };
        let names: Vec<String> = (0..12).map(|n| format!("b{n}")).collect();
        let refused = no_branch(&repository, "mian", &names);
        assert!(refused.message.contains("BRANCH_NOT_FOUND); it has: b0, b1"), "{}", refused.message);
        assert!(
            refused.message.ends_with("and 2 more") && refused.next_action.contains("one of its branches")
        );
    }
}
