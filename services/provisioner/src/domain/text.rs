//! Cutting text to size without cutting a character.

/// The beginning of a text, at most `max` bytes; whether something was cut.
pub fn head(text: &str, max: usize) -> (&str, bool) {
    if text.len() <= max {
        return (text, false);
    }
    let at = (0..=max).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    (&text[..at], true)
}

/// The end of a text, at most `max` bytes; whether something was cut.
pub fn tail(text: &str, max: usize) -> (&str, bool) {
    if text.len() <= max {
        return (text, false);
    }
    let from = text.len() - max;
    let at = (from..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    (&text[at..], true)
}

/// A text in parts of at most `max` bytes (at least 4).
pub fn parts_of(text: &str, max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (part, _) = head(rest, max.max(4));
        parts.push(part);
        rest = &rest[part.len()..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_cuts_a_character_and_loses_nothing() {
        let text = "aä€😀".repeat(50);
        for max in 4..12 {
            let parts = parts_of(&text, max);
            assert!(parts.iter().all(|p| p.len() <= max && !p.is_empty()));
            assert_eq!(parts.concat(), text);
            assert!(text.ends_with(tail(&text, max).0) && tail(&text, max).1);
        }
    }
}
