//! `foundry login` and `foundry logins`, as users see them.

use clap::{Args, Subcommand};

/// How to sign in.
#[derive(Args)]
pub struct Login {
    /// Sign-in name of the development sign-in; default: the name of the current user.
    #[arg(long, conflicts_with_all = ["device", "browser"])]
    pub login: Option<String>,
    /// Instead, print the address at which a browser signs in to the workbench. With the development sign-in it contains
    /// this machine's secret.
    #[arg(long, conflicts_with_all = ["device", "browser"])]
    pub web: bool,
    /// Sign in by a code that you type in a browser on any machine.
    #[arg(long, conflicts_with = "browser")]
    pub device: bool,
    /// Sign in by a browser on this machine; the default where an identity provider is configured.
    #[arg(long)]
    pub browser: bool,
}

/// Show where you are signed in, and sign out there.
#[derive(Subcommand)]
pub enum Logins {
    /// List your sign-in sessions: browsers and programs, when they were last seen, and when they end.
    List,
    /// End a session; it is refused from then on.
    End {
        /// Id of the session, `crd_…`, as `foundry logins list` prints it.
        session_id: String,
    },
}
