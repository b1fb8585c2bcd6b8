//! The repository's sources as text, and as much of Rust as is needed to search them.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust lexer, complete enough to separate code from comments and string literals.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

impl Token {
    pub fn is(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }

    pub fn word(&self) -> &str {
        if let Self::Word(word) = self { word } else { "" }
    }

    /// The change of bracket depth.
    pub fn step(&self) -> i32 {
        match self {
            Self::Mark('(' | '[' | '{') => 1,
            Self::Mark(')' | ']' | '}') => -1,
            _ => 0,
        }
    }
}

/// The tokens of a source; comments are left out.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut found, mut i) = (Vec::new(), 0);
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            i += chars[i..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && at(i + 1) == '*' {
            i += 2;
            while i < chars.len() && !(at(i) == '*' && at(i + 1) == '/') {
                i += 1;
            }
            i += 2;
        } else if c == '"' {
            let mut text = String::new();
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += usize::from(at(i) == '\\');
                text.push(at(i));
                i += 1;
            }
            found.push(Token::Text(text));
            i += 1;
        } else if c == '\'' {
            // A lifetime is skipped by its quote; a character literal is skipped whole, since it may be a quotation
            // mark.
            i += match (at(i + 1), at(i + 2)) {
                ('\\', _) => 3 + chars[i + 3..].iter().take_while(|c| **c != '\'').count() + 1,
                (_, '\'') => 3,
                _ => 1,
            };
        } else if c.is_alphanumeric() || c == '_' {
            let word: String = chars[i..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
            i += word.chars().count();
            let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
            if matches!(word.as_str(), "r" | "br") && at(i + hashes) == '"' {
                let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let rest: String = chars[i + hashes + 1..].iter().collect();
                let text = rest.split(&end).next().unwrap_or_default();
                i += hashes + 1 + text.chars().count() + end.len();
                found.push(Token::Text(text.to_owned()));
            } else {
                found.push(Token::Word(word));
            }
        } else {
            if !c.is_whitespace() {
                found.push(Token::Mark(c));
            }
            i += 1;
        }
    }
    found
}

/// The tokens without the items under `#[cfg(test)]`.
pub fn without_tests(all: Vec<Token>) -> Vec<Token> {
    let attribute = tokens("#[cfg(test)]");
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < all.len() {
        if !all[i..].starts_with(&attribute) {
            kept.push(all[i].clone());
            i += 1;
            continue;
        }
        i += attribute.len();
        let mut depth = 0;
        while let Some(token) = all.get(i) {
            depth += token.step();
            i += 1;
            if depth == 0 && (token.is(';') || token.is('}')) {
                break;
            }
        }
    }
    kept
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The sources below a directory, without those that only tests compile and those that are generated.
pub fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let of_tests = name.ends_with("tests") || name.ends_with("tests.rs");
        if of_tests || matches!(name, "test" | "testing" | "testing.rs" | "gen") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") || (is_page_source(name) && !name.contains(".test.")) {
            found.push(path);
        }
    }
}

/// Whether a file of this name is a source of the workbench page.
pub fn is_page_source(name: &str) -> bool {
    name.ends_with(".ts") || name.ends_with(".tsx")
}
