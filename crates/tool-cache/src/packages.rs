//! Packages to install.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// npm packages at exact versions, with the program that is needed from them.
#[derive(Clone, Debug)]
pub struct NpmPackageSet {
    name: String,
    package_json: Cow<'static, str>,
    lock: Lock,
    program: String,
    pub(crate) without: Vec<String>,
    pub(crate) try_run: Option<&'static str>,
}

/// The source of the versions and integrities of all packages.
#[derive(Clone, Debug)]
pub enum Lock {
    /// The text of a `package-lock.json`.
    Text(Cow<'static, str>),
    /// A file of the operator.
    File(PathBuf),
    /// npm makes it before the first installation, and it is kept: later installations must match it.
    AtFirstInstall,
}

impl NpmPackageSet {
    /// Packages under a name (lower-case letters, digits and hyphens). `{{platform}}` in the program stands for
    /// `linux-x64` or `linux-arm64`; its path begins with `node_modules/`.
    pub fn new(
        name: impl Into<String>,
        package_json: impl Into<Cow<'static, str>>,
        lock: Lock,
        program: &str,
    ) -> Self {
        let program = program.replace("{{platform}}", platform().unwrap_or("{{platform}}"));
        let package_json = package_json.into();
        Self { name: name.into(), package_json, lock, program, without: Vec::new(), try_run: None }
    }

    /// The Node that agents run on, without its headers and manuals.
    pub(crate) fn node() -> Self {
        let lock = Lock::Text(include_str!("../locks/node/package-lock.json").into());
        let package = "node_modules/node-{{platform}}";
        let program = format!("{package}/bin/node");
        let set = Self::new("node", include_str!("../locks/node/package.json"), lock, &program);
        let package = set.program.trim_end_matches("/bin/node").to_owned();
        let without = ["include", "share"].map(|dir| format!("{package}/{dir}")).to_vec();
        Self { without, try_run: Some("--version"), ..set }
    }

    /// The name under which the packages are installed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's path below the installation.
    pub fn program(&self) -> &Path {
        Path::new(&self.program)
    }

    /// The text of its `package.json`.
    pub fn package_json(&self) -> &str {
        &self.package_json
    }

    /// The source of its lock.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// `<name>-<12 hex of the text's SHA-256>`.
    pub(crate) fn stamped(&self, text: &str) -> String {
        let digest = hex::encode(Sha256::digest(text));
        format!("{}-{}", self.name, &digest[..12])
    }
}

/// npm's name of the platform, where tools can be installed.
pub(crate) fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        _ => None,
    }
}

/// The directories of all packages that a lock puts on a platform: those reachable from the root through packages that
/// fit. npm silently skips an optional package that it could not fetch, so the caller must look for missing ones.
///
/// # Errors
/// What is wrong with the lock.
pub(crate) fn expected(lock: &str, platform: &str) -> Result<BTreeSet<String>, String> {
    let lock: Value = serde_json::from_str(lock).map_err(|e| e.to_string())?;
    let packages = lock["packages"].as_object().ok_or("it is not of version 3: `packages` is missing")?;
    for (path, package) in packages.iter().filter(|(path, _)| !path.is_empty()) {
        let outside = !path.starts_with("node_modules/") || path.split('/').any(|part| part == "..");
        if outside || package["link"].as_bool() == Some(true) {
            return Err(format!("{path:?} is not a package below node_modules"));
        }
        if !package["integrity"].is_string() && package["inBundle"].as_bool() != Some(true) {
            return Err(format!("{path:?} has no integrity"));
        }
    }
    let (os, cpu) = platform.split_once('-').unwrap_or((platform, ""));
    let here = |package: &Value| {
        fits(&package["os"], os) && fits(&package["cpu"], cpu) && fits(&package["libc"], "glibc")
    };
    let (mut found, mut open) = (BTreeSet::new(), vec![String::new()]);
    while let Some(path) = open.pop() {
        for name in needs(&packages[&path]) {
            let Some(needed) = resolve(packages, &path, name) else { continue };
            if here(&packages[&needed]) && found.insert(needed.clone()) {
                open.push(needed);
            }
        }
    }
    Ok(found)
}

/// The names of a package's dependencies.
fn needs(package: &Value) -> impl Iterator<Item = &str> {
    let lists = ["dependencies", "optionalDependencies", "peerDependencies"];
    let named = lists.into_iter().filter_map(|list| package[list].as_object()).flat_map(|names| names.keys());
    let optional = |name: &&String| package["peerDependenciesMeta"][name.as_str()]["optional"] == true;
    named.filter(move |name| !optional(name)).map(String::as_str)
}

/// The directory in which a package finds another, by Node's search: beside itself, then further up.
fn resolve(packages: &Map<String, Value>, from: &str, name: &str) -> Option<String> {
    let mut at = from;
    loop {
        let separator = if at.is_empty() { "" } else { "/" };
        let candidate = format!("{at}{separator}node_modules/{name}");
        if packages.contains_key(&candidate) {
            return Some(candidate);
        }
        if at.is_empty() {
            return None;
        }
        at = at.rfind("node_modules/").map_or("", |end| at[..end].trim_end_matches('/'));
    }
}

/// Whether a list such as `["linux", "!win32"]`, or a single string, includes a value.
fn fits(list: &Value, value: &str) -> bool {
    let words: Vec<&str> = match list {
        Value::String(word) => vec![word],
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        _ => return true,
    };
    let refused = words.iter().any(|word| word.strip_prefix('!') == Some(value));
    let named = words.iter().any(|word| *word == value || *word == "any");
    let only_refusals = words.iter().all(|word| word.starts_with('!'));
    !refused && (named || only_refusals)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expects_what_the_lock_puts_on_the_platform() {
        let package = |more: Value| {
            let mut package = json!({ "version": "1.0.0", "integrity": "sha512-x" });
            package.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            package
        };
        let lock = json!({ "packages": {
            "": { "dependencies": { "a": "1.0.0" }, "optionalDependencies": { "arm": "1.0.0" } },
            "node_modules/a": package(json!({
                "dependencies": { "b": "1.0.0", "@s/c": "1.0.0" }, "peerDependencies": { "peer": "1", "maybe": "1" },
                "peerDependenciesMeta": { "maybe": { "optional": true } },
                "optionalDependencies": { "x64": "1.0.0", "musl": "1.0.0", "mac": "1.0.0", "any": "1.0.0" },
            })),
            "node_modules/a/node_modules/b": package(json!({ "dependencies": { "@s/c": "1.0.0" } })),
            "node_modules/b": package(json!({})),
            "node_modules/@s/c": package(json!({ "os": ["!win32"], "dependencies": { "a": "1.0.0" } })),
            "node_modules/peer": package(json!({ "peer": true })),
            "node_modules/maybe": package(json!({ "peer": true, "optional": true })),
            "node_modules/x64": package(json!({ "os": "linux", "cpu": ["x64"], "optional": true })),
            "node_modules/arm": package(json!({ "os": ["linux"], "cpu": ["arm64"], "optional": true })),
            "node_modules/musl": package(json!({ "libc": ["musl"], "optional": true })),
            "node_modules/mac": package(json!({ "os": ["darwin"], "dependencies": { "of-mac": "1.0.0" } })),
            "node_modules/of-mac": package(json!({ "optional": true })),
            "node_modules/any": package(json!({ "os": ["!linux"], "optional": true })),
        }});
        let expected = expected(&lock.to_string(), "linux-x64").unwrap();
        let below = ["@s/c", "a", "a/node_modules/b", "peer", "x64"].map(|p| format!("node_modules/{p}"));
        assert_eq!(expected, BTreeSet::from(below));
    }

    #[test]
    fn refuses_a_lock_without_integrity_or_with_links_out_of_the_directory() {
        for (lock, word) in [
            ("nonsense", "expected"),
            ("{\"dependencies\": {}}", "version 3"),
            ("{\"packages\": {\"node_modules/a\": {\"version\": \"1.0.0\"}}}", "integrity"),
            ("{\"packages\": {\"../a\": {\"integrity\": \"sha512-x\"}}}", "below node_modules"),
            ("{\"packages\": {\"node_modules/a\": {\"link\": true}}}", "below node_modules"),
        ] {
            assert!(expected(lock, "linux-x64").unwrap_err().contains(word), "{lock}");
        }
    }

    #[test]
    fn pins_node_24_for_both_platforms_and_names_no_registry() {
        let Lock::Text(lock) = NpmPackageSet::node().lock else { panic!("the lock of Node is a text") };
        for platform in ["linux-x64", "linux-arm64"] {
            let node = format!("node_modules/node-{platform}");
            assert_eq!(expected(&lock, platform).unwrap(), BTreeSet::from([node]));
        }
        assert!(lock.contains("\"version\": \"24.21.0\""));
        assert!(!lock.contains("resolved"));
    }
}
