//! An agent profile: which agent, with which model and set-up.

use foundry_core::{Error, OrganizationId, ProfileId, Timestamp};
use foundry_proto::common::v1::PermissionPolicy;
use foundry_proto::provisioner::v1 as proto;
use foundry_proto::provisioner::v1::mcp_server::Transport;
use foundry_proto::provisioner::v1::{AgentProfileSettings, McpServer};

use super::model_provider::{is_elsewhere, server_url};
use super::named::{self, Kind, Secrets};
use super::profile_name::{check_choice, check_name};

/// Where a row's [`Secrets`] hold the secret variables: the prefix of their places.
pub const ENVIRONMENT: &str = "environment/";
/// Where they hold the secrets of MCP servers: this prefix, the server's name and a slash.
pub const MCP: &str = "mcp/";

/// Most MCP servers of a profile.
const MAX_SERVERS: usize = 16;
/// Most arguments of a program, and its longest argument in bytes.
const MAX_ARGUMENTS: usize = 64;
const MAX_ARGUMENT: usize = 4 << 10;

/// An agent profile. The secrets are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub profile_id: ProfileId,
    pub organization_id: OrganizationId,
    /// What people see, revision included.
    pub view: proto::AgentProfile,
    /// Its secrets as they are stored.
    pub sealed: Option<bytes::Bytes>,
}

impl Profile {
    /// What people chose.
    pub fn settings(&self) -> &AgentProfileSettings {
        static NONE: std::sync::LazyLock<AgentProfileSettings> =
            std::sync::LazyLock::new(AgentProfileSettings::default);
        self.view.settings.as_ref().unwrap_or(&NONE)
    }
}

/// A field of the settings that an update names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Name,
    Agent,
    ModelProvider,
    Model,
    Mode,
    Effort,
    Environment,
    McpServers,
    PermissionPolicy,
    Default,
}

impl Field {
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::Agent,
        Self::ModelProvider,
        Self::Model,
        Self::Mode,
        Self::Effort,
        Self::Environment,
        Self::McpServers,
        Self::PermissionPolicy,
        Self::Default,
    ];

    /// The field's path in a field mask.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Agent => "agent",
            Self::ModelProvider => "model_provider_id",
            Self::Model => "model",
            Self::Mode => "mode",
            Self::Effort => "effort",
            Self::Environment => "environment",
            Self::McpServers => "mcp_servers",
            Self::PermissionPolicy => "permission_policy",
            Self::Default => "is_default",
        }
    }
}

/// Applies these fields of the settings to a profile's view and its secrets: all of them, or none when one is
/// refused. The caller checks that the agent and the model provider exist.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field; no secret is in it.
pub fn apply(
    view: &mut proto::AgentProfile,
    secrets: &mut Secrets,
    given: AgentProfileSettings,
    fields: &[Field],
    now: Timestamp,
) -> Result<(), Error> {
    let mut new = view.settings.clone().unwrap_or_default();
    let (old, mut kept) = (secrets.clone(), secrets.clone());
    let has = |field| fields.contains(&field);
    if has(Field::Name) {
        check_name("settings.name", &given.name)?;
        new.name = given.name;
    }
    if has(Field::Agent) {
        new.agent = given.agent;
    }
    if has(Field::ModelProvider) {
        new.model_provider_id = given.model_provider_id;
    }
    for (field, from, to) in [
        (Field::Model, given.model, &mut new.model),
        (Field::Mode, given.mode, &mut new.mode),
        (Field::Effort, given.effort, &mut new.effort),
    ] {
        if has(field) {
            check_choice(&format!("settings.{}", field.as_str()), &from)?;
            *to = from;
        }
    }
    if has(Field::Environment) {
        kept.forget(ENVIRONMENT);
        let list = given.environment;
        new.environment =
            named::take("settings.environment", ENVIRONMENT, Kind::Variable, list, &old, &mut kept)?;
    }
    if has(Field::McpServers) {
        kept.forget(MCP);
        new.mcp_servers = servers(given.mcp_servers, &new.mcp_servers, &old, &mut kept)?;
    }
    if has(Field::PermissionPolicy) {
        new.permission_policy = policy(given.permission_policy)?.into();
    }
    if has(Field::Default) {
        new.is_default = given.is_default;
    }
    if !new.model.is_empty() && new.model_provider_id.is_empty() {
        let text = "requires a model provider: choose one, or leave the model empty";
        return Err(Error::invalid_field("settings.model", text));
    }
    view.settings = Some(new);
    view.update_time = Some(now.to_proto());
    *secrets = kept;
    Ok(())
}

fn policy(number: i32) -> Result<PermissionPolicy, Error> {
    match PermissionPolicy::try_from(number) {
        Ok(PermissionPolicy::Unspecified) => Ok(PermissionPolicy::Ask),
        Ok(policy) => Ok(policy),
        Err(_) => Err(Error::invalid_field("settings.permission_policy", "is not known")),
    }
}

/// The URL of a server; none for one that is started as a program.
fn address(server: &McpServer) -> Option<&str> {
    match server.transport.as_ref()? {
        Transport::Http(http) => Some(&http.url),
        Transport::Sse(sse) => Some(&sse.url),
        Transport::Stdio(_) => None,
    }
}

/// Whether the new server is the one that had this name before, so that it may keep that one's secrets.
fn was_there(before: &[McpServer], new: &McpServer) -> bool {
    let old = before.iter().find(|old| old.name == new.name);
    old.is_some_and(|old| match (address(old), address(new)) {
        (Some(old), Some(new)) => !is_elsewhere(old, new),
        (old, new) => old.is_none() && new.is_none(),
    })
}

fn servers(
    list: Vec<McpServer>,
    before: &[McpServer],
    old: &Secrets,
    secrets: &mut Secrets,
) -> Result<Vec<McpServer>, Error> {
    const FIELD: &str = "settings.mcp_servers";
    if list.len() > MAX_SERVERS {
        return Err(Error::invalid_field(FIELD, "has more than 16 entries"));
    }
    let mut shown: Vec<McpServer> = Vec::with_capacity(list.len());
    let none = Secrets::default();
    for server in list {
        let old = if was_there(before, &server) { old } else { &none };
        let McpServer { name, transport } = server;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let dots = name.chars().all(|c| c == '.');
        if !(1..=64).contains(&name.len()) || !name.chars().all(plain) || dots {
            let text = "contains a name that is not 1 to 64 letters, digits, dashes, dots or underscores, or \
                        consists only of dots";
            return Err(Error::invalid_field(FIELD, text));
        }
        if shown.iter().any(|other| other.name == name) {
            return Err(Error::invalid_field(FIELD, format!("contains {name} twice")));
        }
        let place = format!("{MCP}{name}/");
        let mut headers = |list| named::take(FIELD, &place, Kind::Header, list, old, secrets);
        let transport = match transport {
            None => {
                let text = format!("has no transport for {name}: stdio, http or sse");
                return Err(Error::invalid_field(FIELD, text));
            }
            Some(Transport::Http(mut http)) => {
                http.url = server_url(FIELD, &http.url)?;
                http.headers = headers(http.headers)?;
                Transport::Http(http)
            }
            Some(Transport::Sse(mut sse)) => {
                sse.url = server_url(FIELD, &sse.url)?;
                sse.headers = headers(sse.headers)?;
                Transport::Sse(sse)
            }
            Some(Transport::Stdio(mut stdio)) => {
                check_command(FIELD, &name, &stdio.command, &stdio.args)?;
                stdio.environment =
                    named::take(FIELD, &place, Kind::Variable, stdio.environment, old, secrets)?;
                Transport::Stdio(stdio)
            }
        };
        shown.push(McpServer { name, transport: Some(transport) });
    }
    Ok(shown)
}

fn check_command(field: &str, name: &str, command: &str, args: &[String]) -> Result<(), Error> {
    let bad = |text: &str| text.len() > MAX_ARGUMENT || text.contains('\0');
    if command.trim().is_empty() || bad(command) {
        return Err(Error::invalid_field(field, format!("has no usable command for {name}")));
    }
    if args.len() > MAX_ARGUMENTS || args.iter().any(|a| bad(a)) {
        let text = format!("has more than 64 arguments for {name}, or one larger than 4 KiB");
        return Err(Error::invalid_field(field, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::named_value::Content;
    use foundry_proto::common::v1::{NamedValue, SecretText};
    use foundry_proto::provisioner::v1::{McpHttp, McpStdio};

    use super::*;

    fn secret(name: &str, value: &str) -> NamedValue {
        NamedValue { name: name.into(), content: Some(Content::Secret(SecretText { value: value.into() })) }
    }

    fn settings() -> AgentProfileSettings {
        AgentProfileSettings {
            name: "night".into(),
            agent: "claude".into(),
            environment: vec![secret("NPM_TOKEN", "canary-1")],
            mcp_servers: vec![
                McpServer {
                    name: "db".into(),
                    transport: Some(Transport::Stdio(McpStdio {
                        command: "npx".into(),
                        args: vec!["-y".into(), "db-mcp".into()],
                        environment: vec![secret("DB_PASSWORD", "canary-2")],
                    })),
                },
                McpServer {
                    name: "web".into(),
                    transport: Some(Transport::Http(McpHttp {
                        url: "https://mcp.example/".into(),
                        headers: vec![secret("authorization", "Bearer canary-3")],
                    })),
                },
            ],
            ..AgentProfileSettings::default()
        }
    }

    #[test]
    fn keeps_the_secrets_of_all_places_apart_from_what_is_shown() {
        let (mut view, mut secrets) = (proto::AgentProfile::default(), Secrets::default());
        apply(&mut view, &mut secrets, settings(), &Field::ALL, Timestamp::default()).unwrap();
        let printed = format!("{view:?} {secrets:?}");
        assert!(!printed.contains("canary"), "{printed}");
        for (place, value) in [
            ("environment/NPM_TOKEN", "canary-1"),
            ("mcp/db/DB_PASSWORD", "canary-2"),
            ("mcp/web/authorization", "Bearer canary-3"),
        ] {
            assert_eq!(secrets.get(place), Some(&foundry_secrets::Secret::new(value)));
        }
        assert_eq!(view.settings.unwrap().permission_policy(), PermissionPolicy::Ask);
    }

    #[test]
    fn what_is_shown_can_be_sent_back_without_losing_a_secret() {
        let (mut view, mut secrets) = (proto::AgentProfile::default(), Secrets::default());
        apply(&mut view, &mut secrets, settings(), &Field::ALL, Timestamp::default()).unwrap();
        let (shown, kept) = (view.settings.clone().unwrap(), secrets.clone());
        apply(&mut view, &mut secrets, shown, &Field::ALL, Timestamp::default()).unwrap();
        assert_eq!(secrets, kept);
        let without = AgentProfileSettings::default();
        apply(&mut view, &mut secrets, without, &[Field::McpServers], Timestamp::default()).unwrap();
        assert!(
            secrets.get("mcp/db/DB_PASSWORD").is_none() && secrets.get("environment/NPM_TOKEN").is_some()
        );
    }

    #[test]
    fn a_model_needs_a_provider_and_a_server_a_way_to_it() {
        let (mut view, mut secrets) = (proto::AgentProfile::default(), Secrets::default());
        let mut refuse = |change: fn(&mut AgentProfileSettings)| {
            let mut given = settings();
            change(&mut given);
            apply(&mut view, &mut secrets, given, &Field::ALL, Timestamp::default()).unwrap_err();
        };
        refuse(|s| s.model = "opus".into());
        refuse(|s| s.name = "Night".into());
        refuse(|s| s.mode = "a b".into());
        refuse(|s| s.permission_policy = 9);
        refuse(|s| s.mcp_servers[0].transport = None);
        refuse(|s| s.mcp_servers[1].name = "db".into());
        refuse(|s| s.mcp_servers[1].name = "a/b".into());
        refuse(|s| s.mcp_servers[1].name = "..".into());
        refuse(|s| {
            let http = McpHttp { url: "ftp://x".into(), headers: Vec::new() };
            s.mcp_servers[1].transport = Some(Transport::Sse(http));
        });
        refuse(|s| s.mcp_servers[0].transport = Some(Transport::Stdio(McpStdio::default())));
    }

    #[test]
    fn an_mcp_server_elsewhere_gets_no_secret_of_the_one_before() {
        let (mut view, mut secrets) = (proto::AgentProfile::default(), Secrets::default());
        apply(&mut view, &mut secrets, settings(), &Field::ALL, Timestamp::default()).unwrap();
        let moved = |url: &str| {
            let (mut view, mut secrets) = (view.clone(), secrets.clone());
            let mut given = settings();
            given.mcp_servers = view.settings.clone().unwrap().mcp_servers;
            for server in &mut given.mcp_servers {
                match server.transport.as_mut().unwrap() {
                    Transport::Http(http) => http.url = url.to_owned(),
                    Transport::Sse(sse) => sse.url = url.to_owned(),
                    Transport::Stdio(_) => {}
                }
            }
            apply(&mut view, &mut secrets, given, &[Field::McpServers], Timestamp::default())
        };
        moved("https://mcp.example/other").unwrap();
        for url in ["https://evil.example/", "http://mcp.example/", "https://mcp.example:444/"] {
            assert!(moved(url).unwrap_err().message().contains("has no secret for"), "{url}");
        }
    }
}
