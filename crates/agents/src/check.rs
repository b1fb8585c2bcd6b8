//! Validation of an entry; every refusal names the setting.

use std::collections::BTreeMap;

use foundry_tool_cache::{Lock, NpmPackageSet};
use serde_json::{Value, json};

use crate::template::{unknown_in, unknown_name};
use crate::{AgentConfig, AgentError, Entry, Source, Text, Wiring};

/// Validates an operator's entry.
pub(crate) fn own(name: &str, config: AgentConfig) -> Result<Entry, AgentError> {
    let at = |field: &str| format!("provisioner.agents.{name}{field}");
    let fail = |field: &str, what: &str| Err(AgentError::invalid(at(field), what));
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(named) || name.starts_with('-') {
        return fail(
            "",
            "the name must be up to 32 lowercase letters, digits or hyphens, and must not start \
             with a hyphen",
        );
    }
    if name == crate::builtin::DEMO {
        return fail("", "the demo agent is built in and cannot be replaced; choose another name");
    }
    let source = match (config.command.is_empty(), config.packages.is_empty()) {
        (false, false) => return fail(".command", "give either `command` or `packages`, not both"),
        (true, true) => {
            return fail(
                "",
                "set `command`, or `packages` with `program`; built-in values are not merged in",
            );
        }
        (false, true) => {
            for (field, given) in [
                (".program", !config.program.is_empty()),
                (".lock_file", config.lock_file.is_some()),
                (".node", config.node.is_some()),
            ] {
                if given {
                    return fail(field, "only applies with `packages`, not with `command`");
                }
            }
            if config.command[0].is_empty() {
                return fail(".command", "the program is empty");
            }
            Source::Command(config.command.clone())
        }
        (true, false) => packages(name, &config)?,
    };
    texts(&at(""), &config)?;
    Ok(Entry { name: name.to_owned(), own: true, source, config })
}

fn packages(name: &str, config: &AgentConfig) -> Result<Source, AgentError> {
    let at = |field: &str| format!("provisioner.agents.{name}{field}");
    for (package, version) in &config.packages {
        if !is_exact(version) {
            let what = format!("{version:?} is not an exact version such as 1.2.3");
            return Err(AgentError::invalid(at(&format!(".packages.{package:?}")), &what));
        }
        let named = |c: char| c.is_ascii_alphanumeric() || "@/-_.~".contains(c);
        if package.is_empty() || !package.chars().all(named) || package.starts_with(['-', '.', '/']) {
            let field = at(&format!(".packages.{package:?}"));
            return Err(AgentError::invalid(field, "is not the name of an npm package"));
        }
    }
    if !is_beneath(&config.program) {
        let what =
            "set the program inside the packages, for example node_modules/example-agent/dist/index.js";
        return Err(AgentError::invalid(at(".program"), what));
    }
    if config.lock_file.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(AgentError::invalid(at(".lock_file"), "is not an absolute path"));
    }
    let package_json = json!({ "private": true, "dependencies": config.packages }).to_string();
    let lock = config.lock_file.clone().map_or(Lock::AtFirstInstall, Lock::File);
    let packages = NpmPackageSet::new(name, package_json, lock, &config.program);
    Ok(Source::Packages { packages, node: runs_on_node(config) })
}

/// Whether the program of an entry with packages runs on Node.
pub(crate) fn runs_on_node(config: &AgentConfig) -> bool {
    let script = [".js", ".mjs", ".cjs"].iter().any(|end| config.program.ends_with(end));
    config.node.unwrap_or(script)
}

/// Checks the texts of an entry, built in or not; `at` is the path of its table in error messages.
pub(crate) fn texts(at: &str, config: &AgentConfig) -> Result<(), AgentError> {
    let base = Wiring {
        args: config.args.clone(),
        env: config.env.clone(),
        files: config.files.clone(),
        authenticate: config.authenticate.clone(),
        needs_model: false,
        model_option: None,
    };
    wiring(at, &base)?;
    for (kind, of_kind) in &config.model {
        wiring(&format!("{at}.model.{kind}"), of_kind)?;
    }
    for path in &config.leaves {
        if !is_beneath(path) {
            let what = format!("{path:?} is not a path relative to the root of the work tree");
            return Err(AgentError::invalid(format!("{at}.leaves"), &what));
        }
    }
    Ok(())
}

fn wiring(at: &str, wiring: &Wiring) -> Result<(), AgentError> {
    let check = |field: String, unknown: Option<&str>| match unknown {
        Some(name) => Err(AgentError::invalid(field, &format!("there is no placeholder {{{{{name}}}}}"))),
        None => Ok(()),
    };
    for arg in &wiring.args {
        check(format!("{at}.args"), unknown_name(arg))?;
    }
    each(&wiring.env, |name, text| {
        let field = format!("{at}.env.{name}");
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(part) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(AgentError::invalid(field, "is not a valid variable name"));
        }
        check(field, unknown(text))
    })?;
    each(&wiring.files, |path, text| {
        let field = format!("{at}.files.{path:?}");
        if !is_beneath(path) || path.ends_with('/') || path.split('/').next() == Some(".foundry") {
            return Err(AgentError::invalid(
                field,
                "is not a file path below HOME, or is reserved for Foundry",
            ));
        }
        check(field, unknown(text))
    })?;
    if let Some(option) = &wiring.model_option {
        check(format!("{at}.model_option"), unknown_name(option))?;
    }
    let Some(authenticate) = &wiring.authenticate else { return Ok(()) };
    if authenticate.method.is_empty() {
        return Err(AgentError::invalid(format!("{at}.authenticate.method"), "is empty"));
    }
    check(format!("{at}.authenticate.meta"), unknown_in(&authenticate.meta))
}

fn each(
    texts: &BTreeMap<String, Text>,
    check: impl Fn(&str, &Text) -> Result<(), AgentError>,
) -> Result<(), AgentError> {
    texts.iter().try_for_each(|(name, text)| check(name, text))
}

fn unknown(text: &Text) -> Option<&str> {
    match text {
        Text::Plain(text) => unknown_name(text),
        Text::Json(Value::Null) => Some("null"),
        Text::Json(value) => unknown_in(value),
    }
}

/// Whether this is an exact version and not a range, tag or address.
fn is_exact(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let digits = |n: &&str| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-+.".contains(c);
    numbers.len() == 3 && numbers.iter().all(digits) && version.chars().all(allowed)
}

/// Whether this is a relative path that stays below its root.
fn is_beneath(path: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p != "." && p != "..";
    path.strip_suffix('/').unwrap_or(path).split('/').all(part) && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_an_exact_version_from_a_range_and_a_tag() {
        for version in ["1.2.3", "0.3.318", "1.0.0-rc.1", "0.166.0-linux-x64", "1.0.0+build"] {
            assert!(is_exact(version), "{version}");
        }
        for version in ["", "1", "1.2", "^1.2.3", "1.2.x", "latest", ">=1.0.0", "1.2.3 || 2.0.0", "file:../x"]
        {
            assert!(!is_exact(version), "{version}");
        }
    }

    #[test]
    fn keeps_paths_beneath_their_root() {
        assert!(is_beneath(".claude/settings.local.json") && is_beneath(".cache/"));
        for path in ["", "/", "/etc/passwd", "../x", "a/../b", "a//b", "./a"] {
            assert!(!is_beneath(path), "{path}");
        }
    }
}
