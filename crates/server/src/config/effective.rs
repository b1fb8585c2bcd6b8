//! The effective configuration as TOML, with the origin of each value that is not a default.

use std::fmt::Write as _;

use serde::Serialize;

use super::{ConfigError, Loaded};

/// Prints the configuration as TOML that can be read back, secrets masked as `***`.
///
/// # Errors
/// When a value has no TOML form.
pub fn effective<T: Serialize>(loaded: &Loaded<T>) -> Result<String, ConfigError> {
    let table = toml::Table::try_from(&loaded.value)?;
    let mut out = String::new();
    print("", &table, loaded, &mut out);
    Ok(out)
}

/// A key below another one, quoted where TOML wants it.
pub(super) fn dotted(prefix: &str, key: &str) -> String {
    let key = quoted(key);
    if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
}

fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { toml::Value::from(key).to_string() }
}

fn print<T>(prefix: &str, table: &toml::Table, loaded: &Loaded<T>, out: &mut String) {
    for (key, value) in table.iter().filter(|(_, v)| !v.is_table()) {
        let path = dotted(prefix, key);
        let origin = loaded.origins.get(&path).map(|o| format!("  # from {o}")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} = {}{origin}", quoted(key), value);
    }
    for (key, value) in table {
        if let toml::Value::Table(inner) = value {
            let section = dotted(prefix, key);
            let _ = writeln!(out, "\n[{section}]");
            print(&section, inner, loaded, out);
        }
    }
}
