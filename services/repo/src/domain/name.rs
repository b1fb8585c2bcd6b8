//! Names of repositories.

use foundry_core::{Error, Result};

/// Most characters of a name.
const MAX_CHARS: usize = 100;

/// A valid name of a repository; unique in its organization without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Takes the given name, or the last part of the URL when none is given.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when it is empty, too long, begins with `-` or `.`, or holds other characters than letters,
    /// digits, `-`, `_` and `.`.
    pub fn choose(given: &str, from_url: &str) -> Result<Self> {
        let name = if given.is_empty() { from_url } else { given };
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty()
            || name.chars().count() > MAX_CHARS
            || !name.chars().all(fits)
            || name.starts_with(['-', '.'])
        {
            return Err(Error::invalid_field(
                "name",
                "must be 1 to 100 letters, digits, `-`, `_` or `.`, and start with a letter, a digit or `_`",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The lowercase form, by which names are compared.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_url_s_last_part_when_none_is_given() {
        assert_eq!(RepositoryName::choose("", "demo").unwrap().as_str(), "demo");
        assert_eq!(RepositoryName::choose("Mine", "demo").unwrap().key(), "mine");
    }

    #[test]
    fn refuses_names_that_look_like_options_or_paths() {
        for bad in ["-x", "..", "a/b", "a b", "a\nb", ""] {
            assert!(RepositoryName::choose(bad, "").is_err(), "{bad}");
        }
    }
}
