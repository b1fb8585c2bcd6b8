//! What a runtime needs to start an agent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::template::Values;
use crate::{AgentError, Entry, KeyDelivery, ModelAccess, Text, Wiring};

/// Variables of every agent: Node's own `fetch` honours the proxy variables, and no telemetry is sent.
const COMMON: [(&str, &str); 2] = [("NODE_USE_ENV_PROXY", "1"), ("DO_NOT_TRACK", "1")];

/// The part of a profile that concerns the agent, apart from its model.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The mode, by the agent's own name of it.
    pub mode: Option<String>,
    /// The effort, by the agent's own name of it.
    pub effort: Option<String>,
    /// Variables that override those of the entry; those that configure the model provider cannot be overridden.
    pub env: BTreeMap<String, String>,
}

/// An agent's start. Its `Debug` shows no value of a variable, file or sign-in.
#[derive(Clone, PartialEq)]
pub struct Launch {
    /// Arguments behind [`Entry::command`].
    pub args: Vec<String>,
    /// Variables besides those of the sandbox. The runtime replaces `${FOUNDRY_MODEL_URL}` in these values, and in
    /// arguments, files and the sign-in.
    pub env: BTreeMap<String, String>,
    /// Files to write before the start, readable by the sandbox's user alone.
    pub files: Vec<HomeFile>,
    /// The ACP call to make after `initialize`.
    pub authenticate: Option<SignIn>,
    /// What to set after `session/new`, in this order.
    pub settings: Vec<SessionSetting>,
    /// The model that the agent is configured to use; absent when the choice is the agent's own.
    pub model: Option<String>,
    /// Whether the operator's key is in the agent's environment, so that users can be warned.
    pub key_in_environment: bool,
}

/// A file below HOME.
#[derive(Clone, PartialEq, Eq)]
pub struct HomeFile {
    /// Relative to HOME, without `..`.
    pub path: String,
    /// The file's whole content.
    pub bytes: Vec<u8>,
}

/// The parameters of ACP's `authenticate`.
#[derive(Clone, PartialEq)]
pub struct SignIn {
    /// The `methodId` of the request, as the agent offers it.
    pub method_id: String,
    /// ACP's `_meta`; null when there is none.
    pub meta: Value,
}

/// The settings of an ACP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The model: the config option of category `model`, else `session/set_model`. It is set where the session has
    /// another one.
    Model,
    /// The mode: the config option of category `mode`, else `session/set_mode`.
    Mode,
    /// The effort: the config option of category `thought_level`.
    Effort,
}

/// A setting to make once the session exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSetting {
    /// The setting to change.
    pub setting: Setting,
    /// The config option's id, for options that their category does not identify.
    pub option: Option<String>,
    /// The wanted value.
    pub value: String,
    /// Whether a user chose it. A default that the agent does not offer is skipped silently.
    pub chosen: bool,
}

/// How to start the agent with this model provider and profile.
///
/// # Errors
/// `AGENT_MODEL_MISSING` when the agent needs a model provider, or the name of a model, and there is none;
/// `AGENT_MODEL_UNSUITABLE` when it cannot use this kind of provider, naming those it can.
pub fn launch(entry: &Entry, access: Option<&ModelAccess>, profile: &Profile) -> Result<Launch, AgentError> {
    let config = &entry.config;
    let mut chosen = profile.clone();
    chosen.mode = profile.mode.clone().or_else(|| config.mode.default.clone());
    let values = Values::new(access, &chosen);
    let nothing = Wiring::default();
    let wiring = wiring(entry, access)?.unwrap_or(&nothing);

    let args = config.args.iter().chain(&wiring.args).filter_map(|arg| values.fill(arg)).collect();
    let variables = |of: &BTreeMap<String, Text>| -> Vec<(String, String)> {
        of.iter().filter_map(|(name, text)| Some((name.clone(), values.variable(text)?))).collect()
    };
    let mut env: BTreeMap<_, _> = COMMON.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    env.extend(variables(&config.env));
    env.extend(profile.env.clone());
    env.extend(variables(&wiring.env));
    let mut files: BTreeMap<&String, String> = BTreeMap::new();
    for (path, text) in config.files.iter().chain(&wiring.files) {
        let whole = over(config.files.get(path), text);
        files.extend(values.file(&whole).map(|text| (path, text)));
    }
    let authenticate = wiring.authenticate.as_ref().or(config.authenticate.as_ref());
    Ok(Launch {
        args,
        env,
        files: files.into_iter().map(|(p, t)| HomeFile { path: p.clone(), bytes: t.into_bytes() }).collect(),
        authenticate: authenticate.map(|a| SignIn {
            method_id: a.method.clone(),
            meta: values.fill_value(&a.meta).unwrap_or_default(),
        }),
        settings: wiring
            .model_option
            .iter()
            .filter_map(|option| model(&values, option))
            .chain(settings(entry, profile))
            .collect(),
        model: access.and_then(|a| a.model.clone()),
        key_in_environment: access.is_some() && config.key == KeyDelivery::Environment,
    })
}

/// Merges a file of the wiring over the entry's at the same path: tables are merged, anything else is replaced.
fn over<'t>(base: Option<&Text>, text: &'t Text) -> Cow<'t, Text> {
    match (base, text) {
        (Some(Text::Json(base)), Text::Json(text)) => {
            let mut whole = base.clone();
            merge(&mut whole, text);
            Cow::Owned(Text::Json(whole))
        }
        _ => Cow::Borrowed(text),
    }
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge(base.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (base, over) => base.clone_from(over),
    }
}

fn wiring<'e>(entry: &'e Entry, access: Option<&ModelAccess>) -> Result<Option<&'e Wiring>, AgentError> {
    let (name, kinds) = (entry.display_name(), &entry.config.model);
    let takes: Vec<&str> = kinds.keys().map(|kind| kind.name()).collect();
    let Some(access) = access else {
        if kinds.is_empty() {
            return Ok(None);
        }
        let message = format!(
            "{name} requires a model provider of kind {}; add one with `foundry model add`, or choose \
             another agent",
            takes.join(" or ")
        );
        return Err(AgentError::new("AGENT_MODEL_MISSING", message));
    };
    let Some(wiring) = kinds.get(&access.kind) else {
        let can = if takes.is_empty() { "no model provider".to_owned() } else { takes.join(" or ") };
        let message =
            format!("{name} cannot use a model provider of kind {}; it supports {can}", access.kind);
        return Err(AgentError::new("AGENT_MODEL_UNSUITABLE", message));
    };
    if wiring.needs_model && access.model.is_none() {
        let message = format!("{name} has no default model; set one in the profile or the request");
        return Err(AgentError::new("AGENT_MODEL_MISSING", message));
    }
    Ok(Some(wiring))
}

fn model(values: &Values<'_>, option: &str) -> Option<SessionSetting> {
    let value = values.fill(option)?;
    Some(SessionSetting { setting: Setting::Model, option: None, value, chosen: true })
}

fn settings(entry: &Entry, profile: &Profile) -> Vec<SessionSetting> {
    let config = &entry.config;
    let mode = profile.mode.as_ref().or(config.mode.default.as_ref()).map(|value| SessionSetting {
        setting: Setting::Mode,
        option: config.mode.option.clone(),
        value: value.clone(),
        chosen: profile.mode.is_some(),
    });
    let effort = profile.effort.as_ref().filter(|_| !config.effort.at_start).map(|value| SessionSetting {
        setting: Setting::Effort,
        option: config.effort.option.clone(),
        value: value.clone(),
        chosen: true,
    });
    mode.into_iter().chain(effort).collect()
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("args", &self.args.len())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("files", &self.files)
            .field("authenticate", &self.authenticate.as_ref().map(|a| &a.method_id))
            .field("settings", &self.settings)
            .field("model", &self.model)
            .field("key_in_environment", &self.key_in_environment)
            .finish()
    }
}

impl fmt::Debug for HomeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("method_id", &self.method_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
