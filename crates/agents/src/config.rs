//! The form of an entry: that of the built-in files and of `[provisioner.agents.NAME]` alike.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ModelKind;

/// An agent. Either `command` or `packages` with `program` says what is started.
///
/// Texts of `args`, `env`, `files`, `model` and `authenticate` may hold placeholders, filled in at each start:
/// `{{base_url}}`, `{{token}}`, `{{model}}`, `{{small_model}}`, `{{headers}}` of the model provider, `{{mode}}`,
/// `{{effort}}` of the profile. What mentions one that has no value is left out: the argument, the variable, the line
/// of a file, the member of a table. `{{headers}}` is an object where it is a whole value of a table, and elsewhere
/// a line `Name: value` for each. The address in `{{base_url}}` is known in the sandbox alone, which puts it in wherever
/// the placeholder stands.
///
/// In tables, `{{each_model}}` stands for every model that the agent may be told of and `{{listed_model}}` for those
/// that the model provider lists: in the name of a member, that member is there once for each; in an element of a
/// list, that element is. A list that is empty by it is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// The name people see; the entry's own name when empty.
    pub display_name: String,
    /// Program and arguments of an agent that is in the sandbox already; it speaks ACP on standard input and output.
    pub command: Vec<String>,
    /// npm packages to install, each with its exact version.
    pub packages: BTreeMap<String, String>,
    /// A `package-lock.json` for them (version 3). Without one, a lock is made at the first installation and kept.
    pub lock_file: Option<PathBuf>,
    /// The program of the packages, relative to the directory of the installation, such as
    /// `node_modules/example-agent/dist/index.js`. `{{platform}}` stands for `linux-x64` or `linux-arm64`.
    pub program: String,
    /// Whether the program is run by Foundry's own Node; default: if its name ends in `.js`, `.mjs` or `.cjs`.
    pub node: Option<bool>,
    /// Arguments after program or command.
    pub args: Vec<String>,
    /// The agent's environment, besides that of the sandbox.
    pub env: BTreeMap<String, Text>,
    /// Files that are written below HOME before each start, by their path there.
    pub files: BTreeMap<String, Text>,
    /// How the agent is given a model, by the kind of provider. Empty: it brings a model of its own and takes none.
    pub model: BTreeMap<ModelKind, Wiring>,
    /// What it presents as its key.
    pub key: KeyDelivery,
    /// How the client signs in after `initialize`, where that is needed.
    pub authenticate: Option<Authenticate>,
    /// The id of the option that allows once, for an agent whose kinds of options do not say it.
    pub once: Option<String>,
    /// What the agent leaves in a work tree that is not work: paths relative to its root, a directory with `/` at
    /// its end.
    pub leaves: Vec<String>,
    /// Its modes.
    pub mode: Mode,
    /// Its effort of thought.
    pub effort: Effort,
}

/// A text, or a table that is written as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it is, placeholders filled in.
    Plain(String),
    /// As JSON, placeholders filled in and quoted.
    Json(Value),
}

/// How an agent is given a model of one kind of provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wiring {
    /// Arguments after those of the entry.
    pub args: Vec<String>,
    /// Variables besides those of the entry.
    pub env: BTreeMap<String, Text>,
    /// Files besides those of the entry; a table is put over the entry's table of the same path.
    pub files: BTreeMap<String, Text>,
    /// In place of the entry's.
    pub authenticate: Option<Authenticate>,
    /// Whether the agent cannot start without being told a model.
    pub needs_model: bool,
    /// What the agent calls the model in its own choice of models, such as `provider/{{model}}`. It is for one that takes
    /// up a session with the model that the session had, whatever it was started with; that is chosen then.
    pub model_option: Option<String>,
}

/// What an agent presents to its model provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyDelivery {
    /// A token of the sandbox, for the model gateway; the key stays outside.
    #[default]
    Gateway,
    /// The key itself. It is shown wherever the agent is.
    Environment,
}

/// The ACP call `authenticate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authenticate {
    /// The id of the method.
    pub method: String,
    /// Its `_meta`, placeholders filled in.
    #[serde(default)]
    pub meta: Value,
}

/// The modes of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mode {
    /// The mode of a profile that names none; without one, the agent's own default.
    pub default: Option<String>,
    /// The config option that sets it; default: the one of category `mode`, else `session/set_mode`.
    pub option: Option<String>,
}

/// How the effort of an agent is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effort {
    /// Whether it is a matter of the start, by `{{effort}}`, and not of the session.
    pub at_start: bool,
    /// The config option that sets it; default: the one of category `thought_level`.
    pub option: Option<String>,
}
