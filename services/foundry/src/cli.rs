//! The command line as users see it.

pub mod models;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use foundry_proto::common::v1::AgentSettings;

/// Control plane for coding-agent tasks.
#[derive(Parser)]
#[command(name = "foundry", version, about, propagate_version = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
pub struct Global {
    /// Address of the gateway.
    #[arg(long, global = true, env = "FOUNDRY_ADDRESS", default_value = "http://127.0.0.1:7100")]
    pub address: String,
    /// Bearer token; default: what `foundry login` stored.
    #[arg(long, global = true, env = "FOUNDRY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Organization by id or name; default: the one opened by `foundry login`.
    #[arg(long, global = true, env = "FOUNDRY_ORGANIZATION")]
    pub organization: Option<String>,
    /// How results are printed.
    #[arg(long, short, global = true, env = "FOUNDRY_OUTPUT", value_enum, default_value = "table")]
    pub output: Output,
    /// Where the mesh of this machine keeps its data; default: `foundry` in the user's data directory.
    #[arg(long, global = true, env = "FOUNDRY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file in TOML.
    #[arg(long, global = true, env = "FOUNDRY_CONFIG")]
    pub config: Option<PathBuf>,
    /// A setting as `section.key=value`; wins over file and environment. Tables and lists are written as in TOML.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON document, or one per line for streams.
    Json,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the whole mesh in this process.
    Up {
        /// Take model keys and base URLs from the environment of this command (`ANTHROPIC_API_KEY`, `OPENAI_API_KEY`,
        /// `GEMINI_API_KEY`, `ANTHROPIC_BASE_URL`, `OPENAI_BASE_URL`, `GOOGLE_GEMINI_BASE_URL`), for all
        /// organizations of this mesh. They are kept in memory only.
        #[arg(long)]
        keys_from_env: bool,
    },
    /// Run one service of the mesh in this process.
    Serve {
        /// Which.
        #[arg(value_enum)]
        service: ServiceName,
    },
    /// Print the effective configuration, secrets masked.
    Config,
    /// Sign in (development sign-in of a mesh on this machine) and remember the token.
    Login {
        /// Sign-in name; default: the name of the current user.
        #[arg(long)]
        login: Option<String>,
        /// Print the link that signs a browser in to the workbench instead; it holds the secret of this machine.
        #[arg(long)]
        web: bool,
    },
    /// Personal access tokens.
    #[command(subcommand)]
    Token(Token),
    /// Repositories.
    #[command(subcommand)]
    Repo(Repo),
    /// Tasks.
    #[command(subcommand)]
    Task(Task),
    /// Sessions of a task.
    #[command(subcommand)]
    Session(Session),
    /// Sandboxes.
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// Files of messages and of agents.
    #[command(subcommand)]
    Attachment(Attachment),
    /// Model providers: where models are served, and with which key.
    #[command(subcommand)]
    Model(models::Model),
    /// Agent profiles: an agent with its model and set-up, under a name.
    #[command(subcommand)]
    Profile(models::Profile),
    /// List the coding agents, and what is missing for those that cannot be used.
    Agents,
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// A service of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ServiceName {
    Gateway,
    Auth,
    Repo,
    Provisioner,
    Task,
}

/// Personal access tokens.
#[derive(Subcommand)]
pub enum Token {
    /// Create a token; its secret is printed once.
    Create {
        /// Name to recognize it by.
        name: String,
        /// Days until it ends by itself; default: never.
        #[arg(long)]
        days: Option<u32>,
    },
    /// List tokens.
    List,
    /// Revoke a token.
    Revoke {
        /// Its id, `pat_…`.
        token_id: String,
    },
}

/// Repositories.
#[derive(Subcommand)]
pub enum Repo {
    /// Register a repository and wait until it is mirrored.
    Add {
        /// https URL, or a local path where the mesh allows it.
        url: String,
        /// Name; default: last part of the URL.
        #[arg(long)]
        name: Option<String>,
        /// Return at once instead of waiting.
        #[arg(long)]
        no_wait: bool,
    },
    /// List repositories.
    List,
}

/// Tasks.
#[derive(Subcommand)]
pub enum Task {
    /// Create a task and follow it; Ctrl-C only detaches.
    Create(Box<CreateTask>),
    /// List tasks.
    List {
        /// Archived and killed ones too.
        #[arg(long)]
        all: bool,
    },
    /// Watch the tasks of the organization, or one task.
    Watch {
        /// Its id; default: all tasks of the organization.
        task_id: Option<String>,
    },
    /// Show a task with its stages and sessions.
    Show {
        /// Its id.
        task_id: String,
    },
    /// List what a task changed.
    Diff {
        /// Its id.
        task_id: String,
        /// Print the patch that `git apply` takes.
        #[arg(long)]
        patch: bool,
    },
    /// List a directory of the tree that holds the work of a task.
    Files {
        /// Its id.
        task_id: String,
        /// Directory; default: the root.
        #[arg(default_value = "")]
        path: String,
    },
    /// Print a file of that tree.
    Cat {
        /// Its id.
        task_id: String,
        /// Path as listed.
        path: String,
    },
    /// Explain what a task waits on and what can be done.
    Explain {
        /// Its id.
        task_id: String,
    },
    /// Archive a task and free its sandbox.
    Archive {
        /// Its id.
        task_id: String,
    },
    /// Destroy the sandbox of a task.
    Kill {
        /// Its id.
        task_id: String,
    },
    /// Take up a failed task where it failed.
    Retry {
        /// Its id.
        task_id: String,
    },
}

/// The task to create.
#[derive(Args)]
pub struct CreateTask {
    /// What to do; `-` reads standard input.
    pub prompt: String,
    /// Repository by id or name; default: the only one.
    #[arg(long)]
    pub repo: Option<String>,
    /// Title; default: derived from the prompt.
    #[arg(long, default_value = "")]
    pub title: String,
    /// Branch for the work; default: derived.
    #[arg(long, default_value = "")]
    pub branch: String,
    /// Branch to start from; default: the repository's.
    #[arg(long, default_value = "")]
    pub base: String,
    /// Coding agent, without a profile.
    #[arg(long, default_value = "", conflicts_with = "profile")]
    pub agent: String,
    /// Agent profile by name or id; default: the default profile, or the configured agent when there is none.
    #[arg(long, default_value = "")]
    pub profile: String,
    /// What is chosen over the profile.
    #[command(flatten)]
    pub settings: Settings,
    /// A picture or another file of at most 3 MiB to send along; up to 10.
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Let the agent act without asking for permission.
    #[arg(long)]
    pub allow: bool,
    /// Return at once instead of following.
    #[arg(long)]
    pub detach: bool,
}

/// What is chosen of an agent over its profile.
#[derive(Args)]
pub struct Settings {
    /// Model, by the name that the provider or the agent knows; default: that of the profile.
    #[arg(long, default_value = "")]
    pub model: String,
    /// Mode, by the agent's own name of it; default: that of the profile.
    #[arg(long, default_value = "")]
    pub mode: String,
    /// Effort, by the agent's own name of it; default: that of the profile.
    #[arg(long, default_value = "")]
    pub effort: String,
}

impl Settings {
    /// As on the wire; none when nothing is chosen.
    pub fn to_proto(&self) -> Option<AgentSettings> {
        let Self { model, mode, effort } = self;
        let all = AgentSettings { model: model.clone(), mode: mode.clone(), effort: effort.clone() };
        (all != AgentSettings::default()).then_some(all)
    }
}

/// Sessions of a task.
#[derive(Subcommand)]
pub enum Session {
    /// Add a session to a task.
    Create {
        /// The task.
        task_id: String,
        /// Name; default: derived.
        #[arg(long, default_value = "")]
        name: String,
        /// Coding agent, without a profile; default: as the task.
        #[arg(long, default_value = "", conflicts_with = "profile")]
        agent: String,
        /// Agent profile by name or id; default: as the task.
        #[arg(long, default_value = "")]
        profile: String,
        /// What is chosen over the profile.
        #[command(flatten)]
        settings: Settings,
    },
    /// Show a session: what can be chosen in it, the agent's commands, its context and cost.
    Show {
        /// The session.
        session_id: String,
    },
    /// Choose a value for something that the agent offers, such as its mode or model; it holds at once.
    Set {
        /// The session.
        session_id: String,
        /// The option, as `session show` names it.
        option: String,
        /// One of its values.
        value: String,
    },
    /// Answer the form that the agent wants filled in.
    Fill {
        /// The session.
        session_id: String,
        /// A field and its value; once more for a further value of a field that takes several.
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
        /// Decline to answer; the agent goes on without.
        #[arg(long, conflicts_with = "fields")]
        decline: bool,
    },
    /// Send a message and follow the turn.
    Send {
        /// The session.
        session_id: String,
        /// The message; `-` reads standard input. It may be left out with files.
        #[arg(default_value = "", required_unless_present = "attach", hide_default_value = true)]
        text: String,
        /// A picture or another file of at most 3 MiB to send along; up to 10.
        #[arg(long, value_name = "FILE")]
        attach: Vec<PathBuf>,
        /// Return at once instead of following.
        #[arg(long)]
        detach: bool,
    },
    /// Answer the permission request of the agent.
    Answer {
        /// The session.
        session_id: String,
        /// The option by id or by its first letters, or `cancel`.
        option: String,
    },
    /// Watch the conversation.
    Watch {
        /// The session.
        session_id: String,
        /// First entry to show; negative: that many from the end.
        #[arg(long, default_value_t = -50, allow_hyphen_values = true)]
        from: i64,
    },
    /// Stop the running turn.
    Stop {
        /// The session.
        session_id: String,
    },
    /// Let a held queue go on, or messages that wait for the quota of their model provider: those of all sessions that use it.
    Resume {
        /// The session.
        session_id: String,
    },
}

/// Files of messages and of agents.
#[derive(Subcommand)]
pub enum Attachment {
    /// List the files of the organization, newest first, and what they take.
    List,
    /// Write a file to disk, or to standard output.
    Get {
        /// Its id, `att_…`.
        attachment_id: String,
        /// Where to write it; default: standard output, unless that is a terminal.
        #[arg(long, short = 'f', value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Remove a file; transcripts still show its name.
    Remove {
        /// Its id, `att_…`.
        attachment_id: String,
    },
}

/// Sandboxes.
#[derive(Subcommand)]
pub enum Sandbox {
    /// List sandboxes.
    List {
        /// Destroyed ones too.
        #[arg(long)]
        all: bool,
    },
    /// Show a sandbox with its limits.
    Show {
        /// Its id.
        sandbox_id: String,
    },
    /// List what runs in a sandbox now.
    Processes {
        /// Its id.
        sandbox_id: String,
    },
    /// Destroy a sandbox.
    Destroy {
        /// Its id.
        sandbox_id: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
