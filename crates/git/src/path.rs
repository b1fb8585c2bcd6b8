//! Paths inside a repository: bytes without an encoding, shown as text without loss.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use crate::{GitError, GitErrorKind};

/// Longest path accepted.
const MAX_BYTES: usize = 4096;

/// Why a path is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PATH_INVALID: a repository path {0}")]
pub struct PathError(&'static str);

impl From<PathError> for GitError {
    fn from(e: PathError) -> Self {
        GitError::new(GitErrorKind::Invalid, "PATH_INVALID", format!("a repository path {}", e.0))
    }
}

impl From<PathError> for foundry_core::Error {
    fn from(e: PathError) -> Self {
        GitError::from(e).into()
    }
}

/// A path relative to the top of a repository.
///
/// Git paths are bytes. The text form keeps valid UTF-8 as it is, except that a backslash is
/// doubled, and writes every other byte as `\xHH`; so every path has exactly one text and every
/// text stands for one path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// From the text form.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        Self::from_bytes(decode(text)?)
    }

    /// From bytes as git stores them.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > MAX_BYTES {
            return Err(PathError("must be 1 to 4096 bytes"));
        }
        if bytes.contains(&0) {
            return Err(PathError("must not contain NUL"));
        }
        if bytes.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            return Err(PathError("must be relative, without empty, '.' or '..' components"));
        }
        Ok(Self(bytes))
    }

    /// The bytes as git stores them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

fn decode(text: &str) -> Result<Vec<u8>, PathError> {
    const BAD: PathError = PathError("must escape a backslash as \\\\ and a raw byte as \\xHH");
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        match rest {
            [b'\\', tail @ ..] => {
                out.push(b'\\');
                rest = tail;
            }
            [b'x', a, b, tail @ ..] => {
                let pair = [*a, *b];
                let hex = std::str::from_utf8(&pair).map_err(|_| BAD)?;
                out.push(u8::from_str_radix(hex, 16).map_err(|_| BAD)?);
                rest = tail;
            }
            _ => return Err(BAD),
        }
    }
    // Every path has exactly one text: bytes that are valid UTF-8 must not be escaped.
    if encode(&out) == text { Ok(out) } else { Err(BAD) }
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", encode(&self.0))
    }
}

impl From<RepoPath> for String {
    fn from(p: RepoPath) -> String {
        encode(&p.0)
    }
}

impl TryFrom<String> for RepoPath {
    type Error = PathError;
    fn try_from(s: String) -> Result<Self, PathError> {
        Self::parse(&s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_every_path_one_text_and_back() {
        for bytes in [
            &b"src/main.rs"[..],
            b"a\\b",
            b"caf\xc3\xa9",
            b"caf\xe9",
            b"a\nb",
            b"-x",
            b"\xff\\x41",
            b"x\xf0\x9f",
        ] {
            let path = RepoPath::from_bytes(bytes).unwrap();
            assert_eq!(RepoPath::parse(&path.to_string()).unwrap(), path, "{path}");
        }
        assert_eq!(RepoPath::from_bytes(&b"caf\xe9"[..]).unwrap().to_string(), "caf\\xe9");
    }

    #[test]
    fn refuses_escapes_and_a_second_spelling() {
        for text in
            ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b", "\\x41", "\\q", "\\x2e\\x2e/x"]
        {
            assert!(RepoPath::parse(text).is_err(), "{text:?}");
        }
    }
}
