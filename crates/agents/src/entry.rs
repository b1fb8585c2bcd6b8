//! A validated entry of the catalogue.

use std::path::PathBuf;

use foundry_tool_cache::NpmPackageSet;

use crate::{AgentConfig, KeyDelivery, ModelKind, permission_once};

/// Where an agent's program comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The project's own deterministic agent, a part of the `foundry` program.
    Demo,
    /// npm packages of the tool cache.
    Packages {
        /// The packages to install, pinned by a lock.
        packages: NpmPackageSet,
        /// Whether its program runs on Foundry's own Node.
        node: bool,
    },
    /// A program that is in the sandbox already, with its first arguments.
    Command(Vec<String>),
}

/// Paths that an agent's command line needs, as the sandbox sees them.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The `foundry` program.
    pub foundry: PathBuf,
    /// The directory of the agent's installation.
    pub installed: PathBuf,
    /// The Node binary.
    pub node: PathBuf,
}

/// An agent that can be chosen by name.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) name: String,
    pub(crate) own: bool,
    pub(crate) source: Source,
    pub(crate) config: AgentConfig,
}

impl Entry {
    /// The name users write: lower-case letters, digits and hyphens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name shown to users.
    pub fn display_name(&self) -> &str {
        if self.config.display_name.is_empty() { &self.name } else { &self.config.display_name }
    }

    /// Whether it comes from the operator's configuration and is not built in.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Where its program comes from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What must be in the tool cache before it can start.
    pub fn packages(&self) -> Option<&NpmPackageSet> {
        if let Source::Packages { packages, .. } = &self.source { Some(packages) } else { None }
    }

    /// Whether it needs Foundry's own Node.
    pub fn runs_on_node(&self) -> bool {
        matches!(self.source, Source::Packages { node: true, .. })
    }

    /// The program with its first arguments; those of the [`crate::Launch`] follow.
    pub fn command(&self, places: &Places) -> Vec<String> {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        match &self.source {
            Source::Demo => vec![text(&places.foundry), "internal".to_owned(), "demo-agent".to_owned()],
            Source::Command(command) => command.clone(),
            Source::Packages { packages, node } => {
                let program = text(&places.installed.join(packages.program()));
                if *node { vec![text(&places.node), program] } else { vec![program] }
            }
        }
    }

    /// The kinds of model providers it can use; none when it takes no model.
    pub fn model_kinds(&self) -> impl Iterator<Item = ModelKind> {
        self.config.model.keys().copied()
    }

    /// Whether it can use this kind of model provider.
    pub fn takes(&self, kind: ModelKind) -> bool {
        self.config.model.contains_key(&kind)
    }

    /// Whether it cannot work without a model provider.
    pub fn needs_model(&self) -> bool {
        !self.config.model.is_empty()
    }

    /// How it authenticates to its model provider.
    pub fn key(&self) -> KeyDelivery {
        self.config.key
    }

    /// Paths that it leaves in a work tree and that are not part of the work; a directory ends in `/`.
    pub fn leaves(&self) -> &[String] {
        &self.config.leaves
    }

    /// The option that allows a request once, from `(option id, kind)` in the agent's order; see [`permission_once`].
    pub fn permission_once<'a>(
        &self,
        options: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Option<&'a str> {
        let named = self.config.once.as_deref();
        let found = options.clone().into_iter().find(|(id, _)| Some(*id) == named);
        found.map(|(id, _)| id).or_else(|| permission_once(options))
    }
}
