//! `foundry task publish` and `foundry task fix`, as users see them.

use clap::Args;

/// Options of a publication.
#[derive(Args)]
pub struct PublishTask {
    /// Id of the task, as `foundry task list` prints it.
    pub task_id: String,
    /// Branch of the remote; default: the task's branch. One that exists already must be named.
    #[arg(long, value_name = "BRANCH", value_parser = super::branch)]
    pub to: Option<String>,
    /// Publish one commit in place of the agent's own; the next publication to this branch does so too.
    #[arg(long)]
    pub squash: bool,
    /// Publish the agent's own commits, although the last publication to this branch was one commit.
    #[arg(long, conflicts_with = "squash")]
    pub keep_commits: bool,
    /// Message of the commit for what the agent has not committed, or of all with --squash; default: what the agent has said
    /// last, below its title or that of the task, which is printed first. In a terminal you are asked before it is pushed;
    /// without one it is used as it is.
    #[arg(long, short = 'm', default_value = "", value_name = "TEXT")]
    pub message: String,
    /// Only show what would be pushed, and why it would be refused.
    #[arg(long)]
    pub plan: bool,
    /// Replace commits of the branch at the remote, or make a branch again that was deleted there. Makes a plan first, shows
    /// which commits are lost and asks, and pushes if the branch is still where the plan saw it. Without a terminal it needs
    /// --yes.
    #[arg(long)]
    pub force: bool,
    /// Do not ask: neither about the proposed message, nor about what the work has left out, nor, with --force, about what
    /// the plan replaces.
    #[arg(long)]
    pub yes: bool,
    /// Publish files with the conflict markers of an operation of git that the agent has not finished. Neither --force nor
    /// --yes does that.
    #[arg(long)]
    pub conflicts: bool,
    /// Open a pull request for the branch, or update the one that it has; prints its address.
    #[arg(long, conflicts_with = "plan")]
    pub pull_request: bool,
    /// Title of the pull request; default: the first line of the message.
    #[arg(long, default_value = "", value_name = "TEXT", requires = "pull_request")]
    pub title: String,
    /// Text of the pull request; default: the rest of the message and the subjects of the commits.
    #[arg(long, default_value = "", value_name = "TEXT", requires = "pull_request")]
    pub body: String,
    /// Mark a new pull request as not ready.
    #[arg(long, requires = "pull_request")]
    pub draft: bool,
    /// Branch that the pull request is to be merged into; default: the parent in the stack, or the default branch.
    #[arg(long, default_value = "", value_name = "BRANCH", requires = "pull_request")]
    pub base: String,
    /// Return immediately instead of following.
    #[arg(long)]
    pub detach: bool,
}

/// What is sent to the agent, and when.
#[derive(Args)]
pub struct FixTask {
    /// Id of the task, as `foundry task list` prints it.
    pub task_id: String,
    /// Session that gets the message; default: the one with the newest turn.
    #[arg(long, conflicts_with_all = ["auto", "off"])]
    pub session: Option<String>,
    /// Failed checks alone.
    #[arg(long, conflicts_with_all = ["review", "auto", "off"])]
    pub checks: bool,
    /// What reviewers have written, and reviews that want changes, alone.
    #[arg(long, conflicts_with_all = ["auto", "off"])]
    pub review: bool,
    /// From now on, send failures without being asked, whenever the agent is idle; stops after so many messages (1 to 10,
    /// 3 if no number is given). Of what reviewers write, only that of people who may write to the repository and have not
    /// opened the pull request.
    #[arg(long, value_name = "TRIES", num_args = 0..=1, default_missing_value = "3", conflicts_with = "off",
          value_parser = clap::value_parser!(i32).range(1..=10))]
    pub auto: Option<i32>,
    /// Send no failures without being asked.
    #[arg(long)]
    pub off: bool,
}
