//! Names that become file names, process marks and URL parts, and are therefore checked once, here.

use std::fmt;
use std::str::FromStr;

use crate::{Class, ProviderError};

fn is_plain(s: &str, max: usize) -> bool {
    let bytes = s.as_bytes();
    !s.is_empty()
        && s.len() <= max
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name, which is safe in file names and URLs.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ProviderError;

            /// Fails unless the text is 1 to 64 of `a-z 0-9 _ -`, the first a letter or digit.
            fn from_str(s: &str) -> Result<Self, ProviderError> {
                if is_plain(s, 64) {
                    Ok(Self(s.to_owned()))
                } else {
                    let message =
                        format!(concat!($what, " {:?} must be 1 to 64 characters: a-z, 0-9, _ or -"), s);
                    Err(ProviderError::new(Class::Configuration, "BAD_NAME", message))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ProviderError;
            fn try_from(s: String) -> Result<Self, ProviderError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name every provider call is idempotent by; a `SandboxId`'s text is one.
    SandboxName, "the sandbox name";
    /// The id of one agent conversation at the runtime (`/v1/acp/{id}`); an `AgentSessionId`'s text is one.
    AcpId, "the agent session name";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_could_leave_their_directory_or_look_like_an_option() {
        for bad in ["", ".", "..", "a/b", "-x", "_x", "A", "a b", "a\0", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<SandboxName>().unwrap_err().reason, "BAD_NAME", "{bad:?}");
        }
        assert_eq!("sbx_0190a0".parse::<AcpId>().unwrap().as_str(), "sbx_0190a0");
    }
}
