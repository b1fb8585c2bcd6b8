//! The command line of a review.

use clap::Args;

/// Options of a review. Without any, the files and the comments that are not sent are listed.
#[derive(Args)]
pub struct ReviewTask {
    /// Id of the task, as `foundry task list` prints it.
    pub task_id: String,
    /// Show, and comment on, only what changed since the newest turn began (`turn`), or since a version of the changes.
    #[arg(long, value_name = "turn|VERSION")]
    pub since: Option<String>,
    /// Keep a comment on a line or a range, or on the file without lines; repeat for several.
    #[arg(long, num_args = 2, value_names = ["PATH[:LINE[-LINE]]", "TEXT"])]
    pub comment: Vec<String>,
    /// The lines of --comment are those before the change.
    #[arg(long, requires = "comment")]
    pub old: bool,
    /// Remove a comment that is not sent; repeat for several.
    #[arg(long, value_name = "COMMENT_ID")]
    pub remove: Vec<String>,
    /// Mark a changed file as viewed, until it changes again; repeat for several.
    #[arg(long, value_name = "PATH")]
    pub viewed: Vec<String>,
    /// Mark a file as not viewed; repeat for several.
    #[arg(long, value_name = "PATH")]
    pub unviewed: Vec<String>,
    /// Send all comments to the agent as one message, with a text before them.
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    pub send: Option<String>,
    /// The session whose agent gets them; default: the only open one.
    #[arg(long, value_name = "SESSION_ID", requires = "send")]
    pub session: Option<String>,
}
