//! The agents that can be chosen by name, and the credentials each needs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{Class, ProviderError};

/// A coding agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// The project's own deterministic agent; needs no model.
    Demo,
    /// Anthropic's Claude Code.
    ClaudeCode,
    /// OpenAI's Codex.
    Codex,
    /// opencode, with a model of Anthropic or OpenAI.
    OpenCode,
}

impl AgentKind {
    /// Every agent.
    pub const ALL: [Self; 4] = [Self::Demo, Self::ClaudeCode, Self::Codex, Self::OpenCode];

    /// The name users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::ClaudeCode => "claude",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
        }
    }

    /// The runtime's slot it sits in. The demo agent replaces the runtime's own `mock`, which only echoes.
    pub fn slot(self) -> &'static str {
        match self {
            Self::Demo => "mock",
            other => other.name(),
        }
    }

    /// The variables it understands: one of them is needed, all that are configured are given.
    pub fn credential_variables(self) -> &'static [&'static str] {
        match self {
            Self::Demo => &[],
            Self::ClaudeCode => &["ANTHROPIC_API_KEY"],
            Self::Codex => &["OPENAI_API_KEY", "CODEX_API_KEY"],
            Self::OpenCode => &["ANTHROPIC_API_KEY", "OPENAI_API_KEY"],
        }
    }
}

impl fmt::Display for AgentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AgentKind {
    type Err = ProviderError;

    /// Fails with `AGENT_UNKNOWN` naming the agents there are.
    fn from_str(s: &str) -> Result<Self, ProviderError> {
        Self::ALL.into_iter().find(|a| a.name() == s).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            let message = format!("there is no agent {s:?}; the agents are {known}");
            ProviderError::new(Class::Configuration, "AGENT_UNKNOWN", message)
        })
    }
}

/// The model keys the operator configured, by variable name. They reach the chosen agent's
/// environment only (see `docs/adr/0005-the-tap.md`), never a file, an argument or another process.
#[derive(Clone, Default)]
pub struct AgentCredentials(BTreeMap<String, String>);

impl AgentCredentials {
    /// From configuration; empty values count as absent.
    pub fn new(keys: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(keys.into_iter().filter(|(_, v)| !v.is_empty()).collect())
    }

    /// The environment of one agent.
    ///
    /// # Errors
    /// `AGENT_CREDENTIALS_MISSING` naming the variables of which one is needed.
    pub fn for_agent(&self, agent: AgentKind) -> Result<BTreeMap<String, String>, ProviderError> {
        let wanted = agent.credential_variables();
        let found: BTreeMap<_, _> =
            wanted.iter().filter_map(|k| self.0.get(*k).map(|v| ((*k).to_owned(), v.clone()))).collect();
        if found.is_empty() && !wanted.is_empty() {
            let message = format!("agent {agent} needs {}, which is not configured", wanted.join(" or "));
            return Err(ProviderError::new(Class::Credentials, "AGENT_CREDENTIALS_MISSING", message));
        }
        Ok(found)
    }
}

impl fmt::Debug for AgentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_missing_credential_of_a_real_agent() {
        let none = AgentCredentials::new([("OPENAI_API_KEY".to_owned(), String::new())]);
        let e = none.for_agent(AgentKind::Codex).unwrap_err();
        assert_eq!((e.class, e.reason), (Class::Credentials, "AGENT_CREDENTIALS_MISSING"));
        assert!(e.message.contains("OPENAI_API_KEY"), "{e}");
    }

    #[test]
    fn gives_an_agent_only_the_keys_it_understands() {
        let keys = AgentCredentials::new(
            [("ANTHROPIC_API_KEY", "a"), ("GITHUB_TOKEN", "g")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let env = keys.for_agent(AgentKind::ClaudeCode).unwrap();
        assert_eq!(env.into_iter().collect::<Vec<_>>(), [("ANTHROPIC_API_KEY".to_owned(), "a".to_owned())]);
        assert!(keys.for_agent(AgentKind::Demo).unwrap().is_empty());
        assert!(!format!("{keys:?}").contains('g'.to_string().repeat(2).as_str()));
    }

    #[test]
    fn says_which_agents_there_are() {
        assert!("gpt".parse::<AgentKind>().unwrap_err().message.contains("opencode"));
    }
}
