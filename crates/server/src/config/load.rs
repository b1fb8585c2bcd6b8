//! Merging the layers, and refusing unknown keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Source as _, ValueKind};
use serde::{Serialize, de::DeserializeOwned};

use super::effective::dotted;
use super::tree::{self, Place, Table, Tree};

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
    /// The key of a flag cannot be parsed.
    #[error("`{0}` is not a dotted key, for example `server.listen`")]
    NotAKey(String),
    /// The text for a section or map is not a table. The text is not shown, since it may contain secrets.
    #[error("`{key}` (from {origin}) is not a table, for example {{ NAME = \"value\" }}")]
    NotATable {
        /// The dotted key.
        key: String,
        /// Which layer it came from.
        origin: String,
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
    environment: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
}

/// A merged configuration, and where each of its values came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The merged and validated configuration.
    pub value: T,
    /// Layer of each dotted key that is not a default.
    pub origins: BTreeMap<String, String>,
}

impl Layers {
    /// Prefix of the variables that are read.
    pub const PREFIX: &'static str = "FOUNDRY_";

    /// No layers: only the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a TOML file, which must exist.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// Reads `FOUNDRY_A__B_C` as `a.b_c` from the given variables; the names in `except` have another purpose.
    ///
    /// Below a map the name is taken as written: `FOUNDRY_PROVISIONER__AGENT_KEYS__OPENAI_API_KEY` is the key
    /// `OPENAI_API_KEY` of that map. Values are text as for [`Self::flag`].
    #[must_use]
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        except: &[&str],
    ) -> Self {
        let ours = variables.into_iter().filter(|(name, _)| !except.contains(&name.as_str()));
        self.environment.extend(
            ours.filter_map(|(name, value)| Some((name.strip_prefix(Self::PREFIX)?.to_owned(), value))),
        );
        self
    }

    /// Sets one dotted key, above all other layers. A name with dots is quoted: `provisioner.agents."a.b".command`.
    ///
    /// A section or map is written as a TOML table, `{ NAME = "value" }`; a list as a TOML array, or its items
    /// with commas. A TOML string, `"a b"`, is its text.
    #[must_use]
    pub fn flag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.insert(key.into(), value.into());
        self
    }

    /// Merges the layers over `defaults`. Tables are merged key by key, maps too.
    ///
    /// A table that is empty in `defaults` is a map with user-defined keys; any other has only the keys it has there.
    ///
    /// # Errors
    /// A key that `T` does not have, a value of the wrong shape, or an unreadable file.
    pub fn load<T: Serialize + DeserializeOwned>(self, defaults: &T) -> Result<Loaded<T>, ConfigError> {
        let known = tree::defaults(defaults)?;
        let mut seen = Seen::default();
        let mut builder = Config::builder().add_source(Tree(known.clone()));

        if let Some(path) = self.file {
            let layer = File::from(path.as_path()).format(FileFormat::Toml).required(true).collect()?;
            seen.record(&layer, &known, &path.display().to_string())?;
            builder = builder.add_source(Tree(layer));
        }
        for (name, text) in self.environment {
            let path = tree::variable_path(&name, &known);
            let layer = tree::tree(&path, &text, &known, "the environment")?;
            seen.record(&layer, &known, "the environment")?;
            builder = builder.add_source(Tree(layer));
        }
        for (key, text) in self.flags {
            let layer = tree::tree(&tree::flag_path(&key)?, &tree::unquoted(&text), &known, "a flag")?;
            seen.record(&layer, &known, "a flag")?;
            builder = builder.add_source(Tree(layer));
        }
        let value = builder.build()?.try_deserialize().map_err(|e| seen.hide(&e))?;
        Ok(Loaded { value, origins: seen.origins })
    }
}

/// The keys that the layers have set.
#[derive(Default)]
struct Seen {
    origins: BTreeMap<String, String>,
    /// Texts in maps, which are often secrets: they are kept out of errors.
    hidden: BTreeSet<String>,
}

impl Seen {
    /// Records the origin of every key of a layer, and refuses one that the defaults do not have.
    fn record(&mut self, layer: &Table, known: &Table, origin: &str) -> Result<(), ConfigError> {
        self.walk("", layer, Place::Section(known), origin)
    }

    fn walk(&mut self, prefix: &str, layer: &Table, at: Place<'_>, origin: &str) -> Result<(), ConfigError> {
        for (key, value) in layer {
            let path = dotted(prefix, key);
            let place = at.child(key);
            match (place, &value.kind) {
                (Place::Unknown, _) => {
                    let mut known: Vec<String> = match at {
                        Place::Section(table) => table.keys().cloned().collect(),
                        _ => Vec::new(),
                    };
                    known.sort();
                    return Err(ConfigError::UnknownKey { key: path, origin: origin.to_owned(), known });
                }
                (Place::Section(_) | Place::Map | Place::InMap, ValueKind::Table(table)) => {
                    self.walk(&path, table, place, origin)?;
                }
                (Place::Map | Place::InMap, ValueKind::String(text)) => {
                    self.hidden.insert(text.clone());
                    self.origins.insert(path, origin.to_owned());
                }
                _ => {
                    self.origins.insert(path, origin.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The error for a merged value, without the hidden texts.
    fn hide(&self, error: &config::ConfigError) -> ConfigError {
        let quoted = self.hidden.iter().filter(|text| !text.is_empty()).map(|text| format!("{text:?}"));
        let message = quoted.fold(error.to_string(), |message, text| message.replace(&text, "***"));
        config::ConfigError::Message(message).into()
    }
}
