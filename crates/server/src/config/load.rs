//! Merging the layers, and refusing keys that nobody reads.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, Source, Value, ValueKind};
use serde::{Serialize, de::DeserializeOwned};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key that no setting has: most often a misspelt one.
    #[error("unknown key `{key}` (from {origin}); known here: {}", known.join(", "))]
    UnknownKey {
        /// The dotted key.
        key: String,
        /// Which layer it came from.
        origin: String,
        /// The keys that exist at that place.
        known: Vec<String>,
    },
    /// A value of the wrong shape, an unreadable file, broken TOML.
    #[error("{0}")]
    Invalid(#[from] config::ConfigError),
    /// The merged configuration cannot be printed.
    #[error("the configuration cannot be printed: {0}")]
    Unprintable(#[from] toml::ser::Error),
}

/// The layers above the defaults, lowest first: file, environment, flags.
#[derive(Debug, Default)]
pub struct Layers {
    file: Option<PathBuf>,
    environment: HashMap<String, String>,
    flags: BTreeMap<String, String>,
}

/// A merged configuration, and where each of its values came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// Layer of each dotted key that is not a default.
    pub origins: BTreeMap<String, String>,
}

impl Layers {
    /// Prefix of the variables that are read.
    pub const PREFIX: &'static str = "FOUNDRY";

    /// No layers: the defaults alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a TOML file, which must exist.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// Reads `FOUNDRY_A__B_C` as `a.b_c` from the given variables; the names in `except` belong to somebody else.
    #[must_use]
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        except: &[&str],
    ) -> Self {
        let prefix = concat_prefix();
        self.environment.extend(
            variables
                .into_iter()
                .filter(|(name, _)| name.starts_with(&prefix) && !except.contains(&name.as_str())),
        );
        self
    }

    /// Sets one dotted key, above all other layers.
    #[must_use]
    pub fn flag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.insert(key.into(), value.into());
        self
    }

    /// Merges the layers over `defaults`.
    ///
    /// # Errors
    /// A key that `T` does not have, a value of the wrong shape, or an unreadable file.
    pub fn load<T: Serialize + DeserializeOwned>(self, defaults: &T) -> Result<Loaded<T>, ConfigError> {
        let base = Config::try_from(defaults)?;
        let known = base.collect()?;
        let mut origins = BTreeMap::new();
        let mut builder = Config::builder().add_source(base);

        if let Some(path) = self.file {
            let source = File::from(path.as_path()).format(FileFormat::Toml).required(true);
            record(&source.collect()?, &known, &path.display().to_string(), &mut origins)?;
            builder = builder.add_source(source);
        }
        let source = Environment::with_prefix(Self::PREFIX)
            .prefix_separator("_")
            .separator("__")
            .source(Some(self.environment));
        // `collect` keeps dotted keys flat here; a built layer nests them like the other layers.
        let nested = Config::builder().add_source(source.clone()).build()?;
        record(&nested.collect()?, &known, "the environment", &mut origins)?;
        builder = builder.add_source(source);

        for (key, value) in self.flags {
            let layer = Config::builder().set_override(key.as_str(), value.as_str())?.build()?;
            record(&layer.collect()?, &known, "a flag", &mut origins)?;
            builder = builder.set_override(key, value)?;
        }
        Ok(Loaded { value: builder.build()?.try_deserialize()?, origins })
    }
}

fn concat_prefix() -> String {
    format!("{}_", Layers::PREFIX)
}

type Table = config::Map<String, Value>;

/// Notes the origin of every key of a layer, and refuses one that the defaults do not have.
fn record(
    layer: &Table,
    known: &Table,
    origin: &str,
    origins: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    walk("", layer, known, &mut |path, unknown_at| match unknown_at {
        None => {
            origins.insert(path.to_owned(), origin.to_owned());
            Ok(())
        }
        Some(at) => {
            let mut known: Vec<String> = at.keys().cloned().collect();
            known.sort();
            Err(ConfigError::UnknownKey { key: path.to_owned(), origin: origin.to_owned(), known })
        }
    })
}

/// Calls `leaf(path, None)` for each known leaf and `leaf(path, Some(table))` for a key that `table` lacks.
fn walk(
    prefix: &str,
    layer: &Table,
    known: &Table,
    leaf: &mut impl FnMut(&str, Option<&Table>) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    for (key, value) in layer {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (known.get(key).map(|v| &v.kind), &value.kind) {
            (None, _) => leaf(&path, Some(known))?,
            // An empty table is a map by name; what it may hold, its type knows.
            (Some(ValueKind::Table(inner)), ValueKind::Table(table)) if !inner.is_empty() => {
                walk(&path, table, inner, leaf)?;
            }
            _ => leaf(&path, None)?,
        }
    }
    Ok(())
}
