//! The built-in entries.

use foundry_tool_cache::{Lock, NpmPackageSet};

use crate::check;
use crate::{AgentConfig, AgentError, Entry, Source};

/// The name of the agent that needs neither a package nor a model.
pub(crate) const DEMO: &str = "demo";

struct BuiltIn {
    name: &'static str,
    entry: &'static str,
    package_json: &'static str,
    package_lock: &'static str,
}

macro_rules! built_in {
    ($name:literal) => {
        BuiltIn {
            name: $name,
            entry: include_str!(concat!("../catalogue/", $name, ".toml")),
            package_json: include_str!(concat!("../locks/", $name, "/package.json")),
            package_lock: include_str!(concat!("../locks/", $name, "/package-lock.json")),
        }
    };
}

const ALL: [BuiltIn; 5] =
    [built_in!("claude"), built_in!("codex"), built_in!("opencode"), built_in!("gemini"), built_in!("qwen")];

/// All built-in entries, the demo agent first.
pub(crate) fn entries() -> Result<Vec<Entry>, AgentError> {
    let demo = AgentConfig { display_name: "Demo agent".to_owned(), ..AgentConfig::default() };
    let demo = Entry { name: DEMO.to_owned(), own: false, source: Source::Demo, config: demo };
    std::iter::once(Ok(demo)).chain(ALL.iter().map(entry)).collect()
}

fn entry(of: &BuiltIn) -> Result<Entry, AgentError> {
    let config: AgentConfig = toml::from_str(of.entry)
        .map_err(|e| AgentError::invalid(format!("catalogue/{}.toml", of.name), &e.to_string()))?;
    check::texts(of.name, &config)?;
    let lock = Lock::Text(of.package_lock.into());
    let packages = NpmPackageSet::new(of.name, of.package_json, lock, &config.program);
    let node = check::runs_on_node(&config);
    Ok(Entry { name: of.name.to_owned(), own: false, source: Source::Packages { packages, node }, config })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn locks() -> impl Iterator<Item = (&'static str, Value)> {
        ALL.iter().map(|of| (of.name, serde_json::from_str(of.package_lock).unwrap()))
    }

    #[test]
    fn locks_every_package_by_version_and_integrity_and_names_no_registry() {
        for (name, lock) in locks() {
            assert_eq!(lock["lockfileVersion"], 3, "{name}");
            for (path, package) in lock["packages"].as_object().unwrap().iter().filter(|(p, _)| !p.is_empty())
            {
                assert!(package["version"].is_string(), "{name}: {path}");
                assert!(package["integrity"].as_str().unwrap().starts_with("sha512-"), "{name}: {path}");
                assert!(package["resolved"].is_null(), "{name}: {path} names the registry it was made with");
            }
        }
    }

    #[test]
    fn locks_whatever_an_optional_package_names_or_npm_would_refuse_the_lock() {
        for (name, lock) in locks() {
            let packages = lock["packages"].as_object().unwrap();
            let named: Vec<&str> = packages.keys().filter_map(|p| p.rsplit("node_modules/").next()).collect();
            for (path, package) in packages {
                for optional in package["optionalDependencies"].as_object().into_iter().flat_map(|o| o.keys())
                {
                    assert!(named.contains(&optional.as_str()), "{name}: {path} wants {optional}");
                }
            }
        }
    }

    #[test]
    fn pins_programs_of_both_platforms() {
        let programs = [
            ("claude", "node_modules/@anthropic-ai/claude-agent-sdk-linux"),
            ("codex", "node_modules/@openai/codex-linux"),
            ("opencode", "node_modules/opencode-linux"),
            ("gemini", "node_modules/@lydell/node-pty-linux"),
            ("qwen", "node_modules/@img/sharp-linux"),
        ];
        for (name, lock) in locks() {
            let (_, program) = programs.iter().find(|(n, _)| *n == name).unwrap();
            for platform in ["x64", "arm64"] {
                assert!(
                    lock["packages"][format!("{program}-{platform}")].is_object(),
                    "{name} on {platform}"
                );
            }
        }
    }
}
