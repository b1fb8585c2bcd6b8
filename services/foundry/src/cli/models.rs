//! The command line of model providers and agent profiles.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Model providers.
#[derive(Subcommand)]
pub enum Model {
    /// Add a model provider. Its key is read from standard input, or asked for on a terminal.
    Add {
        /// Name, for example `work`.
        name: String,
        /// Which API it speaks.
        #[arg(long, value_enum)]
        kind: ModelKind,
        /// What it is to be.
        #[command(flatten)]
        settings: Box<ModelSettings>,
        /// How its key is given.
        #[command(flatten)]
        key: KeyArgs,
    },
    /// List model providers, those of the environment of the mesh first.
    List,
    /// Show a model provider, without its secrets.
    Show {
        /// Name or id.
        model_provider: String,
    },
    /// Make one small call to a model provider and say what is wrong, if anything is.
    Test {
        /// Name or id.
        model_provider: String,
        /// The model to ask; default: the first one that the provider lists, else a small one.
        #[arg(long, default_value = "")]
        model: String,
    },
    /// Change what is named here of a model provider, and nothing else.
    Update {
        /// Name or id.
        model_provider: String,
        /// New name.
        #[arg(long)]
        rename: Option<String>,
        /// What is to change.
        #[command(flatten)]
        settings: Box<ModelSettings>,
        /// Set the key: read from standard input, or asked for on a terminal.
        #[arg(long, conflicts_with_all = ["key_env", "no_key"])]
        key: bool,
        /// How its key is given.
        #[command(flatten)]
        how: KeyArgs,
    },
    /// Remove a model provider and its key; refused while an agent profile uses it.
    Remove {
        /// Name or id.
        model_provider: String,
    },
    /// Show what is used of models, and the limits: of the organization, or of a task.
    Usage {
        /// A task, by session and model.
        #[arg(long, default_value = "")]
        task: String,
    },
    /// Limits on what is used of models.
    #[command(subcommand)]
    Limit(ModelLimit),
}

/// Limits on what is used of models. They count from the next call of an agent on.
#[derive(Subcommand)]
pub enum ModelLimit {
    /// List the limits with what is used of them.
    List {
        /// Only those that count for this task.
        #[arg(long, default_value = "")]
        task: String,
    },
    /// Set a limit: of the organization in each calendar month (UTC), or of tasks from their beginning on.
    Set {
        /// What it counts.
        #[arg(value_enum)]
        unit: LimitUnit,
        /// How much may be used: a number of tokens, or dollars as in 12.50.
        amount: String,
        /// Whose it is.
        #[command(flatten)]
        of: LimitOf,
    },
    /// Remove a limit.
    Remove {
        /// What it counts.
        #[arg(value_enum)]
        unit: LimitUnit,
        /// Whose it is.
        #[command(flatten)]
        of: LimitOf,
    },
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LimitUnit {
    /// Tokens, in and out, cached ones too.
    Tokens,
    /// US dollars, as far as prices are known.
    Usd,
}

/// Whose a limit is; by default the organization's.
#[derive(Args)]
pub struct LimitOf {
    /// Of this one task.
    #[arg(long, default_value = "")]
    pub task: String,
    /// Of each task that has no limit of its own.
    #[arg(long, conflicts_with = "task")]
    pub each_task: bool,
}

/// Which API a model provider speaks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelKind {
    /// The Anthropic Messages API.
    Anthropic,
    /// OpenAI.
    Openai,
    /// Chat Completions as others serve them: Ollama, vLLM, a company gateway.
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

/// What is chosen of a model provider.
#[derive(Args)]
pub struct ModelSettings {
    /// Where it is; default: where the kind is served.
    #[arg(long)]
    pub url: Option<String>,
    /// A header that is added to each call, as NAME=VALUE; everybody in the organization can read it.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// A secret header; its value is read from the variable VARIABLE.
    #[arg(long = "secret-header", value_name = "NAME=VARIABLE")]
    pub secret_headers: Vec<String>,
    /// Remove a header.
    #[arg(long = "unset-header", value_name = "NAME")]
    pub unset_headers: Vec<String>,
    /// A model that may be used; replaces the list. None = any.
    #[arg(long = "model", value_name = "MODEL")]
    pub models: Vec<String>,
    /// Let any model be used.
    #[arg(long, conflicts_with = "models")]
    pub any_model: bool,
    /// Price of a model in USD for a million input, output and cached input tokens: MODEL=3,15,0.3.
    #[arg(long = "price", value_name = "MODEL=IN,OUT[,CACHED]")]
    pub prices: Vec<String>,
}

/// How a key is given. It is never an argument: others on the machine could read it.
#[derive(Args)]
pub struct KeyArgs {
    /// Read the key from this variable of the environment.
    #[arg(long, value_name = "VARIABLE", conflicts_with = "no_key")]
    pub key_env: Option<String>,
    /// No key: for a local model, or headers that suffice.
    #[arg(long)]
    pub no_key: bool,
    /// The key is an OAuth bearer token.
    #[arg(long, conflicts_with = "no_key")]
    pub bearer: bool,
}

/// Agent profiles.
#[derive(Subcommand)]
pub enum Profile {
    /// Add an agent profile.
    Add {
        /// Name, for example `night`.
        name: String,
        /// Coding agent, one of `foundry agents`.
        #[arg(long)]
        agent: String,
        /// What it is to be.
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
    /// Change what is named here of an agent profile, and nothing else.
    Update {
        /// Name or id.
        profile: String,
        /// New name.
        #[arg(long)]
        rename: Option<String>,
        /// Another coding agent.
        #[arg(long)]
        agent: Option<String>,
        /// What is to change.
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
        /// Have no default any more.
        #[arg(long, conflicts_with = "profile")]
        none: bool,
    },
}

/// What is chosen of an agent profile. An empty text takes a choice back.
#[derive(Args)]
pub struct ProfileSettings {
    /// Model provider by name or id.
    #[arg(long, value_name = "NAME")]
    pub model_provider: Option<String>,
    /// Model; default: the agent's.
    #[arg(long)]
    pub model: Option<String>,
    /// Mode that the agent starts in; default: the agent's.
    #[arg(long)]
    pub mode: Option<String>,
    /// How hard the model thinks; default: the agent's.
    #[arg(long)]
    pub effort: Option<String>,
    /// A variable of the agent's environment, as NAME=VALUE; everybody in the organization can read it.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub environment: Vec<String>,
    /// A secret variable; its value is read from the variable of this name here, or from VARIABLE. It enters the sandbox.
    #[arg(long = "secret-env", value_name = "NAME[=VARIABLE]")]
    pub secret_environment: Vec<String>,
    /// Remove a variable.
    #[arg(long = "unset-env", value_name = "NAME")]
    pub unset_environment: Vec<String>,
    /// MCP servers from a JSON file with `mcpServers`; replaces them. Values of `env` and `headers` are kept secret,
    /// and `${VARIABLE}` in them is read from the environment. Secrets of programs (`env`) enter the sandbox; those of
    /// servers over HTTP (`headers`) are added by the model gateway and do not.
    #[arg(long, value_name = "FILE")]
    pub mcp: Option<PathBuf>,
    /// How permission requests are answered.
    #[arg(long, value_enum)]
    pub permissions: Option<Permissions>,
}

/// How permission requests are answered.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Permissions {
    /// A person answers.
    Ask,
    /// They are allowed at once.
    Allow,
}
