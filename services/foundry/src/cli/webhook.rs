//! `foundry repo webhook`, as users see it.

use clap::{Subcommand, ValueEnum};

/// Add, list and remove webhooks, by which hosts of repositories announce changes at once.
#[derive(Subcommand)]
pub enum Webhook {
    /// Add a webhook, and print the address and the secret to enter at the host. The secret is never shown again; a repository
    /// or host has one webhook. Have the host send JSON, for pushes, branches and tags that are created or deleted, pull or
    /// merge requests, checks and reviews.
    Add {
        /// Repository by name or id, or a host for all repositories of the organization there: `github.com`.
        target: String,
        /// The software of the host; default: what the name of the host says.
        #[arg(long, value_enum)]
        forge: Option<Forge>,
    },
    /// List the webhooks of the organization with their last deliveries, and how many were refused for their signature.
    List,
    /// Remove a webhook with its secret; deliveries to its address are refused from then on.
    Remove {
        /// Id of the webhook, as `foundry repo webhook list` prints it, or the repository or host that it is for.
        webhook: String,
    },
}

/// The software of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forge {
    /// GitHub, also on own servers.
    Github,
    /// GitLab, also on own servers.
    Gitlab,
    /// Gitea, which signs with a header of its own.
    Gitea,
    /// Forgejo, also Codeberg.
    Forgejo,
}
