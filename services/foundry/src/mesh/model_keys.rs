//! `foundry up --keys-from-env`: model keys from the command's environment. Output shows only the names of variables.

use foundry_core::Env;
use foundry_provisioner::{EnvironmentKeys, MODEL_VARIABLES};

use crate::failure::Failure;

/// The model providers from the environment, and the message about them.
#[derive(Default)]
pub struct ModelKeys {
    /// The keys that were read; empty unless they were asked for.
    pub keys: EnvironmentKeys,
    /// A line for standard output; none if there is nothing to report.
    pub line: Option<String>,
}

impl ModelKeys {
    /// Reads the variables if `wanted`; otherwise only reports those that are ignored.
    ///
    /// # Errors
    /// When a value is unusable; the error does not contain it.
    pub fn read(wanted: bool, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let names = |names: &[&str]| names.join(", ");
        if !wanted {
            let is_set = |name: &&str| variable(name).is_some_and(|v| !v.trim().is_empty());
            let set: Vec<_> = MODEL_VARIABLES.into_iter().filter(is_set).collect();
            let line = (!set.is_empty()).then(|| {
                format!("model keys   ignored: {}; use `foundry up --keys-from-env` to use them", names(&set))
            });
            return Ok(Self { keys: EnvironmentKeys::default(), line });
        }
        let keys = EnvironmentKeys::read(&variable, &Env::system()).map_err(|e| Failure::from(e).exit(2))?;
        let taken: Vec<_> = keys.taken().collect();
        let line = match taken[..] {
            [] => format!("model keys   none set (looked for {})", names(&MODEL_VARIABLES)),
            _ => format!("model keys   from the environment, for all organizations: {}", names(&taken)),
        };
        Ok(Self { line: Some(line), keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_by_name_what_it_took_and_what_it_left() {
        let set = |name: &str| (name == "ANTHROPIC_API_KEY").then(|| "sk-canary-0123456789".to_owned());
        let taken = ModelKeys::read(true, set).unwrap();
        assert_eq!(taken.keys.taken().collect::<Vec<_>>(), ["ANTHROPIC_API_KEY"]);
        let left = ModelKeys::read(false, set).unwrap();
        assert_eq!(left.keys.taken().count(), 0);
        for line in [taken.line.unwrap(), left.line.unwrap()] {
            assert!(line.contains("ANTHROPIC_API_KEY") && !line.contains("canary"), "{line}");
        }
        assert!(ModelKeys::read(false, |_| None).unwrap().line.is_none());
        let nothing = ModelKeys::read(true, |_| None).unwrap().line.unwrap();
        assert!(nothing.contains("looked for ANTHROPIC_API_KEY"), "{nothing}");
        let unusable = ModelKeys::read(true, |_| Some("not a url, canary".to_owned())).err().unwrap();
        assert!(unusable.code == 2 && !unusable.message.contains("canary"), "{}", unusable.message);
    }
}
