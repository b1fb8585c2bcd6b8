//! Names that model providers and profiles share.

use foundry_core::Error;

/// Longest name of a model provider or profile.
const MAX_NAME: usize = 64;
/// Longest name of a model, mode or effort.
const MAX_MODEL: usize = 200;
/// What ids begin with: a name must not look like one.
const ID_PREFIXES: [&str; 2] = ["mpr_", "prf_"];

/// Checks the name of a model provider or profile.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || "-._".contains(c));
    if !fits {
        let text = "must be 1 to 64 lowercase letters, digits, dashes, dots or underscores, and begin with a letter or digit";
        return Err(Error::invalid_field(field, text));
    }
    if ID_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(Error::invalid_field(field, "must not look like an id"));
    }
    Ok(())
}

/// Checks the name of a model, which is written as its provider writes it.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub fn check_model(field: &str, name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::invalid_field(field, "contains an empty model name"));
    }
    check_choice(field, name)
}

/// Checks a model, mode or effort, which may be empty.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub fn check_choice(field: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_MODEL || text.starts_with('-') || !text.chars().all(|c| c.is_ascii_graphic()) {
        let text = "must be at most 200 visible ASCII characters without spaces, and not begin with a dash";
        return Err(Error::invalid_field(field, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_no_ids() {
        for good in ["a", "claude-4.5", "my_gateway", "0"] {
            check_name("name", good).unwrap();
        }
        for bad in ["", "-x", "A", "a b", "a/b", "ä", "prf_x", "mpr_1", &"a".repeat(65)] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
        check_model("model", "anthropic/claude-opus-4.5:beta[high]").unwrap();
        for bad in ["", "-m", "a b", "a\n"] {
            assert!(check_model("model", bad).is_err(), "{bad}");
        }
    }
}
