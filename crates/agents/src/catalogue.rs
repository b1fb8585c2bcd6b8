//! All agents that can be chosen.

use std::collections::BTreeMap;

use crate::{AgentConfig, AgentError, Entry, builtin, check};

/// The built-in agents and the operator's own, by name.
#[derive(Clone, Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

impl Catalogue {
    /// The built-in agents in their order, then the operator's own in the order of their names. An own entry with the
    /// name of a built-in one replaces it as a whole, so that another version can be pinned; `demo` cannot be replaced.
    ///
    /// # Errors
    /// `AGENT_ENTRY_INVALID` naming the faulty setting.
    pub fn new(own: BTreeMap<String, AgentConfig>) -> Result<Self, AgentError> {
        let mut entries = builtin::entries()?;
        for (name, config) in own {
            let entry = check::own(&name, config)?;
            match entries.iter_mut().find(|e| e.name == name) {
                Some(replaced) => *replaced = entry,
                None => entries.push(entry),
            }
        }
        Ok(Self { entries })
    }

    /// The agent of this name.
    ///
    /// # Errors
    /// `AGENT_UNKNOWN` naming the agents there are.
    pub fn get(&self, name: &str) -> Result<&Entry, AgentError> {
        self.entries.iter().find(|e| e.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.iter().map(Entry::name).collect();
            let message = format!("unknown agent {name:?}; available agents: {}", known.join(", "));
            AgentError::new("AGENT_UNKNOWN", message)
        })
    }

    /// Every agent, the demo agent first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelKind, Places, Source};

    #[derive(serde::Deserialize)]
    struct File {
        agents: BTreeMap<String, AgentConfig>,
    }

    fn own(text: &str) -> Result<Catalogue, AgentError> {
        Catalogue::new(toml::from_str::<File>(text).unwrap().agents)
    }

    #[test]
    fn lists_the_built_in_agents_and_says_which_there_are() {
        let catalogue = Catalogue::new(BTreeMap::new()).unwrap();
        let names: Vec<&str> = catalogue.iter().map(Entry::name).collect();
        assert_eq!(names, ["demo", "claude", "codex", "opencode", "gemini", "qwen"]);
        let e = catalogue.get("gpt").unwrap_err();
        assert_eq!(e.reason, "AGENT_UNKNOWN");
        assert!(e.message.contains("opencode"), "{e}");
    }

    #[test]
    fn takes_a_custom_acp_command_from_one_table() {
        let catalogue = own("[agents.mine]\ncommand = [\"/opt/mine\", \"--acp\"]").unwrap();
        let mine = catalogue.get("mine").unwrap();
        assert_eq!(mine.command(&Places::default()), ["/opt/mine", "--acp"]);
        assert_eq!((mine.display_name(), mine.is_own(), mine.needs_model()), ("mine", true, false));
        assert!(mine.packages().is_none() && !mine.runs_on_node());
    }

    #[test]
    fn takes_packages_of_the_operator_with_all_settings() {
        let catalogue = own(r#"
            [agents.mine]
            display_name = "Mine"
            packages = { "@me/agent" = "1.2.3" }
            program = "node_modules/@me/agent/main.mjs"
            args = ["--acp"]
            key = "environment"
            once = "yes"
            leaves = [".mine/"]
            env = { MINE_TELEMETRY = "0" }
            authenticate = { method = "key", meta = { key = "{{token}}" } }
            mode = { default = "ask" }
            [agents.mine.model.openai-compatible]
            needs_model = true
            env = { MINE_URL = "{{base_url}}/v1", MINE_CONFIG = { model = "{{model}}", tools = true } }
            files = { ".mine/config" = "key={{token}}\n" }
            "#)
        .unwrap();
        let mine = catalogue.get("mine").unwrap();
        let places = Places { installed: "/t/mine".into(), node: "/t/node".into(), ..Places::default() };
        assert_eq!(mine.command(&places), ["/t/node", "/t/mine/node_modules/@me/agent/main.mjs"]);
        assert_eq!(mine.model_kinds().collect::<Vec<_>>(), [ModelKind::OpenaiCompatible]);
        assert_eq!(mine.permission_once([("no", "reject"), ("yes", "custom")]), Some("yes"));
        assert_eq!(mine.permission_once([("a", "allow_always"), ("b", "allow_once")]), Some("b"));
    }

    #[test]
    fn replaces_a_built_in_agent_as_a_whole_but_never_the_demo_agent() {
        let catalogue = own("[agents.claude]\ncommand = [\"my-claude\"]").unwrap();
        assert!(matches!(catalogue.get("claude").unwrap().source(), Source::Command(_)));
        assert_eq!(catalogue.iter().count(), 6);
        let e = own("[agents.demo]\ncommand = [\"x\"]").unwrap_err();
        assert_eq!(e.field.as_deref(), Some("provisioner.agents.demo"));
    }

    #[test]
    fn names_the_faulty_setting_of_an_own_entry() {
        for (table, field) in [
            ("", ""),
            ("command = [\"a\"]\npackages = { b = \"1.0.0\" }", ".command"),
            ("command = [\"\"]", ".command"),
            ("command = [\"a\"]\nprogram = \"b\"", ".program"),
            ("packages = { b = \"^1.0.0\" }\nprogram = \"c\"", ".packages.\"b\""),
            ("packages = { \"-b\" = \"1.0.0\" }\nprogram = \"c\"", ".packages.\"-b\""),
            ("packages = { b = \"1.0.0\" }", ".program"),
            ("packages = { b = \"1.0.0\" }\nprogram = \"../c\"", ".program"),
            ("packages = { b = \"1.0.0\" }\nprogram = \"c\"\nlock_file = \"d\"", ".lock_file"),
            ("command = [\"a\"]\nargs = [\"{{modell}}\"]", ".args"),
            ("command = [\"a\"]\nenv = { \"A B\" = \"c\" }", ".env.A B"),
            ("command = [\"a\"]\nenv = { A = { b = [\"{{c}}\"] } }", ".env.A"),
            ("command = [\"a\"]\nfiles = { \"/etc/a\" = \"c\" }", ".files.\"/etc/a\""),
            ("command = [\"a\"]\nfiles = { \".foundry/a\" = \"c\" }", ".files.\".foundry/a\""),
            ("command = [\"a\"]\nleaves = [\"../a\"]", ".leaves"),
            ("command = [\"a\"]\nauthenticate = { method = \"\" }", ".authenticate.method"),
            ("command = [\"a\"]\nmodel.gemini.args = [\"{{x}}\"]", ".model.gemini.args"),
        ] {
            let e = own(&format!("[agents.mine]\n{table}")).unwrap_err();
            assert_eq!(e.reason, "AGENT_ENTRY_INVALID");
            assert_eq!(e.field.unwrap(), format!("provisioner.agents.mine{field}"), "{table}");
        }
    }

    #[test]
    fn refuses_a_setting_that_does_not_exist() {
        let e = toml::from_str::<File>("[agents.mine]\ncomand = [\"a\"]").err().unwrap();
        assert!(e.to_string().contains("comand"), "{e}");
    }
}
