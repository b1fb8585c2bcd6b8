//! The form of an entry, the same in the built-in files and in `[provisioner.agents.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ModelKind;

/// An agent. Either `command`, or `packages` with `program`, sets what is started.
///
/// Texts of `args`, `env`, `files`, `model` and `authenticate` may hold placeholders, filled in at each start:
/// `{{base_url}}`, `{{token}}`, `{{model}}`, `{{small_model}}`, `{{headers}}` of the model provider, `{{mode}}`,
/// `{{effort}}` of the profile. Whatever holds a placeholder without a value is left out: the argument, the variable,
/// the line of a file, the member of a table. `{{headers}}` is an object where it is a whole value of a table, and
/// elsewhere a line `Name: value` for each. The address in `{{base_url}}` is known only inside the sandbox, so the
/// runtime fills it in.
///
/// In tables, `{{each_model}}` stands for every model the agent may use and `{{listed_model}}` for those the model
/// provider lists. In a member's name, the placeholder repeats that member once per model; in an element of a list, it
/// repeats that element. A list that becomes empty by this is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// The name shown to users; the entry's own name when empty.
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
    /// How the agent authenticates to its model provider.
    pub key: KeyDelivery,
    /// How the client signs in after `initialize`, where that is needed.
    pub authenticate: Option<Authenticate>,
    /// The option id that allows a request once, for agents whose option kinds do not show which one does.
    pub once: Option<String>,
    /// Paths that the agent leaves in a work tree and that are not part of the work, relative to the tree's root; a
    /// directory ends in `/`.
    pub leaves: Vec<String>,
    /// The default mode, and how the mode is set.
    pub mode: Mode,
    /// How the reasoning effort is set.
    pub effort: Effort,
}

/// A text, or a table that is serialized as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// Used as it is, placeholders filled in.
    Plain(String),
    /// Serialized as JSON, placeholders filled in and quoted.
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
    /// Replaces the entry's `authenticate`.
    pub authenticate: Option<Authenticate>,
    /// Whether the agent cannot start without the name of a model.
    pub needs_model: bool,
    /// The id of the model among the agent's own choices, such as `provider/{{model}}`. For an agent that resumes a
    /// session with the session's old model whatever it was started with; the model is then set in the session.
    pub model_option: Option<String>,
}

/// The key that an agent presents to its model provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyDelivery {
    /// A token of the sandbox, for the model gateway; the key stays outside.
    #[default]
    Gateway,
    /// The provider's key itself. Everything in the sandbox can read it.
    Environment,
}

/// The ACP call `authenticate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authenticate {
    /// The `methodId` of the request, as the agent offers it.
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

/// How an agent's reasoning effort is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effort {
    /// Whether it is set at the start, by `{{effort}}`, and not in the session.
    pub at_start: bool,
    /// The config option that sets it; default: the one of category `thought_level`.
    pub option: Option<String>,
}
