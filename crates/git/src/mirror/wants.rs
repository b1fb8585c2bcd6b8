//! What a client asks of `upload-pack`, read before git sees it: which protocol command, and which objects it wants.
//!
//! In protocol 2 `upload-pack` sends every object that it can read, whether it was advertised or not, so the wants are
//! checked here, in every protocol by the same rule.

use std::collections::BTreeSet;

use super::serve::FetchProtocol;
use crate::{GitError, GitErrorKind, ObjectId, Result};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The list of refs, in protocol 2.
    Refs,
    /// Objects: those with these ids and all that they reach.
    Objects(BTreeSet<ObjectId>),
}

/// Reads the body of a request.
///
/// # Errors
/// `FETCH_MALFORMED` for anything that git's own clients do not send.
pub(super) fn read(body: &[u8], protocol: FetchProtocol) -> Result<Asked> {
    let mut wants = BTreeSet::new();
    let mut command: Option<&[u8]> = None;
    for line in Lines(body) {
        let Some(line) = line? else { continue };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(name) = line.strip_prefix(b"command=")
            && command.replace(name).is_some()
        {
            return Err(malformed("it has two commands"));
        }
        if let Some(rest) = line.strip_prefix(b"want ") {
            wants.insert(wanted(rest, protocol)?);
        } else if line.starts_with(b"want") {
            return Err(malformed("it wants something other than an object"));
        }
    }
    match (protocol, command) {
        (FetchProtocol::V2, Some(b"ls-refs")) if wants.is_empty() => Ok(Asked::Refs),
        (FetchProtocol::V2, Some(b"fetch")) | (FetchProtocol::V0 | FetchProtocol::V1, None) => {
            Ok(Asked::Objects(wants))
        }
        (FetchProtocol::V2, _) => Err(malformed("its command is neither ls-refs nor fetch")),
        _ => Err(malformed("it has a command of another protocol")),
    }
}

/// An object id; before protocol 2, capabilities may follow it.
fn wanted(rest: &[u8], protocol: FetchProtocol) -> Result<ObjectId> {
    let end = rest.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(rest.len());
    let (id, after) = rest.split_at(end);
    let ends_well = after.is_empty() || (protocol != FetchProtocol::V2 && after.starts_with(b" "));
    let id = std::str::from_utf8(id).ok().filter(|_| ends_well).and_then(|id| ObjectId::parse(id).ok());
    id.ok_or_else(|| malformed("it wants something that is no object id"))
}

/// The lines of a request; a delimiter or the end of a section is `None`.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Option<&'a [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.line().ok_or_else(|| {
            self.0 = &[];
            malformed("a line has no valid length")
        }))
    }
}

impl<'a> Lines<'a> {
    fn line(&mut self) -> Option<Option<&'a [u8]>> {
        let (head, rest) = self.0.split_at_checked(4)?;
        if !head.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let length = usize::from_str_radix(std::str::from_utf8(head).ok()?, 16).ok()?;
        match length {
            // The ends of the request, of a section and of a response.
            0..=2 => {
                self.0 = rest;
                Some(None)
            }
            3 => None,
            _ => {
                let (line, rest) = rest.split_at_checked(length - 4)?;
                self.0 = rest;
                Some(Some(line))
            }
        }
    }
}

fn malformed(why: &str) -> GitError {
    GitError::new(GitErrorKind::Invalid, "FETCH_MALFORMED", format!("the fetch request is malformed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    fn request(lines: &[&str]) -> Vec<u8> {
        let line = |text: &&str| match *text {
            "0000" | "0001" => (*text).to_owned(),
            text => format!("{:04x}{text}", text.len() + 4),
        };
        lines.iter().map(line).collect::<String>().into_bytes()
    }

    fn ids(ids: &[&str]) -> Asked {
        Asked::Objects(ids.iter().map(|id| ObjectId::parse(id).unwrap()).collect())
    }

    #[test]
    fn reads_the_wants_of_each_protocol() {
        let (one, two) = (format!("want {ONE}\n"), format!("want {TWO}"));
        let v2 =
            request(&["command=fetch", "agent=git/2", "0001", "ofs-delta", &one, &two, "done\n", "0000"]);
        assert_eq!(read(&v2, FetchProtocol::V2).unwrap(), ids(&[ONE, TWO]));
        let first = format!("want {ONE} side-band-64k ofs-delta\n");
        let v0 = request(&[&first, &two, "deepen 1", "0000", "done\n"]);
        assert_eq!(read(&v0, FetchProtocol::V0).unwrap(), ids(&[ONE, TWO]));
        let refs = request(&["command=ls-refs\n", "0001", "peel\n", "ref-prefix refs/heads/\n", "0000"]);
        assert_eq!(read(&refs, FetchProtocol::V2).unwrap(), Asked::Refs);
    }

    #[test]
    fn a_want_hides_behind_nothing() {
        let (one, two) = (format!("want {ONE}\n"), format!("want {TWO}\n"));
        // After the end of the request, where git stops to read, and beside the list of refs.
        let late = request(&["command=fetch", "0001", &one, "0000", &two]);
        assert_eq!(read(&late, FetchProtocol::V2).unwrap(), ids(&[ONE, TWO]));
        let beside = request(&["command=ls-refs", "0001", &one, "0000"]);
        assert_eq!(read(&beside, FetchProtocol::V2).unwrap_err().reason(), "FETCH_MALFORMED");
    }

    #[test]
    fn refuses_what_no_client_of_git_sends() {
        let v2 = |lines: &[&str]| read(&request(lines), FetchProtocol::V2).unwrap_err().reason();
        for lines in [
            &["command=object-info", "0001", "size", "0000"][..],
            &["command=fetch", "command=ls-refs", "0000"],
            &["agent=x", "0000"],
            &["command=fetch", "0001", "want-ref refs/heads/main", "0000"],
            &["command=fetch", "0001", "want refs/heads/main", "0000"],
            &["command=fetch", "0001", "want ", "0000"],
            &["command=fetch", "0001", "want 1111111111111111111111111111111111111111x", "0000"],
        ] {
            assert_eq!(v2(lines), "FETCH_MALFORMED", "{lines:?}");
        }
        for bytes in [&b"00"[..], b"zzzz", b"0003", b"+010command=fetch", b"00ffcommand=fetch"] {
            assert!(read(bytes, FetchProtocol::V2).is_err(), "{bytes:?}");
        }
        assert!(read(&request(&["command=fetch", "0000"]), FetchProtocol::V0).is_err());
    }
}
