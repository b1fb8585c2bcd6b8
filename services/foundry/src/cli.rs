//! The command line as users see it.

pub mod action;
pub mod credential;
pub mod login;
pub mod models;
pub mod publish;
pub mod review;
pub mod webhook;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use foundry_proto::common::v1::AgentSettings;

use self::publish::{FixTask, PublishTask};
use self::review::ReviewTask;
use crate::mesh::MeshService;

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

/// Where the gateway of a mesh without further configuration listens.
pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:7100";

/// Options of every command.
#[derive(Args, Clone)]
pub struct Global {
    /// Address of the gateway.
    #[arg(long, global = true, env = "FOUNDRY_ADDRESS", default_value = DEFAULT_ADDRESS)]
    pub address: String,
    /// Bearer token; default: the one stored by `foundry login`.
    #[arg(long, global = true, env = "FOUNDRY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Organization id or name; default: the one chosen at `foundry login`.
    #[arg(long, global = true, env = "FOUNDRY_ORGANIZATION")]
    pub organization: Option<String>,
    /// How results are printed.
    #[arg(long, short, global = true, env = "FOUNDRY_OUTPUT", value_enum, default_value = "table")]
    pub output: Output,
    /// Data directory of the mesh on this machine; default: `foundry` in the user's data directory.
    #[arg(long, global = true, env = "FOUNDRY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file in TOML.
    #[arg(long, global = true, env = "FOUNDRY_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set `section.key=value`; overrides the file and the environment. Write tables and lists as TOML.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people to read.
    Table,
    /// One JSON document, or one per line for streams.
    Json,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the whole mesh in this process.
    Up {
        /// Read model keys and base URLs from the environment (`ANTHROPIC_API_KEY`, `OPENAI_API_KEY`,
        /// `GEMINI_API_KEY`, `ANTHROPIC_BASE_URL`, `OPENAI_BASE_URL`, `GOOGLE_GEMINI_BASE_URL`), for all
        /// organizations of this mesh. They are kept in memory only.
        #[arg(long)]
        keys_from_env: bool,
    },
    /// Run one service of the mesh in this process.
    Serve {
        /// Service to run.
        #[arg(value_enum)]
        service: MeshService,
    },
    /// Make certificates for development: an authority, one for each service (`mesh.tls`) and one for the gateway's https
    /// (`gateway.tls`). They are valid for a year. The authority's key is not kept.
    Certificates {
        /// Directory to write them to; files in it are never replaced.
        directory: PathBuf,
        /// Further name or address of the gateway's https, besides this machine's; repeat for several.
        #[arg(long, value_name = "NAME")]
        host: Vec<String>,
    },
    /// Print the effective configuration with secrets masked.
    Config,
    /// Check that everything stored in the mesh's databases can be read, and list the rows that cannot, and those that others
    /// name but that are gone. A row that nothing names is not missed. Changes nothing; the mesh may be running or stopped.
    /// Exits with code 1 if anything is damaged or missing.
    Verify,
    /// Restore damaged rows that can be derived from other data: lists, and the task service's copies of what other services
    /// store. Stop the mesh first. Exits with code 1 if some cannot be derived.
    Rebuild,
    /// Sign in and store the session: by a browser where an identity provider is configured, else with the secret in the
    /// data directory of this machine (development sign-in).
    Login(login::Login),
    /// End the stored session at the mesh and forget it.
    Logout,
    /// Show who you are signed in as, how, and until when.
    Whoami,
    /// Show where you are signed in, and sign out there.
    #[command(subcommand)]
    Logins(login::Logins),
    /// Manage personal access tokens.
    #[command(subcommand)]
    Token(Token),
    /// Register repositories, synchronize and remove them.
    #[command(subcommand)]
    Repo(Repo),
    /// Create tasks, follow them, read their work and end them.
    #[command(subcommand)]
    Task(Task),
    /// Manage sessions of a task.
    #[command(subcommand)]
    Session(Session),
    /// Show what runs in sandboxes, and destroy them.
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// Manage files attached to messages or produced by agents.
    #[command(subcommand)]
    Attachment(Attachment),
    /// Manage model providers: model API endpoints and their keys.
    #[command(subcommand)]
    Model(models::Model),
    /// Manage agent profiles: named agent configurations (agent, model, settings).
    #[command(subcommand)]
    Profile(models::Profile),
    /// List the coding agents, and what is missing for the ones you cannot use yet.
    Agents,
    /// Print a shell completion script.
    Completions {
        /// Shell to generate it for.
        shell: clap_complete::Shell,
    },
}

/// Manage personal access tokens.
#[derive(Subcommand)]
pub enum Token {
    /// Create a token. Its secret is printed only once.
    Create {
        /// Name of the token.
        name: String,
        /// Days until it expires; default: never.
        #[arg(long)]
        days: Option<u32>,
    },
    /// List your access tokens with their last use.
    List,
    /// Revoke a token.
    Revoke {
        /// Token id, `pat_…`.
        token_id: String,
    },
}

/// Register repositories, synchronize and remove them.
#[derive(Subcommand)]
pub enum Repo {
    /// Register a repository and wait until it is mirrored.
    Add {
        /// https or ssh URL without credentials, `user@host:path`, or a local path if the mesh allows it.
        url: String,
        /// Name; default: last part of the URL.
        #[arg(long)]
        name: Option<String>,
        /// Return immediately instead of waiting.
        #[arg(long)]
        no_wait: bool,
    },
    /// List repositories with the state of their mirrors.
    List,
    /// Show the branches of a repository as stacks: how far each is ahead and behind, what it changes, its conflicts with
    /// the default branch and its task; and how new all that is.
    Overview {
        /// Name, or id as `foundry repo list` prints it; default: the only repository.
        repository: Option<String>,
        /// Show it again whenever it changes, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Synchronize a repository with its remote now, and wait until it is done.
    Refresh {
        /// Name, or id as `foundry repo list` prints it.
        repository: String,
        /// Return immediately instead of waiting.
        #[arg(long)]
        no_wait: bool,
    },
    /// Manage credentials for private repositories.
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Manage webhooks, by which hosts announce changes.
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// Remove a repository and its mirror, which also frees its name. The remote is not touched; tasks on it keep
    /// their transcripts, but their stored changes are removed: asks first if there are any. Refused while tasks on it have
    /// a sandbox.
    Remove {
        /// Name, or id as `foundry repo list` prints it.
        repository: String,
        /// Do not ask, and remove it even if tasks on it have a sandbox. What their agents did that was not fetched or
        /// pushed, and what they do from then on, is lost.
        #[arg(long)]
        force: bool,
        /// Return immediately instead of waiting.
        #[arg(long)]
        no_wait: bool,
    },
    /// Show and cancel jobs: what Foundry does to branches of a repository's remote.
    #[command(subcommand)]
    Jobs(Jobs),
    /// What is done to branches.
    #[command(flatten)]
    Action(action::Action),
}

/// Create tasks, follow them, read their work and end them.
#[derive(Subcommand)]
pub enum Task {
    /// Create a task and follow it. Ctrl-C detaches; the task keeps running.
    Create(Box<CreateTask>),
    /// List tasks, the newest first.
    List {
        /// Include archived and killed tasks.
        #[arg(long)]
        all: bool,
    },
    /// Watch the tasks of the organization, or one task.
    Watch {
        /// Task id; default: all tasks of the organization.
        task_id: Option<String>,
    },
    /// Show a task with its stages and sessions.
    Show {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
    },
    /// List the files a task changed.
    Diff {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Print the whole patch, for `git apply --index`.
        #[arg(long)]
        patch: bool,
        /// Include what the work has merged from other branches, so that the patch applies to the base.
        #[arg(long)]
        merged: bool,
    },
    /// Fetch a task's work into a branch of the clone in this directory.
    Fetch {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Local branch to make or move; default: the task's branch. One with commits of yours is left alone.
        #[arg(long, value_name = "BRANCH")]
        into: Option<String>,
        /// Fetch what this publication with --force has replaced at the remote instead; default for --into: `replaced/JOB`.
        #[arg(long, value_name = "JOB")]
        replaced: Option<String>,
    },
    /// Save a task's work as a git bundle, with its whole history.
    Bundle {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// The file to write.
        #[arg(long, short = 'f', value_name = "FILE")]
        file: PathBuf,
    },
    /// Push a task's work to a branch of the repository's remote, and follow that. Ctrl-C detaches; the job goes on.
    Publish(Box<PublishTask>),
    /// Send what has failed at a task's pull request to its agent as a message: checks, reviews that want changes, and
    /// comments of reviewers. What was sent before is not sent again.
    Fix(FixTask),
    /// Review a task's changes: list the files and your comments, comment, mark files as viewed, and send all comments to the
    /// agent as one message.
    Review(Box<ReviewTask>),
    /// List a directory in a task's work tree.
    Files {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Directory; default: the root.
        #[arg(default_value = "")]
        path: String,
    },
    /// Print a file from a task's work tree.
    Cat {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Path as printed by `task files`.
        path: String,
    },
    /// Explain what a task is waiting for and what you can do.
    Explain {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
    },
    /// Archive a task and destroy its sandbox, with all that is not part of the work: other branches, stashes, linked
    /// worktrees, ignored files. Asks first if the notices of the work name any.
    Archive {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Kill a task: destroy its sandbox, in any state, with all that is not part of the work. Its stored changes are kept,
    /// and its transcript for 90 days unless the operator has chosen another time. An archived task, whose transcript is kept
    /// for good, becomes killed at once. Asks first if the notices of the work name anything that is lost.
    Kill {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Retry a failed task from the stage that failed, and follow it; one that is waiting for its next attempt makes it
    /// now. Ctrl-C detaches; the task keeps running.
    Retry {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Return immediately instead of following.
        #[arg(long)]
        detach: bool,
    },
}

/// Show and cancel jobs: what Foundry does to branches of a repository's remote.
#[derive(Subcommand)]
pub enum Jobs {
    /// List the jobs of a repository, newest first.
    List {
        /// Name, or id as `foundry repo list` prints it; default: the only one.
        repository: Option<String>,
    },
    /// Show a job with its plan and result.
    Show {
        /// Id of the job, as `foundry repo jobs list` prints it.
        job_id: String,
    },
    /// Cancel a job in any state.
    Cancel {
        /// Id of the job, as `foundry repo jobs list` prints it.
        job_id: String,
    },
}

/// Options of the new task.
#[derive(Args)]
pub struct CreateTask {
    /// Prompt for the agent; `-` reads standard input.
    pub prompt: String,
    /// Repository id or name; default: the only one.
    #[arg(long)]
    pub repo: Option<String>,
    /// Title; default: generated from the prompt.
    #[arg(long, default_value = "")]
    pub title: String,
    /// Branch for the work; default: a generated name.
    #[arg(long, default_value = "")]
    pub branch: String,
    /// Branch to start from; default: the repository's.
    #[arg(long, default_value = "")]
    pub base: String,
    /// Work on this branch of the remote: start at its tip, and publish there. No other task can, until this one is archived or
    /// killed. A branch that Foundry does not know yet is looked for first.
    #[arg(long, value_name = "BRANCH", value_parser = branch, conflicts_with_all = ["branch", "base"])]
    pub on_branch: Option<String>,
    /// Coding agent to use without a profile.
    #[arg(long, default_value = "", conflicts_with = "profile")]
    pub agent: String,
    /// Agent profile name or id; default: the default profile, or the configured agent if there is none.
    #[arg(long, default_value = "")]
    pub profile: String,
    /// Settings that override the profile.
    #[command(flatten)]
    pub settings: Settings,
    /// Picture or other file to attach (at most 3 MiB); repeat for up to 10 files.
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Allow all of the agent's actions without asking.
    #[arg(long)]
    pub allow: bool,
    /// Return immediately instead of following.
    #[arg(long)]
    pub detach: bool,
}

/// Agent settings that override the profile.
#[derive(Args)]
pub struct Settings {
    /// Model, as named by the provider or the agent; default: from the profile.
    #[arg(long, default_value = "")]
    pub model: String,
    /// Mode, as named by the agent; default: from the profile.
    #[arg(long, default_value = "")]
    pub mode: String,
    /// Effort, as named by the agent; default: from the profile.
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

/// Manage sessions of a task.
#[derive(Subcommand)]
pub enum Session {
    /// Add a session to a task.
    Create {
        /// Id of the task, as `foundry task list` prints it.
        task_id: String,
        /// Name; default: generated.
        #[arg(long, default_value = "")]
        name: String,
        /// Coding agent to use without a profile; default: the task's.
        #[arg(long, default_value = "", conflicts_with = "profile")]
        agent: String,
        /// Agent profile name or id; default: the task's.
        #[arg(long, default_value = "")]
        profile: String,
        /// Settings that override the profile.
        #[command(flatten)]
        settings: Settings,
    },
    /// Show a session: its options, the agent's commands, context use and cost.
    Show {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
    },
    /// Set an agent option, such as mode or model. Takes effect immediately.
    Set {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
        /// Option name, as printed by `session show`.
        option: String,
        /// One of its values.
        value: String,
    },
    /// Answer the agent's form.
    Fill {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
        /// Field and value. Repeat the field to give it several values.
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
        /// Decline to answer; the agent continues without it.
        #[arg(long, conflicts_with = "fields")]
        decline: bool,
    },
    /// Send a message and follow the turn.
    Send {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
        /// Message text; `-` reads standard input. Optional with --attach.
        #[arg(default_value = "", required_unless_present = "attach", hide_default_value = true)]
        text: String,
        /// Picture or other file to attach (at most 3 MiB); repeat for up to 10 files.
        #[arg(long, value_name = "FILE")]
        attach: Vec<PathBuf>,
        /// Return immediately instead of following.
        #[arg(long)]
        detach: bool,
    },
    /// Answer the agent's permission request.
    Answer {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
        /// Option id or its first letters, or `cancel`.
        option: String,
    },
    /// Watch the conversation.
    Watch {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
        /// First entry to show; a negative number counts from the end.
        #[arg(long, default_value_t = -50, allow_hyphen_values = true)]
        from: i64,
    },
    /// Stop the running turn.
    Stop {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
    },
    /// Resume a paused queue. If messages are waiting for a model provider's quota, resumes all sessions that
    /// use that provider.
    Resume {
        /// Id of the session, as `foundry task show` prints it.
        session_id: String,
    },
}

/// Manage files attached to messages or produced by agents.
#[derive(Subcommand)]
pub enum Attachment {
    /// List the organization's files, newest first, and the storage they use.
    List,
    /// Write a file to disk, or to standard output.
    Get {
        /// Attachment id, `att_…`.
        attachment_id: String,
        /// Output file; default: standard output, unless it is a terminal.
        #[arg(long, short = 'f', value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Delete a file. Its name stays in transcripts.
    Remove {
        /// Attachment id, `att_…`.
        attachment_id: String,
    },
}

/// Show what runs in sandboxes, and destroy them.
#[derive(Subcommand)]
pub enum Sandbox {
    /// List sandboxes with their states and networks.
    List {
        /// Include destroyed sandboxes.
        #[arg(long)]
        all: bool,
    },
    /// Show a sandbox with its limits.
    Show {
        /// Id of the sandbox, as `foundry sandbox list` prints it.
        sandbox_id: String,
    },
    /// List the processes in a sandbox.
    Processes {
        /// Id of the sandbox, as `foundry sandbox list` prints it.
        sandbox_id: String,
    },
    /// Destroy a sandbox.
    Destroy {
        /// Id of the sandbox, as `foundry sandbox list` prints it.
        sandbox_id: String,
    },
}

/// A branch that must be named; as git's full name, too.
///
/// # Errors
/// For no name at all.
pub fn branch(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("refs/heads/").unwrap_or(text);
    if name.is_empty() { Err("the name of a branch is needed".to_owned()) } else { Ok(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::branch;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_branch_is_taken_by_its_full_name_and_not_without_one() {
        assert_eq!(branch("refs/heads/feat/x").as_deref(), Ok("feat/x"));
        assert_eq!(branch("feat/x").as_deref(), Ok("feat/x"));
        assert!(branch("").is_err() && branch("refs/heads/").is_err());
    }
}
