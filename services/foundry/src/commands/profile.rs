//! `foundry profile`: agent profiles.

mod mcp;

use std::process::ExitCode;

use foundry_proto::common::v1::named_value::Content;
use foundry_proto::common::v1::{NamedValue, PermissionPolicy};
use foundry_proto::provisioner::v1::mcp_server::Transport;
use foundry_proto::provisioner::v1::{
    AgentProfile, AgentProfileSettings, CreateAgentProfileRequest, DeleteAgentProfileRequest,
    ListAgentProfilesRequest, UpdateAgentProfileRequest,
};
use prost_types::FieldMask;

use crate::cli::Output;
use crate::cli::models::{Permissions, Profile, ProfileSettings};
use crate::client::{Gateway, request_id};
use crate::commands::offers::Offers;
use crate::commands::{model, secret};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Profile) -> Result<ExitCode, Failure> {
    match command {
        Profile::Add { name, agent, settings, default } => {
            let new = AgentProfileSettings { name, agent, is_default: default, ..Default::default() };
            add(gateway, output, new, &settings).await?;
        }
        Profile::List => list(gateway, output).await?,
        Profile::Show { profile } => print(gateway, output, &resolve(gateway, &profile).await?).await?,
        Profile::Update { profile, rename, agent, settings } => {
            let found = resolve(gateway, &profile).await?;
            let (mut new, mut paths) = (found.settings.clone().unwrap_or_default(), Vec::new());
            for (field, given, to) in [("name", rename, &mut new.name), ("agent", agent, &mut new.agent)] {
                if let Some(text) = given {
                    *to = text;
                    paths.push(field.to_owned());
                }
            }
            apply(gateway, &mut new, &mut paths, &settings).await?;
            print(gateway, output, &update(gateway, found, new, paths).await?).await?;
        }
        Profile::Remove { profile } => {
            let profile_id = resolve(gateway, &profile).await?.profile_id;
            let request = DeleteAgentProfileRequest { request_id: request_id(), profile_id };
            let answer = gateway.profiles().delete_agent_profile(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("removed"))?;
        }
        Profile::Default { profile, .. } => default(gateway, output, profile.as_deref()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(
    gateway: &Gateway,
    output: Output,
    mut settings: AgentProfileSettings,
    given: &ProfileSettings,
) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    apply(gateway, &mut settings, &mut Vec::new(), given).await?;
    let request = CreateAgentProfileRequest {
        request_id: request_id(),
        organization_id: organization_id.clone(),
        settings: Some(settings),
    };
    let made = gateway.profiles().create_agent_profile(request).await?.into_inner().profile;
    let made = made.unwrap_or_default();
    if output == Output::Json {
        return output::one(output, &made, |_| ());
    }
    let settings = made.settings.clone().unwrap_or_default();
    output::line(&format!("{}  {}", made.profile_id, settings.name));
    let offers = Offers::of(gateway, &organization_id).await?;
    output::line(&format!("  model provider: {}", offers.words(&settings)));
    if let Some(words) = offers.ignored(&settings) {
        eprintln!("warning: {}", output::inert(&words));
    }
    Ok(())
}

/// Prints a profile, with the model provider that its agent will use.
async fn print(gateway: &Gateway, output: Output, profile: &AgentProfile) -> Result<(), Failure> {
    if output == Output::Json {
        return output::one(output, profile, |_| ());
    }
    show(profile, &Offers::of(gateway, &profile.organization_id).await?);
    Ok(())
}

async fn update(
    gateway: &Gateway,
    found: AgentProfile,
    settings: AgentProfileSettings,
    paths: Vec<String>,
) -> Result<AgentProfile, Failure> {
    if paths.is_empty() {
        return Err(Failure::new("no changes given").next("see `foundry profile update --help`").exit(2));
    }
    let request = UpdateAgentProfileRequest {
        request_id: request_id(),
        profile_id: found.profile_id,
        settings: Some(settings),
        update_mask: Some(FieldMask { paths }),
        expected_rev: found.rev,
    };
    Ok(gateway.profiles().update_agent_profile(request).await?.into_inner().profile.unwrap_or_default())
}

async fn default(gateway: &Gateway, output: Output, wanted: Option<&str>) -> Result<(), Failure> {
    let found = match wanted {
        Some(wanted) => resolve(gateway, wanted).await?,
        None => {
            let is_default = |p: &AgentProfile| p.settings.as_ref().is_some_and(|s| s.is_default);
            let found = all(gateway).await?.into_iter().find(is_default);
            found.ok_or_else(|| Failure::new("there is no default profile").exit(4))?
        }
    };
    let settings = AgentProfileSettings { is_default: wanted.is_some(), ..Default::default() };
    let changed = update(gateway, found, settings, vec!["is_default".to_owned()]).await?;
    print(gateway, output, &changed).await
}

/// Copies the options that were given into the settings, and adds their field paths to the update mask.
async fn apply(
    gateway: &Gateway,
    settings: &mut AgentProfileSettings,
    paths: &mut Vec<String>,
    given: &ProfileSettings,
) -> Result<(), Failure> {
    if let Some(wanted) = &given.model_provider {
        settings.model_provider_id = match wanted.as_str() {
            "" => String::new(),
            wanted => model::resolve(gateway, wanted).await?.model_provider_id,
        };
        paths.push("model_provider_id".to_owned());
    }
    for (field, given, to) in [
        ("model", &given.model, &mut settings.model),
        ("mode", &given.mode, &mut settings.mode),
        ("effort", &given.effort, &mut settings.effort),
    ] {
        if let Some(text) = given {
            to.clone_from(text);
            paths.push(field.to_owned());
        }
    }
    let environment = secret::entries(&given.environment, &given.secret_environment, true)?;
    if !environment.is_empty() || !given.unset_environment.is_empty() {
        settings.environment = secret::merged(&settings.environment, environment, &given.unset_environment);
        paths.push("environment".to_owned());
    }
    if let Some(file) = &given.mcp {
        settings.mcp_servers = mcp::read(file)?;
        paths.push("mcp_servers".to_owned());
    }
    if let Some(permissions) = given.permissions {
        let policy = match permissions {
            Permissions::Ask => PermissionPolicy::Ask,
            Permissions::Allow => PermissionPolicy::Allow,
        };
        settings.permission_policy = policy.into();
        paths.push("permission_policy".to_owned());
    }
    Ok(())
}

fn show(profile: &AgentProfile, offers: &Offers) {
    let settings = profile.settings.clone().unwrap_or_default();
    let mark = if settings.is_default { "  (default)" } else { "" };
    output::line(&format!("{}  {}{mark}", profile.profile_id, output::inert(&settings.name)));
    let line = |name: &str, text: &str| {
        if !text.is_empty() {
            output::line(&format!("  {name:<12} {}", output::inert(text)));
        }
    };
    line("agent", &settings.agent);
    line("provider", format!("{}  {}", offers.words(&settings), settings.model_provider_id).trim_end());
    line("model", &settings.model);
    line("mode", &settings.mode);
    line("effort", &settings.effort);
    line("permissions", &output::state(settings.permission_policy().as_str_name(), "PERMISSION_POLICY_"));
    for entry in &settings.environment {
        line("environment", &secret::shown(entry));
    }
    for server in &settings.mcp_servers {
        let (how, list) = match &server.transport {
            Some(Transport::Stdio(stdio)) => {
                (format!("{} {}", stdio.command, stdio.args.join(" ")), stdio.environment.as_slice())
            }
            Some(Transport::Http(http)) => (http.url.clone(), http.headers.as_slice()),
            Some(Transport::Sse(sse)) => (format!("{} (sse)", sse.url), sse.headers.as_slice()),
            None => (String::new(), &[][..]),
        };
        line("mcp", &format!("{}: {}", server.name, how.trim_end()));
        for entry in list {
            line("", &format!("  {}", secret::shown(entry)));
        }
    }
    line("warning", &offers.ignored(&settings).unwrap_or_default());
    let inside = secrets_inside(&settings);
    if !inside.is_empty() {
        line(
            "warning",
            &format!("these secrets are passed into the sandbox, where the agent can read them: {inside}"),
        );
    }
}

/// Names of the secrets that the agent can read, including those of MCP servers that run in the sandbox.
fn secrets_inside(settings: &AgentProfileSettings) -> String {
    let of = |list: &[NamedValue], before: &str| -> Vec<String> {
        let secret = list.iter().filter(|entry| matches!(entry.content, Some(Content::Secret(_))));
        secret.map(|entry| format!("{before}{}", entry.name)).collect()
    };
    let mut names = of(&settings.environment, "");
    for server in &settings.mcp_servers {
        // The model gateway adds the headers of HTTP servers, outside the sandbox.
        if let Some(Transport::Stdio(stdio)) = &server.transport {
            names.extend(of(&stdio.environment, &format!("{}/", server.name)));
        }
    }
    names.join(", ")
}

async fn list(gateway: &Gateway, output: Output) -> Result<(), Failure> {
    let profiles = all(gateway).await?;
    if output == Output::Json {
        return profiles.iter().try_for_each(|p| output::json(p).map(|text| output::line(&text)));
    }
    let offers = Offers::of(gateway, &gateway.organization().await?).await?;
    let rows = profiles.iter().map(|p| {
        let provider = p.settings.as_ref().map(|s| offers.words(s)).unwrap_or_default();
        let settings = p.settings.clone().unwrap_or_default();
        vec![
            settings.name,
            if settings.is_default { "default".to_owned() } else { String::new() },
            settings.agent,
            settings.model,
            settings.mode,
            settings.effort,
            provider,
            p.profile_id.clone(),
        ]
    });
    let header = ["name", "", "agent", "model", "mode", "effort", "model provider", "id"];
    output::table(&header, rows.collect());
    Ok(())
}

async fn all(gateway: &Gateway) -> Result<Vec<AgentProfile>, Failure> {
    of(gateway, &gateway.organization().await?).await
}

/// The agent profiles of an organization.
pub async fn of(gateway: &Gateway, organization_id: &str) -> Result<Vec<AgentProfile>, Failure> {
    let mut profiles = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAgentProfilesRequest {
            organization_id: organization_id.to_owned(),
            page_size: 0,
            page_token,
        };
        let page = gateway.profiles().list_agent_profiles(request).await?.into_inner();
        profiles.extend(page.profiles);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(profiles);
        }
    }
}

/// The profile with this name or id.
pub fn named<'a>(profiles: &'a [AgentProfile], wanted: &str) -> Option<&'a AgentProfile> {
    let has_name = |p: &AgentProfile| p.settings.as_ref().is_some_and(|s| s.name == wanted);
    profiles.iter().find(|p| has_name(p) || p.profile_id == wanted)
}

/// Finds a profile by its name or id.
async fn resolve(gateway: &Gateway, wanted: &str) -> Result<AgentProfile, Failure> {
    let found = named(&all(gateway).await?, wanted).cloned();
    found.ok_or_else(|| {
        Failure::new(format!("no agent profile {wanted}"))
            .next("list them with `foundry profile list`, or add one with `foundry profile add`")
            .exit(4)
    })
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::SecretText;
    use foundry_proto::provisioner::v1::{McpHttp, McpServer, McpStdio};

    use super::*;

    #[test]
    fn names_the_secrets_of_variables_and_programs_and_not_those_that_the_gateway_adds() {
        let secret = |name: &str| NamedValue {
            name: name.to_owned(),
            content: Some(Content::Secret(SecretText::default())),
        };
        let open = NamedValue { name: "PLAIN".to_owned(), content: Some(Content::Value("x".to_owned())) };
        let http = McpHttp { headers: vec![secret("Authorization")], ..McpHttp::default() };
        let stdio = McpStdio { environment: vec![secret("DB"), open.clone()], ..McpStdio::default() };
        let servers = [
            ("files", Transport::Stdio(stdio)),
            ("web", Transport::Http(http.clone())),
            ("old", Transport::Sse(http)),
        ];
        let mcp_servers = servers.map(|(name, t)| McpServer { name: name.to_owned(), transport: Some(t) });
        let settings = AgentProfileSettings {
            environment: vec![secret("TOKEN"), open],
            mcp_servers: mcp_servers.into(),
            ..AgentProfileSettings::default()
        };
        assert_eq!(secrets_inside(&settings), "TOKEN, files/DB");
    }
}
