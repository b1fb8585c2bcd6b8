//! `foundry repo restack|rebase|reparent|register|sync|undo`, as users see them.

use clap::{Args, Subcommand};

/// Actions on branches of a repository's remote. All show their plan first and ask; the default branch is never changed.
#[derive(Subcommand)]
pub enum Action {
    /// Bring a branch and all branches above it onto the newest commits of their parents; without a branch, all stacks.
    /// What is merged already is left out, squashed too, and what has merges of its own, unless it is named. A conflict changes
    /// nothing.
    Restack {
        /// The lowest branch to bring there; default: all branches of stacks.
        branch: Option<String>,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// Bring one branch onto the newest commit of its parent, and leave those above it.
    Rebase {
        /// The branch to bring onto its parent; those above it stay where they are.
        branch: String,
        /// The branch to bring it onto, which becomes its parent; default: its parent.
        #[arg(long, default_value = "", value_name = "BRANCH")]
        onto: String,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// Give a branch another parent, and bring it and all branches above it there.
    Reparent {
        /// The branch to move, with those above it.
        branch: String,
        /// Its new parent.
        parent: String,
        /// How it is done.
        #[command(flatten)]
        how: How,
    },
    /// Make a branch known that somebody has pushed just now.
    Register {
        /// The branch that was pushed, without `refs/heads/`.
        branch: String,
        /// Its parent in the stack; default: by its commits.
        #[arg(long, default_value = "", value_name = "BRANCH")]
        parent: String,
        /// Repository id or name; default: the only one.
        #[arg(long)]
        repo: Option<String>,
    },
    /// Synchronize a repository as a job, and import the parents of branches that git-spice has recorded.
    Sync {
        /// Repository id or name; default: the only one.
        repository: Option<String>,
    },
    /// Bring the branches of a job back to where they were before it, unless somebody has pushed since.
    Undo {
        /// Id of the job, as `foundry repo jobs list` prints it.
        job_id: String,
        /// Only this branch of the job, and others for which it is repeated; default: all. For a job of which one branch
        /// has moved since.
        #[arg(long = "branch", value_name = "BRANCH")]
        branches: Vec<String>,
        /// Only show what would be pushed.
        #[arg(long)]
        plan: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// How an action on branches is done.
#[derive(Args)]
pub struct How {
    /// Repository id or name; default: the only one.
    #[arg(long)]
    pub repo: Option<String>,
    /// Only show what would be pushed.
    #[arg(long)]
    pub plan: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Make signed commits again without their signatures.
    #[arg(long)]
    pub drop_signatures: bool,
    /// After a conflict, have an agent resolve it: that of the open task on the branch, or of a new task.
    #[arg(long)]
    pub resolve: bool,
}
