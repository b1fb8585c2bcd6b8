//! Names that people choose.

use foundry_core::{Error, Result};

const MAX_NAME: usize = 39;
const MAX_TOKEN_NAME: usize = 64;

/// A login or an organization's name: 1 to 39 of a-z, 0-9 and `-`, no `-` at either end.
pub(crate) fn parse_name(field: &str, name: &str) -> Result<String> {
    let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(legal) {
        return Err(Error::invalid_field(field, "must be 1 to 39 characters: a-z, 0-9 or `-`"));
    }
    // In a command, a leading `-` would be taken for an option.
    if name.starts_with('-') || name.ends_with('-') {
        return Err(Error::invalid_field(field, "must not begin or end with `-`"));
    }
    Ok(name.to_owned())
}

/// The name of a token: 1 to 64 characters that can be shown on one line.
pub(crate) fn parse_token_name(name: &str) -> Result<String> {
    parse_label("name", name, MAX_TOKEN_NAME)
}

/// A name of 1 to `most` characters that can be shown on one line.
pub(crate) fn parse_label(field: &str, text: &str, most: usize) -> Result<String> {
    let text = text.trim();
    let characters = text.chars().count();
    if characters == 0 || characters > most || text.chars().any(|c| c.is_control() || is_deceptive(c)) {
        let wanted = format!("must be 1 to {most} characters without control characters");
        return Err(Error::invalid_field(field, wanted));
    }
    Ok(text.to_owned())
}

/// Characters that reorder or hide the text around them.
pub(super) fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_names_only() {
        for good in ["a", "alice-2", "0", &"x".repeat(39)] {
            assert_eq!(parse_name("login", good).unwrap(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "Alice",
            "a b",
            "a/b",
            "../a",
            "a\0",
            "a;rm",
            "\u{430}lice",
            "a'--",
            "$(id)",
            &"x".repeat(40),
        ] {
            assert_eq!(parse_name("login", bad).unwrap_err().violations()[0].field, "login", "{bad:?}");
        }
    }

    #[test]
    fn a_token_may_have_any_name_that_shows_as_itself() {
        assert_eq!(parse_token_name("  CI (läuft) ").unwrap(), "CI (läuft)");
        for bad in ["", "   ", "a\nb", "a\u{202e}b", "a\u{1b}[31m", &"x".repeat(65)] {
            assert!(parse_token_name(bad).is_err(), "{bad:?}");
        }
    }
}
