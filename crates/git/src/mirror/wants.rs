//! What a client asks of `upload-pack`, read before git sees it: which protocol command, and which objects it wants.
//!
//! In protocol 2 `upload-pack` sends every object that it can read, whether it was advertised or not, so the wants are
//! checked here, in every protocol by the same rule.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::serve::FetchProtocol;
use crate::{GitError, GitErrorKind, ObjectId, Result};

/// Begins a line that names a commit without parents at the client.
const SHALLOW: &[u8] = b"shallow ";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The list of refs, in protocol 2.
    Refs,
    /// Objects: those with these ids and all that they reach.
    Objects(Wanted),
}

/// What a request for objects names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The objects that it wants.
    pub(super) wants: BTreeSet<ObjectId>,
    /// Where the history of the client begins, if it asks for more of that: asked for all, `upload-pack` sends the
    /// parents of these, wherever they are.
    pub(super) deepened: BTreeSet<ObjectId>,
}

/// Reads the body of a request.
///
/// # Errors
/// `FETCH_MALFORMED` for anything that git's own clients do not send.
pub(super) fn read(body: &[u8], protocol: FetchProtocol) -> Result<Asked> {
    let (mut wants, mut shallow, mut deepens) = (BTreeSet::new(), BTreeSet::new(), false);
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
        } else if let Some(rest) = line.strip_prefix(SHALLOW) {
            shallow.insert(wanted(rest, FetchProtocol::V2)?);
        }
        deepens |= line.starts_with(b"deepen");
    }
    match (protocol, command) {
        (FetchProtocol::V2, Some(b"ls-refs")) if wants.is_empty() => Ok(Asked::Refs),
        (FetchProtocol::V2, Some(b"fetch")) | (FetchProtocol::V0 | FetchProtocol::V1, None) => {
            let deepened = if deepens { shallow } else { BTreeSet::new() };
            Ok(Asked::Objects(Wanted { wants, deepened }))
        }
        (FetchProtocol::V2, _) => Err(malformed("its command is neither ls-refs nor fetch")),
        _ => Err(malformed("it has a command of another protocol")),
    }
}

/// The request as if the client did not have these at the beginning of its history.
pub(super) fn without(body: &Bytes, begins: &BTreeSet<ObjectId>) -> Bytes {
    if begins.is_empty() {
        return body.clone();
    }
    let mut kept = Vec::with_capacity(body.len());
    let mut lines = Lines(body);
    let mut rest = &body[..];
    // It was read before, so that there is no error.
    while let Some(Ok(line)) = lines.next() {
        let (whole, after) = rest.split_at(rest.len() - lines.0.len());
        rest = after;
        let id = line.and_then(|line| line.strip_suffix(b"\n").unwrap_or(line).strip_prefix(SHALLOW));
        let id = id.and_then(|id| wanted(id, FetchProtocol::V2).ok());
        if id.is_none_or(|id| !begins.contains(&id)) {
            kept.extend_from_slice(whole);
        }
    }
    kept.into()
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
        let wants = ids.iter().map(|id| ObjectId::parse(id).unwrap()).collect();
        Asked::Objects(Wanted { wants, ..Wanted::default() })
    }

    #[test]
    fn where_a_deepened_history_begins_is_read_and_can_be_left_out() {
        let (want, one, two) = (format!("want {ONE}"), format!("shallow {ONE}\n"), format!("shallow {TWO}"));
        let fetch = |lines: &[&str]| {
            let begin = ["command=fetch", "0001", want.as_str()];
            Bytes::from(request(&[&begin, lines, &["done\n", "0000"]].concat()))
        };
        let deepened = |body: &Bytes| match read(body, FetchProtocol::V2).unwrap() {
            Asked::Objects(wanted) => wanted.deepened.len(),
            Asked::Refs => 0,
        };
        assert_eq!(deepened(&fetch(&[&one, &two])), 0, "it fetches no more of its history");
        let body = fetch(&[&one, "deepen 2147483647\n", &two]);
        assert_eq!(deepened(&body), 2);
        let id = BTreeSet::from([ObjectId::parse(TWO).unwrap()]);
        assert_eq!(without(&body, &id), fetch(&[&one, "deepen 2147483647\n"]));
        assert_eq!(without(&body, &BTreeSet::new()), body);
        assert!(read(&fetch(&["shallow x", "deepen 1"]), FetchProtocol::V2).is_err());
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
