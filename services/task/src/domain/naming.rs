//! Title and branch: derived from the prompt where they are not given, and the rules for names.

use foundry_core::{Error, Result};

/// Longest title in characters.
pub const MAX_TITLE: usize = 120;
/// Longest name of a session in characters.
pub const MAX_SESSION_NAME: usize = 80;
/// Longest derived title in characters.
const DERIVED_TITLE: usize = 80;
/// Longest derived slug in bytes.
const MAX_SLUG: usize = 40;
/// Longest branch name in bytes.
const MAX_BRANCH: usize = 200;

/// Words that indicate the kind of a change; the first kind with a word in the prompt's first sentence wins.
const PREFIXES: [(&str, &[&str]); 5] = [
    ("fix", &["fix", "fixes", "bug", "bugs", "crash", "crashes", "broken", "repair", "regression"]),
    ("docs", &["docs", "doc", "documentation", "document", "readme", "changelog", "typo"]),
    ("test", &["test", "tests", "testing", "coverage"]),
    ("refactor", &["refactor", "refactoring", "rename", "simplify", "clean", "cleanup", "restructure"]),
    ("chore", &["bump", "upgrade", "update", "dependency", "dependencies", "ci", "chore", "lint"]),
];

/// Words that add nothing to a branch name.
const FILLERS: [&str; 16] = [
    "a", "an", "the", "please", "to", "of", "in", "on", "and", "that", "for", "with", "it", "is", "we", "you",
];

/// The title for a prompt: its first sentence, at most 80 characters.
pub fn title(prompt: &str) -> String {
    let sentence = first_sentence(prompt);
    let mut title: String = sentence.chars().take(DERIVED_TITLE).collect();
    if sentence.chars().count() > DERIVED_TITLE {
        // Cut at a word boundary.
        if let Some(at) = title.rfind(' ').filter(|at| *at > DERIVED_TITLE / 2) {
            title.truncate(at);
        }
        title.push('…');
    }
    if title.is_empty() { "Untitled task".to_owned() } else { title }
}

/// The branch for a prompt: a conventional prefix and a slug of its first words.
pub fn branch(prompt: &str) -> String {
    let sentence = first_sentence(prompt);
    let english = words(&sentence);
    let prefix = PREFIXES
        .iter()
        .find(|(_, marks)| english.iter().any(|w| marks.contains(&w.as_str())))
        .map_or("feat", |(prefix, _)| prefix);
    let mut slug = String::new();
    for word in &readable_words(&sentence, |w| !FILLERS.contains(&w) && w != prefix) {
        let room = MAX_SLUG.saturating_sub(slug.len() + usize::from(!slug.is_empty()));
        if word.len() > room {
            if slug.is_empty() {
                slug.push_str(&word[..room]);
            }
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(word);
    }
    if slug.is_empty() {
        slug.push_str("task");
        if !sentence.is_ascii() {
            // Nothing in it can be read aloud; two such prompts still get different names.
            slug.push_str(&format!("-{:04x}", digest(&sentence)));
        }
    }
    format!("{prefix}/{slug}")
}

/// A derived branch without its prefix as a directory, for a remote that has a branch of the prefix's name.
pub fn without_directory(branch: &str) -> String {
    branch.replace('/', "-")
}

/// 16 bits of a text's FNV-1a digest.
fn digest(text: &str) -> u32 {
    let digest = text.bytes().fold(0x811c_9dc5_u32, |d, b| (d ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (digest >> 16) ^ (digest & 0xffff)
}

fn first_sentence(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let end = line.find(". ").or_else(|| line.find("! ")).or_else(|| line.find("? ")).unwrap_or(line.len());
    line[..end].trim().trim_end_matches('.').to_owned()
}

/// Lowercase ASCII words; everything else separates them.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// The words of a text in any script as lowercase ASCII. English words count only if `wanted`.
fn readable_words(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut readable = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        if word.is_ascii() {
            readable.extend(Some(word.to_ascii_lowercase()).filter(|w| wanted(w)));
        } else {
            readable.extend(words(&transliterated(word)));
        }
    }
    readable
}

/// A word in Latin letters; each character that stands for a syllable becomes a word of its own.
fn transliterated(word: &str) -> String {
    let mut text = String::new();
    for c in word.chars() {
        let latin = deunicode::deunicode_char(c).unwrap_or_default();
        if latin.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(latin);
    }
    text
}

/// Checks a title or name that a user entered.
///
/// # Errors
/// `INVALID_ARGUMENT` when it is too long, or holds control characters.
pub fn check_name(field: &str, name: &str, most: usize) -> Result<String> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Error::invalid_field(field, "must not be empty"));
    }
    if name.chars().count() > most {
        return Err(Error::invalid_field(field, format!("must be at most {most} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid_field(field, "must not contain control characters"));
    }
    Ok(name.to_owned())
}

/// Checks a branch name by the rules of `git check-ref-format --branch`.
///
/// # Errors
/// `INVALID_ARGUMENT` with the rule that it breaks.
pub fn check_branch(field: &str, name: &str) -> Result<()> {
    broken_rule(name).map_or(Ok(()), |rule| Err(Error::invalid_field(field, rule)))
}

fn broken_rule(name: &str) -> Option<&'static str> {
    let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    if name.is_empty() {
        Some("must not be empty")
    } else if name.len() > MAX_BRANCH {
        Some("must be at most 200 bytes")
    } else if name.starts_with('-') {
        Some("must not begin with a dash")
    } else if name.starts_with("refs/") {
        Some("must be the name of a branch alone, without refs/heads/")
    } else if name == "@" || name == "HEAD" {
        Some("must not be a reserved name")
    } else if name.contains(forbidden) {
        Some("must not contain spaces, control characters or any of ~ ^ : ? * [ \\")
    } else if name.contains("..") || name.contains("@{") {
        Some("must not contain `..` or `@{`")
    } else if name.ends_with('.') {
        Some("must not end with a dot")
    } else if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"))
    {
        Some("must not have a component that is empty, starts with a dot or ends with .lock")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_branch_by_the_kind_of_change_and_its_first_words() {
        for (prompt, expected) in [
            ("Fix the crash in the parser. It happens daily.", "fix/crash-parser"),
            ("Add a greeting to the README", "docs/add-greeting-readme"),
            ("Make it faster", "feat/make-faster"),
            ("test the login flow", "test/login-flow"),
            ("日本語だけ", "feat/ri-ben-yu-dake"),
            ("Исправь вход на сайт", "feat/isprav-vkhod-na-sait"),
            ("修复登录页面的错误", "feat/xiu-fu-deng-lu-ye-mian-de-cuo-wu"),
            ("README修复", "docs/readme-xiu-fu"),
            ("Améliore le café", "feat/ameliore-le-cafe"),
            // A syllable is not one of the English words that mean something here.
            ("这次", "feat/zhe-ci"),
            ("Don’t fix the 🐛 twice", "fix/don-t-twice"),
            ("$(rm -rf /); `x`", "feat/rm-rf-x"),
        ] {
            assert_eq!(branch(prompt), expected, "{prompt}");
            assert_eq!(broken_rule(&branch(prompt)), None, "{prompt}");
        }
    }

    #[test]
    fn tells_prompts_without_a_readable_word_apart() {
        let names = ["🎉🎉", "🎉🚀"].map(branch);
        assert!(names.iter().all(|n| n.starts_with("feat/task-") && n.len() == 14), "{names:?}");
        assert_ne!(names[0], names[1]);
        assert_eq!(branch("!!!"), "feat/task");
    }

    #[test]
    fn keeps_a_derived_slug_within_forty_bytes() {
        for prompt in ["word ".repeat(100), "w".repeat(300), "登".repeat(300), "щ".repeat(300)] {
            let branch = branch(&prompt);
            assert!(branch.len() <= "refactor/".len() + MAX_SLUG, "{branch}");
        }
    }

    #[test]
    fn takes_the_first_sentence_as_the_title() {
        assert_eq!(title("\n  Fix it. Then rest."), "Fix it");
        let long = title(&"word ".repeat(60));
        assert!(long.chars().count() <= DERIVED_TITLE + 1 && long.ends_with('…'), "{long}");
        assert_eq!(title("\u{7}"), "Untitled task");
    }

    #[test]
    fn refuses_branch_names_that_git_refuses_or_reads_as_options() {
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a/b.lock/c",
            "a.",
            "@",
            "a@{b",
            "HEAD",
            "refs/heads/a",
            "a\u{7}",
        ] {
            assert!(check_branch("branch", bad).is_err(), "{bad:?}");
        }
        for good in ["main", "feat/x", "$(id)", "a;b", "it's", "a-b_c.d", "ünï"] {
            assert!(check_branch("branch", good).is_ok(), "{good:?}");
        }
    }
}
