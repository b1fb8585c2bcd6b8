//! What the agent says about itself, the text that robustness tests ask for, and shortening.

/// Who is speaking, and the vocabulary in brief.
pub(crate) const INTRODUCTION: &str = "I am Foundry's demo agent. There is no model behind me: I follow simple \
instructions, one per line or sentence, and write any other request into the repository so that there \
is a real change to review.\n\n\
What I understand:\n\
- `say TEXT`, `think TEXT`, `plan: STEP; STEP`\n\
- `write FILE: TEXT` (or a fenced block below it), `append FILE: TEXT`, `replace OLD with NEW in FILE`\n\
- `delete FILE`, `rename A to B`, `create N files in DIRECTORY`, `read FILE`\n\
- `run COMMAND`\n\
- `ask permission to ...` or `ask before ...` in front of any of these, `ask for permission`\n\
- `wait N seconds`, `slowly`, `quickly`\n\
- `ask for a form`, `ask for a web page`, `title: TEXT`, `use N tokens`, `switch to mode NAME`, `show settings`\n\
- `stream N chunks`, `print a N KiB line`, `emit hostile text`, `show environment`\n\
- `show attachments`, `show a picture`\n\
- `fail`, `refuse`, `crash`, `hang`\n\n\
For real work choose an agent with a model.";

/// Text that a careless client would execute, render or mismeasure. Each entry is sent as one chunk.
pub(crate) const HOSTILE: &[&str] = &[
    "<script>alert('demo')</script><img src=x onerror=alert(1)>",
    "\u{1b}[2J\u{1b}[1;31mred\u{1b}[0m\u{1b}]0;title\u{7}\u{1b}]8;;https://example.invalid\u{7}link\u{1b}]8;;\u{7}",
    "\u{202e}txt.exe\u{202c} \u{2066}isolated\u{2069} \u{200b}zero\u{200d}width\u{feff}",
    "nul \u{0} bell \u{7} backspace \u{8} carriage\rreturn vertical\u{b}tab",
    "$(id) `id` ; rm -rf / # ' OR '1'='1' -- {{7*7}} ${jndi:ldap://example.invalid/a} %s%n",
    "[click](javascript:alert(1)) ![pixel](https://example.invalid/pixel.png)",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"stopReason\":\"end_turn\"}}\n",
    "data: {}\n\nevent: close\n\n",
    "Z\u{351}\u{36b}\u{343}a\u{30a}\u{313}l\u{33f}\u{351}g\u{350}\u{312}o 👩‍👩‍👧‍👦 \u{fffd} \u{e000} \u{10ffff}",
    "../../etc/passwd C:\\Windows\\system32 \\\\server\\share --upload-pack=id",
];

/// The first line of `text`, cut to about `limit` characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut lines = text.trim().lines();
    let line = lines.next().unwrap_or_default();
    let cut: String = line.chars().take(limit).collect();
    if cut.len() < line.len() || lines.next().is_some() { format!("{}…", cut.trim_end()) } else { cut }
}

/// The text on one line, white space run together.
pub(crate) fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text in groups of about four words; put together they are the text again.
pub(crate) fn word_groups(text: &str) -> Vec<&str> {
    let mut groups = Vec::new();
    let (mut start, mut words, mut in_word) = (0, 0, false);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            in_word = false;
        } else if !in_word {
            in_word = true;
            if words == 4 {
                groups.push(&text[start..at]);
                (start, words) = (at, 0);
            }
            words += 1;
        }
    }
    if start < text.len() {
        groups.push(&text[start..]);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loses_no_character_between_word_groups() {
        for text in ["", " ", "one", "one two three four five  six\n\nseven eight nine ten ", INTRODUCTION] {
            assert_eq!(word_groups(text).concat(), text);
        }
        assert_eq!(word_groups("a b c d e").len(), 2);
    }

    #[test]
    fn shortens_between_characters_never_inside_one() {
        assert_eq!(shorten("äöüß", 2), "äö…");
        assert_eq!(shorten("one\ntwo", 20), "one…");
        assert_eq!(shorten("one", 20), "one");
    }
}
