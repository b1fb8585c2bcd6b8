//! The effective configuration as TOML, with the origin of each value that is not a default.

use std::fmt::Write as _;

use serde::Serialize;

use super::{ConfigError, Loaded};

/// Formats the configuration as TOML that can be read back, secrets masked as `***`.
///
/// # Errors
/// When a value has no TOML form.
pub fn effective<T: Serialize>(loaded: &Loaded<T>) -> Result<String, ConfigError> {
    let table = toml::Table::try_from(&loaded.value)?;
    let mut out = String::new();
    print("", &table, loaded, &mut out);
    Ok(out)
}

/// A key below another one, quoted where TOML requires it.
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
        let _ = writeln!(out, "{} = {}{origin}", quoted(key), masked(value.clone()));
    }
    for (key, value) in table {
        if let toml::Value::Table(inner) = value {
            let section = dotted(prefix, key);
            let _ = writeln!(out, "\n[{section}]");
            print(&section, inner, loaded, out);
        }
    }
}

/// A value without the passwords of the URLs in it, such as that of a database.
fn masked(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) => toml::Value::String(mask_url(text)),
        toml::Value::Array(items) => items.into_iter().map(masked).collect::<Vec<_>>().into(),
        toml::Value::Table(table) => {
            toml::Value::Table(table.into_iter().map(|(key, value)| (key, masked(value))).collect())
        }
        other => other,
    }
}

fn mask_url(text: String) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    // Up to the last `@`, since a password may contain unescaped ones.
    let rest = match rest.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
        Some((Some((name, _)), host)) => format!("{name}:***@{host}"),
        _ => rest.to_owned(),
    };
    let parameter = |part: &str| match part.split_once('=') {
        Some((name, _)) if name.eq_ignore_ascii_case("password") => format!("{name}=***"),
        _ => part.to_owned(),
    };
    match rest.split_once('?') {
        Some((before, query)) => {
            let query: Vec<_> = query.split('&').map(parameter).collect();
            format!("{scheme}://{before}?{}", query.join("&"))
        }
        None => format!("{scheme}://{rest}"),
    }
}
