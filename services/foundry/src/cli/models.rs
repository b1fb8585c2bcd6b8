//! The command line of model providers and agent profiles.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Manage model providers: model API endpoints and their keys.
#[derive(Subcommand)]
pub enum Model {
    /// Add a model provider. Its key is read from standard input; on a terminal, you are
    /// prompted for it.
    Add {
        /// Name, for example `work`.
        name: String,
        /// API of the provider.
        #[arg(long, value_enum)]
        kind: ModelKind,
        /// Where it is, and what it offers.
        #[command(flatten)]
        settings: Box<ModelSettings>,
        /// How its key is passed.
        #[command(flatten)]
        key: KeyArgs,
    },
    /// List model providers. Those from the mesh's environment come first.
    List,
    /// Show a model provider, without its secrets.
    Show {
        /// Name or id.
        model_provider: String,
    },
    /// Test a model provider with one small call and report any problem.
    Test {
        /// Name or id.
        model_provider: String,
        /// Model to call; default: the provider's first configured model, otherwise a small one.
        #[arg(long, default_value = "")]
        model: String,
    },
    /// Update a model provider. Only the options you give are changed.
    Update {
        /// Name or id.
        model_provider: String,
        /// New name, unique in the organization.
        #[arg(long)]
        rename: Option<String>,
        /// Settings to change.
        #[command(flatten)]
        settings: Box<ModelSettings>,
        /// Set a new key, read from standard input or prompted for on a terminal.
        #[arg(long, conflicts_with_all = ["key_env", "no_key"])]
        key: bool,
        /// How its key is passed.
        #[command(flatten)]
        how: KeyArgs,
    },
    /// Delete a model provider and its key. Fails while an agent profile uses it.
    Remove {
        /// Name or id.
        model_provider: String,
    },
    /// Show model usage and limits, for the organization or for one task.
    Usage {
        /// Show usage of this task, by session and model.
        #[arg(long, default_value = "")]
        task: String,
    },
    /// Manage limits on model usage.
    #[command(subcommand)]
    Limit(ModelLimit),
}

/// Manage limits on model usage. They apply from the agent's next call.
#[derive(Subcommand)]
pub enum ModelLimit {
    /// List the limits and the usage so far.
    List {
        /// Only limits that apply to this task.
        #[arg(long, default_value = "")]
        task: String,
    },
    /// Set a limit: for the organization per calendar month (UTC), or for tasks over their lifetime.
    Set {
        /// What the limit counts.
        #[arg(value_enum)]
        unit: LimitUnit,
        /// Limit: a number of tokens, or dollars, for example 12.50.
        amount: String,
        /// What the limit applies to.
        #[command(flatten)]
        of: LimitOf,
    },
    /// Remove a limit.
    Remove {
        /// What the limit counts.
        #[arg(value_enum)]
        unit: LimitUnit,
        /// What the limit applies to.
        #[command(flatten)]
        of: LimitOf,
    },
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LimitUnit {
    /// Input, output and cached tokens.
    Tokens,
    /// US dollars; only models with a known price count.
    Usd,
}

/// What the limit applies to; default: the organization.
#[derive(Args)]
pub struct LimitOf {
    /// Limit this task.
    #[arg(long, default_value = "")]
    pub task: String,
    /// Limit every task that does not have its own limit.
    #[arg(long, conflicts_with = "task")]
    pub each_task: bool,
}

/// Which API a model provider speaks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelKind {
    /// The Anthropic Messages API.
    Anthropic,
    /// OpenAI itself, with the Responses API.
    Openai,
    /// Other servers with the Chat Completions API: Ollama, vLLM, a company gateway.
    OpenaiCompatible,
    /// The Gemini API.
    Gemini,
    /// Amazon Bedrock; not supported.
    #[value(hide = true)]
    Bedrock,
    /// Google Vertex AI; not supported.
    #[value(hide = true)]
    Vertex,
}

/// Settings of the model provider.
#[derive(Args)]
pub struct ModelSettings {
    /// Base URL; default: the public endpoint of this kind.
    #[arg(long)]
    pub url: Option<String>,
    /// Header to add to every call. Everyone in the organization can read it.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Secret header. Its value is read from the environment variable VARIABLE.
    #[arg(long = "secret-header", value_name = "NAME=VARIABLE")]
    pub secret_headers: Vec<String>,
    /// Remove a header.
    #[arg(long = "unset-header", value_name = "NAME")]
    pub unset_headers: Vec<String>,
    /// Allowed model; repeatable. Replaces the current list; without a list, all models are allowed.
    #[arg(long = "model", value_name = "MODEL")]
    pub models: Vec<String>,
    /// Allow any model.
    #[arg(long, conflicts_with = "models")]
    pub any_model: bool,
    /// Price of a model in USD per million input, output and cached input tokens, for example MODEL=3,15,0.3.
    #[arg(long = "price", value_name = "MODEL=IN,OUT[,CACHED]")]
    pub prices: Vec<String>,
}

/// How the key is passed. Keys are never arguments, because other users of the machine could read them.
#[derive(Args)]
pub struct KeyArgs {
    /// Read the key from this environment variable.
    #[arg(long, value_name = "VARIABLE", conflicts_with = "no_key")]
    pub key_env: Option<String>,
    /// Use no key, for a local model or if headers are enough.
    #[arg(long)]
    pub no_key: bool,
    /// The key is an OAuth bearer token.
    #[arg(long, conflicts_with = "no_key")]
    pub bearer: bool,
}

/// Manage agent profiles: named agent configurations (agent, model, settings).
#[derive(Subcommand)]
pub enum Profile {
    /// Add an agent profile.
    Add {
        /// Name, for example `night`.
        name: String,
        /// Coding agent; `foundry agents` lists them.
        #[arg(long)]
        agent: String,
        /// How its agent is set up.
        #[command(flatten)]
        settings: Box<ProfileSettings>,
        /// Make it the default of the organization.
        #[arg(long)]
        default: bool,
    },
    /// List agent profiles.
    List,
    /// Show an agent profile, without its secrets.
    Show {
        /// Name or id.
        profile: String,
    },
    /// Update an agent profile. Only the options you give are changed.
    Update {
        /// Name or id.
        profile: String,
        /// New name, unique in the organization.
        #[arg(long)]
        rename: Option<String>,
        /// Another coding agent.
        #[arg(long)]
        agent: Option<String>,
        /// Settings to change.
        #[command(flatten)]
        settings: Box<ProfileSettings>,
    },
    /// Remove an agent profile and its secrets.
    Remove {
        /// Name or id.
        profile: String,
    },
    /// Make an agent profile the default of the organization.
    Default {
        /// Name or id.
        #[arg(required_unless_present = "none")]
        profile: Option<String>,
        /// Clear the default.
        #[arg(long, conflicts_with = "profile")]
        none: bool,
    },
}

/// Settings of the agent profile. An empty value resets the setting.
#[derive(Args)]
pub struct ProfileSettings {
    /// Model provider by name or id.
    #[arg(long, value_name = "NAME")]
    pub model_provider: Option<String>,
    /// Model; default: the agent's.
    #[arg(long)]
    pub model: Option<String>,
    /// Initial mode; default: the agent's.
    #[arg(long)]
    pub mode: Option<String>,
    /// Reasoning effort; default: the agent's.
    #[arg(long)]
    pub effort: Option<String>,
    /// Environment variable for the agent. Everyone in the organization can read it.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub environment: Vec<String>,
    /// Secret environment variable. Its value is read from the local variable NAME, or from VARIABLE. It is
    /// passed into the sandbox.
    #[arg(long = "secret-env", value_name = "NAME[=VARIABLE]")]
    pub secret_environment: Vec<String>,
    /// Remove a variable.
    #[arg(long = "unset-env", value_name = "NAME")]
    pub unset_environment: Vec<String>,
    /// MCP servers, from a JSON file with `mcpServers`. Replaces the current list. Values of `env` and
    /// `headers` are stored as secrets, and `${VARIABLE}` in them is read from the environment. Secrets in `env`
    /// are passed into the sandbox; secrets in `headers` are added by the model gateway and are not.
    #[arg(long, value_name = "FILE")]
    pub mcp: Option<PathBuf>,
    /// How permission requests are answered.
    #[arg(long, value_enum)]
    pub permissions: Option<Permissions>,
}

/// How permission requests are answered.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Permissions {
    /// Ask a person.
    Ask,
    /// Allow everything without asking.
    Allow,
}
