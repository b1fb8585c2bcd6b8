//! What an organization offers for its tasks, and which model provider an agent uses.

use foundry_proto::provisioner::v1::{Agent, AgentProfileSettings, ModelProvider};

use super::{agents, model};
use crate::client::Gateway;
use crate::failure::Failure;

/// The agents and model providers of an organization.
pub struct Offers {
    /// The default agent first.
    pub agents: Vec<Agent>,
    /// In the order in which one is chosen for an agent.
    pub providers: Vec<ModelProvider>,
}

/// The model provider that an agent uses with a profile.
#[derive(Debug, PartialEq)]
pub enum Used<'a> {
    /// The one that the profile names.
    Named(&'a ModelProvider),
    /// The first one that the agent supports, since the profile names none.
    First(&'a ModelProvider),
    /// None, since the agent has no model.
    NoModel,
    /// None, since the organization has none of these kinds.
    Missing(&'a [String]),
    /// None, since the one that the profile names does not exist.
    Gone,
}

impl Offers {
    /// Reads the agents, profiles and model providers that an organization can use.
    pub async fn of(gateway: &Gateway, organization_id: &str) -> Result<Self, Failure> {
        let agents = agents::of(gateway, organization_id).await?;
        let providers = model::of(gateway, organization_id).await?;
        Ok(Self { agents, providers })
    }

    /// The model provider that an agent uses; none for an agent that is not in the catalogue. As the provisioner chooses
    /// it when it starts the agent.
    pub fn used(&self, agent: &str, model_provider_id: &str) -> Option<Used<'_>> {
        let kinds = &self.agents.iter().find(|a| a.name == agent)?.missing_credentials;
        if kinds.is_empty() {
            return Some(Used::NoModel);
        }
        if !model_provider_id.is_empty() {
            let named = self.providers.iter().find(|p| p.model_provider_id == model_provider_id);
            return Some(named.map_or(Used::Gone, Used::Named));
        }
        let first = self.providers.iter().find(|p| kinds.contains(&model::kind_name(p)));
        Some(first.map_or(Used::Missing(kinds), Used::First))
    }

    /// The model provider of a profile's agent as text.
    pub fn words(&self, settings: &AgentProfileSettings) -> String {
        match self.used(&settings.agent, &settings.model_provider_id) {
            Some(Used::Named(provider)) => provider.name.clone(),
            Some(Used::First(provider)) => format!("{} (first suitable)", provider.name),
            Some(Used::NoModel) => "none needed".to_owned(),
            Some(Used::Missing(kinds)) => format!("missing: {}", kinds.join(" or ")),
            Some(Used::Gone) => "gone".to_owned(),
            None => settings.model_provider_id.clone(),
        }
    }

    /// What of a profile has no effect.
    pub fn ignored(&self, settings: &AgentProfileSettings) -> Option<String> {
        let used = self.used(&settings.agent, &settings.model_provider_id);
        if used != Some(Used::NoModel) || settings.model_provider_id.is_empty() {
            return None;
        }
        let what = if settings.model.is_empty() { "" } else { " and the model" };
        Some(format!("{} uses no model: the model provider{what} of this profile is ignored", settings.agent))
    }
}

#[cfg(test)]
pub(super) mod testing {
    use foundry_proto::provisioner::v1::ModelProviderKind;

    use super::*;

    /// Some agents, and model providers for most of them.
    pub fn offers() -> Offers {
        let agent = |name: &str, kinds: &[&str]| Agent {
            name: name.into(),
            missing_credentials: kinds.iter().map(|k| (*k).to_owned()).collect(),
            ..Agent::default()
        };
        let provider = |name: &str, kind: ModelProviderKind| ModelProvider {
            model_provider_id: format!("mpr_{name}"),
            name: name.into(),
            kind: kind.into(),
            ..ModelProvider::default()
        };
        Offers {
            agents: vec![
                agent("demo", &[]),
                agent("claude", &["anthropic"]),
                agent("qwen", &["openai", "openai-compatible"]),
                agent("gemini", &["gemini"]),
            ],
            providers: vec![
                provider("a", ModelProviderKind::OpenaiCompatible),
                provider("b", ModelProviderKind::Anthropic),
                provider("c", ModelProviderKind::Anthropic),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::offers;
    use super::*;

    fn settings(agent: &str, model_provider_id: &str, model: &str) -> AgentProfileSettings {
        AgentProfileSettings {
            agent: agent.into(),
            model_provider_id: model_provider_id.into(),
            model: model.into(),
            ..AgentProfileSettings::default()
        }
    }

    #[test]
    fn a_profile_shows_the_provider_that_its_agent_will_use() {
        let offers = offers();
        for (agent, provider, words) in [
            ("claude", "mpr_c", "c"),
            ("claude", "", "b (first suitable)"),
            ("qwen", "", "a (first suitable)"),
            ("gemini", "", "missing: gemini"),
            ("claude", "mpr_x", "gone"),
            ("demo", "mpr_a", "none needed"),
            ("hal", "mpr_a", "mpr_a"),
        ] {
            assert_eq!(offers.words(&settings(agent, provider, "")), words, "{agent} {provider}");
        }
    }

    #[test]
    fn says_that_an_agent_without_a_model_ignores_the_one_of_its_profile() {
        let offers = offers();
        let words = offers.ignored(&settings("demo", "mpr_a", "m1")).unwrap();
        assert!(words.contains("demo uses no model") && words.contains("and the model"), "{words}");
        assert_eq!(offers.ignored(&settings("demo", "", "")), None);
        assert_eq!(offers.ignored(&settings("qwen", "mpr_a", "m1")), None);
    }
}
