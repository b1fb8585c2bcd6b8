//! Layers as trees: names of variables, keys of flags, and values written as text.

use config::{Source, Value, ValueKind};

use super::ConfigError;

/// Values by key, case kept.
pub(super) type Table = config::Map<String, Value>;

/// A tree as a layer of the `config` crate.
#[derive(Clone, Debug)]
pub(super) struct Tree(pub Table);

impl Source for Tree {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Table, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The kind of a key, by the defaults.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// A section, whose keys are known.
    Section(&'a Table),
    /// A map, which is empty by default.
    Map,
    /// Below a map: the type of its values is checked later.
    InMap,
    /// One value, with the kind of its default.
    Leaf(&'a ValueKind),
    /// No setting has this key.
    Unknown,
}

impl<'a> Place<'a> {
    /// The place of a key below this one.
    pub(super) fn child(self, key: &str) -> Self {
        match self {
            Self::Section(table) => match table.get(key).map(|value| &value.kind) {
                Some(ValueKind::Table(inner)) if inner.is_empty() => Self::Map,
                Some(ValueKind::Table(inner)) => Self::Section(inner),
                Some(kind) => Self::Leaf(kind),
                None => Self::Unknown,
            },
            Self::Map | Self::InMap => Self::InMap,
            Self::Leaf(_) | Self::Unknown => Self::Unknown,
        }
    }
}

/// The defaults as a tree. Empty maps, empty lists and absent options stay in it; `Config::try_from` drops them.
pub(super) fn defaults<T: serde::Serialize>(defaults: &T) -> Result<Table, ConfigError> {
    let json = serde_json::to_value(defaults).map_err(|e| config::ConfigError::Foreign(Box::new(e)))?;
    match value_of(json, None).kind {
        ValueKind::Table(table) => Ok(table),
        _ => Err(config::ConfigError::Message("a configuration is a struct".to_owned()).into()),
    }
}

/// The keys in the name of a variable, prefix removed. Sections match in any case; in a map the case stays.
pub(super) fn variable_path(name: &str, known: &Table) -> Vec<String> {
    let mut at = Place::Section(known);
    let key = |part: &str| {
        let key = if matches!(at, Place::Section(_)) { part.to_lowercase() } else { part.to_owned() };
        at = at.child(&key);
        key
    };
    name.split("__").map(key).collect()
}

/// The keys in a dotted key, which may be quoted as in TOML.
pub(super) fn flag_path(dotted: &str) -> Result<Vec<String>, ConfigError> {
    let refused = || ConfigError::NotAKey(dotted.to_owned());
    let mut at = toml::Value::Table(toml::from_str(&format!("{dotted} = 0")).map_err(|_| refused())?);
    let mut path = Vec::new();
    while let toml::Value::Table(table) = at {
        let mut entries = table.into_iter();
        let (Some((key, inner)), None) = (entries.next(), entries.next()) else { return Err(refused()) };
        path.push(key);
        at = inner;
    }
    Ok(path)
}

/// The text in a TOML string, `"a b"` or `'a b'`; any other text as it is.
pub(super) fn unquoted(text: &str) -> String {
    let value = text.trim();
    let quoted = value.len() > 1 && ['"', '\''].iter().any(|q| value.starts_with(*q) && value.ends_with(*q));
    match toml_value(value) {
        Some(serde_json::Value::String(inner)) if quoted => inner,
        _ => text.to_owned(),
    }
}

/// A tree with one value from its text: a TOML table for a section or map; a TOML array or items with commas for a
/// list; in a map or for an option, a TOML table or array if the text is one; else the text itself.
pub(super) fn tree(path: &[String], text: &str, known: &Table, origin: &str) -> Result<Table, ConfigError> {
    let from = origin.to_owned();
    let is_open = |text: &str| text.trim_start().starts_with(['{', '[']);
    let table_or_array =
        || toml_value(text).filter(|_| is_open(text)).map(|value| value_of(value, Some(&from)));
    let value = match path.iter().fold(Place::Section(known), |at, key| at.child(key)) {
        Place::Section(_) | Place::Map => match table_or_array() {
            Some(table) => Some(table),
            None => return Err(ConfigError::NotATable { key: path.join("."), origin: from }),
        },
        Place::Leaf(ValueKind::Array(_)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let items: Vec<_> = items.map(|item| Value::new(Some(&from), item)).collect();
            Some(Value::new(Some(&from), items))
        }
        Place::Leaf(ValueKind::Array(_) | ValueKind::Nil) | Place::InMap => table_or_array(),
        Place::Leaf(_) | Place::Unknown => None,
    };
    let value = value.unwrap_or_else(|| Value::new(Some(&from), text));
    let (first, rest) = path.split_first().ok_or_else(|| ConfigError::NotAKey(String::new()))?;
    let nested = rest
        .iter()
        .rev()
        .fold(value, |inner, key| Value::new(Some(&from), Table::from_iter([(key.clone(), inner)])));
    Ok(Table::from_iter([(first.clone(), nested)]))
}

/// A text as one TOML value; none when it is not one.
fn toml_value(text: &str) -> Option<serde_json::Value> {
    let mut document: serde_json::Map<_, _> = toml::from_str(&format!("value = {text}")).ok()?;
    let value = document.remove("value");
    // A line break in the text may have started another key.
    value.filter(|_| document.is_empty())
}

fn value_of(json: serde_json::Value, origin: Option<&String>) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => ValueKind::Nil,
        Json::Bool(b) => b.into(),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => n.into(),
            (None, None) => n.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(s) => s.into(),
        Json::Array(items) => items.into_iter().map(|v| value_of(v, origin)).collect::<Vec<_>>().into(),
        Json::Object(map) => {
            ValueKind::Table(map.into_iter().map(|(k, v)| (k, value_of(v, origin))).collect())
        }
    };
    Value::new(origin, kind)
}
