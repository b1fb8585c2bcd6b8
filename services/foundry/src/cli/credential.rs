//! `foundry repo credential`, as users see it.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// Store, list, test and remove credentials for private repositories.
#[derive(Subcommand)]
pub enum Credential {
    /// Store a credential, synchronize the repositories that wait for it, and test it. The secret is read from standard
    /// input or a file, and never shown again.
    Add {
        /// Repository by name or id, or a host for all repositories of the organization there: `github.com`,
        /// `git.example.org:2222`.
        target: String,
        /// What the secret is; default: a deploy key for a repository that is reached by ssh, otherwise a token.
        #[arg(long, value_enum)]
        kind: Option<CredentialKind>,
        /// The id or client id of a GitHub App; the secret is its private key, a file that GitHub gives out.
        #[arg(long, value_name = "APP", requires = "installation", conflicts_with_all = ["kind", "user"])]
        github_app: Option<String>,
        /// The installation of the app: the number at the end of the address of its settings.
        #[arg(long, value_name = "NUMBER", requires = "github_app")]
        installation: Option<i64>,
        /// User name; needed with a password, and for tokens of forges that look at it.
        #[arg(long, default_value = "")]
        user: String,
        /// Read the secret from this file, such as a private key; default: standard input.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Accept these keys of the host, a file as from `ssh-keyscan`; default: the key that it shows at first is
        /// recorded and printed.
        #[arg(long)]
        host_keys: Option<PathBuf>,
        /// Replace the credential that is stored for the same repository or host.
        #[arg(long)]
        replace: bool,
        /// Return immediately instead of waiting for the test.
        #[arg(long)]
        no_wait: bool,
    },
    /// List the credentials of the organization, without their secrets.
    List,
    /// Test a credential against its remote.
    Test {
        /// Id of the credential, or the repository or host that it is for.
        credential: String,
        /// Forget the recorded key of the host, and record the one that it shows now.
        #[arg(long)]
        accept_host_key: bool,
    },
    /// Remove a credential with its secret.
    Remove {
        /// Id of the credential, or the repository or host that it is for.
        credential: String,
    },
}

/// What the secret is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CredentialKind {
    /// A token of a forge, over https.
    Token,
    /// A password, over https.
    Basic,
    /// A private key without a passphrase, over ssh.
    SshKey,
}
