//! Opening an agent conversation. A repetition after a crash at any point has the result of the first attempt: the
//! runtime starts each attempt once and passes each request on once, and its log has the answers.

use std::path::PathBuf;
use std::time::Duration;

use foundry_agents::{Launch, SessionSetting, Setting, SignIn};
use foundry_core::Env;
use foundry_sandbox::acp::{AcpEvent, RpcError};
use foundry_sandbox::wire::AgentStart;
use foundry_sandbox::{AcpId, Class, ProviderError, TapBody, TapCursor, TapReader};
use serde_json::{Value, json};

use super::settings::{Choosable, MODE, MODEL, SetOption};
use super::{ClientError, LogFollower, RequestId, RuntimeClient};

/// What is needed to open a conversation.
#[derive(Clone, Debug)]
pub struct Conversation<'a> {
    /// The client of the sandbox's runtime.
    pub client: &'a RuntimeClient,
    /// The name of the conversation.
    pub acp: &'a AcpId,
    /// The agent's name.
    pub agent: &'a str,
    /// The program with its first arguments, as the sandbox sees it; those of the launch follow.
    pub command: Vec<String>,
    /// How the agent is started and set up.
    pub launch: &'a Launch,
    /// The MCP servers it may use, in the protocol's JSON form.
    pub mcp_servers: &'a [Value],
    /// HOME, as the sandbox sees it.
    pub home: PathBuf,
    /// Where the agent works, as the sandbox sees it.
    pub workspace: PathBuf,
    /// The attempt, e.g. the runtime instance: a new attempt starts another agent process, the same one finds its
    /// earlier results.
    pub attempt: &'a str,
    /// The session of an earlier agent process to resume, if there was one.
    pub earlier: Option<&'a str>,
    /// Options that the user chose in the conversation, as ids with values; they override the settings of the launch.
    pub chosen: &'a [(String, String)],
}

/// The agent's response to `initialize`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Initialized(pub Value);

impl Initialized {
    /// Whether the agent can resume an earlier session and replays its history.
    pub fn can_load(&self) -> bool {
        self.0.pointer("/agentCapabilities/loadSession").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether the agent can resume an earlier session without replaying its history.
    pub fn can_resume(&self) -> bool {
        self.0.pointer("/agentCapabilities/sessionCapabilities/resume").is_some_and(|v| !v.is_null())
    }

    /// The kinds of content it accepts in prompts besides text: `image`, `embedded`.
    pub fn prompt_kinds(&self) -> Vec<&'static str> {
        let takes = |name: &str| {
            let path = format!("/agentCapabilities/promptCapabilities/{name}");
            self.0.pointer(&path).and_then(Value::as_bool).unwrap_or(false)
        };
        let kinds = [("image", "image"), ("embeddedContext", "embedded")];
        kinds.into_iter().filter(|(name, _)| takes(name)).map(|(_, kind)| kind).collect()
    }

    /// The names of the sign-in methods it offers.
    pub fn sign_ins(&self) -> Vec<&str> {
        let methods = self.0.get("authMethods").and_then(Value::as_array);
        methods.into_iter().flatten().filter_map(|m| m.get("name").and_then(Value::as_str)).collect()
    }
}

/// An open conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The agent's own id of the session.
    pub session_id: String,
    /// Whether the agent has the history of the earlier session.
    pub remembers: bool,
    /// The agent's capabilities.
    pub initialized: Initialized,
    /// The agent's description of the session: modes, models, options.
    pub session: Value,
    /// Values that a user chose and that the agent does not offer or refuses.
    pub passed_over: Vec<String>,
    /// Options among the chosen ones that the agent does not offer.
    pub unknown: Vec<String>,
}

const POLL: Duration = Duration::from_millis(100);
/// How long an agent may take for each of the steps.
const LIMIT: Duration = Duration::from_secs(120);
/// The replay of a session's history counts as complete after this long without a message.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for that.
const MAX_RETELLING: Duration = Duration::from_secs(10);
/// The method that opens a new session.
const NEW: &str = "session/new";
/// The method that resumes an earlier session and replays its history.
const LOAD: &str = "session/load";
/// The requests of an agent that Foundry answers; all others are refused at once by the runtime.
const OFFERS: [&str; 2] = ["session/request_permission", "elicitation/create"];
/// The code of the protocol for a call that needs a sign-in.
const AUTHENTICATION_REQUIRED: i64 = -32_000;

impl Conversation<'_> {
    /// Starts the agent and opens a session.
    ///
    /// # Errors
    /// `AGENT_START_FAILED`, `AGENT_EXITED` with the exit status, `AGENT_SIGN_IN_REQUIRED` with the methods on offer,
    /// `AGENT_ERROR` with the agent's message, `AGENT_START_TIMEOUT`, and those of the runtime and its log.
    pub async fn open(&self, env: &Env) -> Result<Opened, ProviderError> {
        for file in &self.launch.files {
            let place = self.home.join(&file.path);
            self.client.put_filled_file(&place, 0o600, file.bytes.clone().into()).await?;
        }
        let start = AgentStart {
            agent: self.agent.to_owned(),
            attempt: self.attempt.to_owned(),
            argv: self.command.iter().chain(&self.launch.args).cloned().collect(),
            env: self.launch.env.clone(),
            cwd: Some(self.workspace.clone()),
            offers: OFFERS.map(str::to_owned).to_vec(),
        };
        let started = self.client.start_agent(self.acp, &start).await?;
        let from = TapCursor { offset: started.log_offset, ..TapCursor::default() };
        let hello = json!({
            "protocolVersion": 1,
            "clientCapabilities": {
                "fs": { "readTextFile": false, "writeTextFile": false },
                "terminal": false,
                "auth": { "_meta": { "gateway": true } },
                "elicitation": { "form": {} },
                "session": { "configOptions": { "boolean": {} } },
            },
            "clientInfo": { "name": "foundry", "version": env!("CARGO_PKG_VERSION") },
        });
        let initialized = Initialized(self.done(&from, "initialize", hello, env).await?);
        if let Some(SignIn { method_id, meta }) = &self.launch.authenticate {
            let mut params = json!({ "methodId": method_id });
            if !meta.is_null() {
                params["_meta"] = meta.clone();
            }
            self.done(&from, "authenticate", params, env).await?;
        }
        let (session_id, way, session) = self.session(&from, &initialized, env).await?;
        let mut offer = session.clone();
        let mut passed_over = Vec::new();
        for setting in &self.launch.settings {
            if setting.setting == Setting::Model && Choosable::has(&offer, MODEL, &setting.value) {
                continue;
            }
            let set = setting_of(&offer, setting);
            let done = match &set {
                Some(set) => self.set(&from, &session_id, set, &mut offer, env).await?,
                None => false,
            };
            if !done && setting.chosen {
                passed_over.push(setting.value.clone());
            }
        }
        let mut unknown = Vec::new();
        for (option, value) in self.chosen {
            match Choosable::find(&offer, option) {
                // A refusal is in the log.
                Some(set) => drop(self.set(&from, &session_id, &set.to(value), &mut offer, env).await?),
                None => unknown.push(option.clone()),
            }
        }
        if way == LOAD {
            self.until_quiet(&from, env).await?;
        }
        let remembers = way != NEW;
        Ok(Opened { session_id, remembers, initialized, session, passed_over, unknown })
    }

    /// Makes a setting of the session; the agent's offer may change as a result. False when the agent refuses.
    async fn set(
        &self,
        from: &TapCursor,
        id: &str,
        set: &SetOption,
        offer: &mut Value,
        env: &Env,
    ) -> Result<bool, ProviderError> {
        let request = format!("{}/{}/{}", set.method(), set.option, set.value);
        match self.ask_as(&request, from, set.method(), set.params(id), env).await? {
            Ok(answer) => {
                if let Some(options) = answer.get("configOptions").filter(|o| o.is_array()) {
                    offer["configOptions"] = options.clone();
                }
                Ok(true)
            }
            Err(e) => {
                tracing::info!(session = %self.acp, option = set.option, error = %e, "the agent rejected a setting");
                Ok(false)
            }
        }
    }

    /// Waits until the log is quiet: some agents answer a load before they replay the history, and what comes after the
    /// next prompt would count as part of its turn.
    async fn until_quiet(&self, from: &TapCursor, env: &Env) -> Result<(), ProviderError> {
        let mut log = self.follow(from, env);
        let quiet = async {
            loop {
                tokio::select! {
                    batch = log.next() => drop(batch?),
                    () = env.clock.sleep(QUIET) => return Ok(()),
                }
            }
        };
        tokio::select! {
            quiet = quiet => quiet,
            () = env.clock.sleep(MAX_RETELLING) => {
                tracing::info!(session = %self.acp, "the agent is still replaying its history");
                Ok(())
            }
        }
    }

    /// The log of the conversation from this position on.
    fn follow(&self, from: &TapCursor, env: &Env) -> LogFollower {
        let reader = TapReader::new(self.client.sandbox().clone(), self.acp);
        let client = Some(self.client.clone());
        LogFollower::new(reader, self.acp.clone(), from.clone(), client, POLL, env.clone())
    }

    /// Resumes the earlier session if the agent can, and otherwise opens a new one; returns the response and the method
    /// that worked.
    async fn session(
        &self,
        from: &TapCursor,
        initialized: &Initialized,
        env: &Env,
    ) -> Result<(String, &'static str, Value), ProviderError> {
        let servers = self.mcp_servers;
        let way = match (initialized.can_resume(), initialized.can_load()) {
            (true, _) => Some("session/resume"),
            (false, true) => Some(LOAD),
            _ => None,
        };
        if let (Some(earlier), Some(method)) = (self.earlier.filter(|e| !e.is_empty()), way) {
            let params = json!({ "sessionId": earlier, "cwd": self.workspace, "mcpServers": servers });
            match self.ask(from, method, params, env).await? {
                Ok(session) => return Ok((earlier.to_owned(), method, session)),
                Err(e) => {
                    tracing::info!(session = %self.acp, error = %e, "the agent did not resume its session")
                }
            }
        }
        let params = json!({ "cwd": self.workspace, "mcpServers": servers });
        let session = match self.ask(from, NEW, params, env).await? {
            Ok(session) => session,
            Err(e) if e.code == AUTHENTICATION_REQUIRED => {
                return Err(sign_in_required(self.agent, &e, initialized));
            }
            Err(e) => return Err(ClientError::Agent(e).into()),
        };
        match session.get("sessionId").and_then(Value::as_str) {
            Some(id) => Ok((id.to_owned(), NEW, session)),
            None => Err(ClientError::Malformed("session/new returned no session".to_owned()).into()),
        }
    }

    async fn done(
        &self,
        from: &TapCursor,
        method: &str,
        params: Value,
        env: &Env,
    ) -> Result<Value, ProviderError> {
        self.ask(from, method, params, env).await?.map_err(|e| ClientError::Agent(e).into())
    }

    /// Sends a request and waits for its answer in the log.
    async fn ask(
        &self,
        from: &TapCursor,
        method: &str,
        params: Value,
        env: &Env,
    ) -> Result<Result<Value, RpcError>, ProviderError> {
        self.ask_as(method, from, method, params, env).await
    }

    /// The same with an explicit request id, where one method is used more than once.
    async fn ask_as(
        &self,
        name: &str,
        from: &TapCursor,
        method: &str,
        params: Value,
        env: &Env,
    ) -> Result<Result<Value, RpcError>, ProviderError> {
        let id = RequestId(format!("{}/{name}", self.attempt));
        self.client.request(self.acp, &id, method, params).await?;
        tokio::select! {
            answer = self.answer(from, &id, env) => answer,
            () = env.clock.sleep(LIMIT) => {
                let agent = self.agent;
                let message = format!("agent {agent} did not respond to {method} within {} s", LIMIT.as_secs());
                Err(ProviderError::new(Class::Timeout, "AGENT_START_TIMEOUT", message).retryable())
            }
        }
    }

    async fn answer(
        &self,
        from: &TapCursor,
        id: &RequestId,
        env: &Env,
    ) -> Result<Result<Value, RpcError>, ProviderError> {
        let mut log = self.follow(from, env);
        let wanted = Value::String(id.0.clone());
        loop {
            for event in log.next().await?.events {
                match event.body {
                    TapBody::Message { direction, json } => match AcpEvent::parse(direction, json) {
                        AcpEvent::Answered { id, result } if id == wanted => return Ok(result),
                        // No turn runs yet in which a user could answer, and the agent waits.
                        AcpEvent::PermissionAsked { id, .. } => {
                            self.client.answer_permission(self.acp, &id, None).await?;
                        }
                        AcpEvent::Other { method, id: Some(id), .. } if method == "elicitation/create" => {
                            let declined = json!({ "action": "decline" });
                            self.client.answer(self.acp, &id, &declined).await?;
                        }
                        _ => {}
                    },
                    TapBody::Exited { code, signal } => {
                        let how = match (code, signal) {
                            (Some(code), _) => format!("exit code {code}"),
                            (None, signal) => format!("signal {}", signal.unwrap_or(0)),
                        };
                        let message = format!("agent {} exited: {how}", self.agent);
                        let error = ProviderError::new(Class::Provider, "AGENT_EXITED", message);
                        return Err(error.retryable());
                    }
                    _ => {}
                }
            }
        }
    }
}

/// How a setting of the launch is made: by the config option of its category, else as a mode or model.
fn setting_of(offer: &Value, setting: &SessionSetting) -> Option<SetOption> {
    let category = match setting.setting {
        Setting::Model => MODEL,
        Setting::Mode => MODE,
        Setting::Effort => "thought_level",
    };
    let found = match &setting.option {
        Some(id) => Choosable::of_config(offer, |o| o.get("id").and_then(Value::as_str) == Some(id)),
        None => Choosable::of_config(offer, |o| o.get("category").and_then(Value::as_str) == Some(category)),
    };
    let found = found.or_else(|| match setting.setting {
        Setting::Mode => Choosable::of_modes(offer).filter(|modes| modes.offers(&setting.value)),
        Setting::Model => Choosable::of_models(offer).filter(|models| models.offers(&setting.value)),
        Setting::Effort => None,
    });
    found.map(|found| found.to(&setting.value))
}

fn sign_in_required(agent: &str, e: &RpcError, initialized: &Initialized) -> ProviderError {
    let ways = match initialized.sign_ins() {
        none if none.is_empty() => "it lists no sign-in methods".to_owned(),
        ways => format!("it offers: {}", ways.join(", ")),
    };
    let message = format!(
        "agent {agent} requires sign-in ({}); {ways}. Foundry signs agents in with a model provider: \
         choose a profile that has one",
        e.message
    );
    ProviderError::new(Class::Credentials, "AGENT_SIGN_IN_REQUIRED", message)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Way;
    use super::*;

    #[test]
    fn a_model_is_set_also_where_models_are_offered_in_the_older_way() {
        let model = |value: &str| SessionSetting {
            setting: Setting::Model,
            option: None,
            value: value.to_owned(),
            chosen: true,
        };
        let models =
            json!({"currentModelId": "a/x", "availableModels": [{"modelId": "a/x"}, {"modelId": "a/y"}]});
        let offer = json!({ "models": models });
        assert!(Choosable::has(&offer, MODEL, "a/x") && !Choosable::has(&offer, MODEL, "a/y"));
        let set = setting_of(&offer, &model("a/y")).unwrap();
        assert_eq!((set.way, set.value.as_str()), (Way::Model, "a/y"));
        assert_eq!(setting_of(&offer, &model("a/z")), None, "it does not offer that one");
        let option = json!({"id": "m", "category": "model", "currentValue": "a/y", "options": []});
        let both = json!({"models": models, "configOptions": [option]});
        assert!(Choosable::has(&both, MODEL, "a/y") && !Choosable::has(&both, MODEL, "a/x"));
        assert_eq!(setting_of(&both, &model("a/x")).unwrap().way, Way::Config);
    }
}
