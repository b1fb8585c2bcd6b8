//! Files of messages and of agents: what they may be called, what they are, how large they may be.

use foundry_core::{AttachmentId, Error, OrganizationId, Timestamp};
use foundry_proto::common::v1 as common;

use super::text::head;

/// Largest file in bytes: with its frame it fits the largest request that the servers take.
pub const MAX_FILE: usize = 3 << 20;
/// Most files of one message.
pub const MAX_PER_MESSAGE: usize = 10;
/// What the files of one session's agent may take in bytes.
pub const MAX_OF_AGENT: u64 = 64 << 20;
/// Most files of one session's agent: each takes a row and a file of the store, however small it is.
pub const MAX_FILES_OF_AGENT: u64 = 1_000;
/// Longest name in bytes.
const MAX_NAME: usize = 200;

/// Pictures that are shown as such.
pub const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// How far a stored file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentState {
    /// The row is written; the bytes may or may not be stored.
    Pending,
    /// The bytes are stored.
    Ready,
    /// Being removed: the bytes first, then the row.
    Removing,
}

impl AttachmentState {
    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Removing => "removing",
        }
    }

    /// From the stored text. An unknown one reads as `Removing`, so that the file is shown to nobody.
    pub fn parse(text: &str) -> Self {
        [Self::Pending, Self::Ready].into_iter().find(|s| s.as_str() == text).unwrap_or(Self::Removing)
    }
}

/// A stored file without its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    pub attachment_id: AttachmentId,
    pub organization_id: OrganizationId,
    /// Name for people.
    pub name: String,
    /// As detected from its first bytes.
    pub media_type: String,
    /// Size in bytes.
    pub size: i64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// How far it is.
    pub state: AttachmentState,
    /// Who stored it; empty for a file of an agent.
    pub user_id: String,
    /// The session it was used or made in last; empty before that.
    pub session_id: String,
    /// When it was stored.
    pub create_time: Timestamp,
    /// When the sweep may remove it; none = it stays.
    pub expire_time: Option<Timestamp>,
}

impl Attachment {
    /// As on the wire.
    pub fn to_proto(&self) -> common::Attachment {
        common::Attachment {
            attachment_id: self.attachment_id.to_string(),
            name: self.name.clone(),
            media_type: self.media_type.clone(),
            size: self.size,
            reason: String::new(),
        }
    }

    /// Whether its bytes can be read.
    pub fn is_ready(&self) -> bool {
        self.state == AttachmentState::Ready
    }
}

/// Checks a file name that people chose.
///
/// # Errors
/// `INVALID_ARGUMENT` for an empty or long one, or one with slashes, control characters or marks that change the
/// direction of text.
pub fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::invalid_field("name", format!("must be 1 to {MAX_NAME} bytes")));
    }
    if name.trim().is_empty() || name == "." || name == ".." || name.contains(is_refused) {
        let text = "must be a file name without slashes, control characters or bidirectional marks";
        return Err(Error::invalid_field("name", text));
    }
    Ok(())
}

/// A valid file name made of one that an agent gave; `otherwise` when nothing usable is left.
pub fn cleaned_name(said: &str, otherwise: &str) -> String {
    let last = said.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !is_refused(*c)).collect();
    let kept = head(kept.trim(), MAX_NAME).0;
    if check_name(kept).is_ok() { kept.to_owned() } else { otherwise.to_owned() }
}

/// Slashes, control characters, and invisible marks that make a name look like another one.
fn is_refused(c: char) -> bool {
    c == '/'
        || c == '\\'
        || c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What a file is, by its bytes alone.
pub fn media_type(bytes: &[u8]) -> &'static str {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\x89PNG\r\n\x1a\n") {
        "image/png"
    } else if starts(b"\xff\xd8\xff") {
        "image/jpeg"
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        "image/gif"
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        "image/webp"
    } else if starts(b"%PDF-") {
        "application/pdf"
    } else {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => text_type(text),
            _ => "application/octet-stream",
        }
    }
}

fn text_type(text: &str) -> &'static str {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let declared =
        start.starts_with("<?xml") || start.starts_with("<!--") || start.starts_with("<!DOCTYPE svg");
    if start.starts_with("<svg") || declared && head(start, 4_096).0.contains("<svg") {
        "image/svg+xml"
    } else {
        "text/plain"
    }
}

/// Whether a file of this type is shown as a picture.
pub fn is_picture(media_type: &str) -> bool {
    PICTURES.contains(&media_type)
}

/// The name of a file of this type when none was given.
pub fn default_name(media_type: &str) -> &'static str {
    match media_type {
        "image/png" => "picture.png",
        "image/jpeg" => "picture.jpg",
        "image/gif" => "picture.gif",
        "image/webp" => "picture.webp",
        "image/svg+xml" => "picture.svg",
        "application/pdf" => "document.pdf",
        "text/plain" => "text.txt",
        _ => "file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_reach_elsewhere_or_look_like_others_are_refused() {
        let long = "x".repeat(10 << 10);
        let bad = [
            "",
            " ",
            ".",
            "..",
            "../a",
            "a/b",
            "a\\b",
            "a\nb",
            "a\0b",
            "a\u{1b}[31m",
            "a\u{202e}gnp.exe",
            &long,
        ];
        for name in bad {
            assert!(check_name(name).is_err(), "{name:?}");
            let cleaned = cleaned_name(name, "file");
            assert!(check_name(&cleaned).is_ok(), "{name:?} became {cleaned:?}");
        }
        for name in ["a.png", "Bild schirm – 2.png", "日本.txt", ".gitignore"] {
            assert!(check_name(name).is_ok(), "{name}");
            assert_eq!(cleaned_name(name, "file"), name);
        }
        assert_eq!(cleaned_name("file:///home/agent/shot.png", "file"), "shot.png");
    }

    #[test]
    fn the_bytes_say_what_a_file_is() {
        assert_eq!(media_type(b"\x89PNG\r\n\x1a\nrest"), "image/png");
        assert_eq!(media_type(b"\xff\xd8\xff\xe0"), "image/jpeg");
        assert_eq!(media_type(b"GIF89a"), "image/gif");
        assert_eq!(media_type(b"RIFF\0\0\0\0WEBPVP8 "), "image/webp");
        assert_eq!(media_type(b"%PDF-1.7"), "application/pdf");
        assert_eq!(media_type(b"<script>alert(1)</script>"), "text/plain");
        assert_eq!(media_type(b"<?xml version='1.0'?><svg onload='x'/>"), "image/svg+xml");
        assert_eq!(media_type(b"  <svg/>"), "image/svg+xml");
        assert_eq!(media_type(b"MZ\0\0"), "application/octet-stream");
        assert_eq!(media_type(b"\x89PN"), "application/octet-stream");
    }
}
