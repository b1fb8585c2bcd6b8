//! Parsing words: phrases, quoted names, numbers and sentences. All comparisons ignore case.

/// The text after `phrase`, when `text` begins with exactly these words.
pub(super) fn after<'t>(text: &'t str, phrase: &str) -> Option<&'t str> {
    let mut rest = text;
    for word in phrase.split(' ') {
        rest = rest.trim_start();
        let head = rest.get(..word.len())?;
        if !head.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = &rest[word.len()..];
        let ends = rest.chars().next().is_none_or(|c| c.is_whitespace() || ":.,;!`\"“".contains(c));
        if !ends {
            return None;
        }
    }
    Some(rest)
}

/// The text after the first of these phrases that fits.
pub(super) fn after_any<'t>(text: &'t str, phrases: &[&str]) -> Option<&'t str> {
    phrases.iter().find_map(|phrase| after(text, phrase))
}

/// The text without these words at its start, where they are present.
pub(super) fn skip<'t>(text: &'t str, phrases: &[&str]) -> &'t str {
    after_any(text, phrases).unwrap_or(text).trim_start()
}

/// The text without words such as "please" or "then" at the start of a request.
pub(super) fn without_courtesy(text: &str) -> &str {
    const WORDS: &[&str] = &[
        "please",
        "then",
        "and",
        "first",
        "finally",
        "next",
        "now",
        "also",
        "afterwards",
        "after that",
        "can you",
        "could you",
        "would you",
    ];
    let mut rest = text.trim_start();
    loop {
        let shorter = after_any(rest, WORDS).map(|r| r.trim_start_matches([',', ':', ' ', '\t']));
        match shorter {
            Some(shorter) if !shorter.is_empty() => rest = shorter,
            _ => return rest,
        }
    }
}

/// A line without its list marker (`- `, `* `, `3. `, `3) `).
pub(super) fn without_bullet(line: &str) -> &str {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")) {
        return rest.trim_start();
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let numbered = line[digits..].strip_prefix(". ").or_else(|| line[digits..].strip_prefix(") "));
    numbered.filter(|_| digits > 0).unwrap_or(line).trim_start()
}

/// The first sentence without its full stop, and what comes after it. A full stop inside
/// quotes or inside a word (`a.txt`) does not end it.
pub(super) fn sentence(text: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if ".;!?".contains(c) => {
                let rest = &text[at + c.len_utf8()..];
                if rest.is_empty() || rest.starts_with(char::is_whitespace) {
                    return (&text[..at], rest.trim_start());
                }
            }
            None if c == ',' && after(&text[at + 1..], "then").is_some() => {
                return (&text[..at], text[at + 1..].trim_start());
            }
            None => {}
        }
    }
    (text, "")
}

/// A name: quoted by `"`, `'` or a backtick, or everything up to the next white space.
pub(super) fn name(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let first = text.chars().next()?;
    if let '"' | '`' | '\'' = first {
        let (inside, rest) = text[1..].split_once(first)?;
        return (!inside.is_empty()).then_some((inside, rest));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    Some((&text[..end], &text[end..]))
}

/// The one name that makes up the whole text.
pub(super) fn only_name(text: &str) -> Option<String> {
    let (name, rest) = name(text)?;
    rest.trim().is_empty().then(|| name.to_owned())
}

/// The text without one pair of quotes around all of it.
pub(super) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    for (open, close) in [("\"", "\""), ("`", "`"), ("'", "'"), ("“", "”")] {
        let inside = text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        if let Some(inside) = inside.filter(|i| !i.is_empty() && !i.contains(close)) {
            return inside;
        }
    }
    text
}

/// A number in digits or, up to ten, in words, and what comes after it.
pub(super) fn number(text: &str) -> Option<(f64, &str)> {
    const WORDS: &[(&str, f64)] = &[
        ("a", 1.0),
        ("an", 1.0),
        ("one", 1.0),
        ("two", 2.0),
        ("three", 3.0),
        ("four", 4.0),
        ("five", 5.0),
        ("six", 6.0),
        ("seven", 7.0),
        ("eight", 8.0),
        ("nine", 9.0),
        ("ten", 10.0),
    ];
    let text = text.trim_start();
    if let Some((rest, value)) = WORDS.iter().find_map(|(w, v)| after(text, w).map(|rest| (rest, *v))) {
        return Some((value, rest));
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let value: f64 = text[..end].replace('_', "").parse().ok()?;
    Some((value, &text[end..]))
}

/// A whole number, and what comes after it.
pub(super) fn count(text: &str) -> Option<(usize, &str)> {
    let (value, rest) = number(text)?;
    // The comparison bounds the value well inside what both types hold exactly.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (value.fract() == 0.0 && (1.0..=1e9).contains(&value)).then_some((value as usize, rest))
}
