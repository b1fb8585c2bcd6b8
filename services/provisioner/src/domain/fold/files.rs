//! Pictures and other files in an agent's messages: from a content block to its bytes, or to the reason why they are
//! not kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use foundry_proto::common::v1::Attachment;
use foundry_sandbox::acp::Content;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::domain::attachment::{MAX_FILE, cleaned_name, default_name, media_type};
use crate::domain::text::head;

/// A file that an agent shows.
#[derive(Debug)]
pub(super) struct Shown {
    /// Its description; the id is not set yet.
    pub attachment: Attachment,
    /// Its bytes, if they may be kept.
    pub bytes: Option<Bytes>,
    /// Equal for equal files, to detect repetitions.
    pub mark: String,
}

/// The file in a content block, if it is one.
pub(super) fn shown(content: &Content) -> Option<Shown> {
    let Content::Other(block) = content else { return None };
    let text = |value: &Value, key: &str| {
        head(value.get(key).and_then(Value::as_str).unwrap_or_default(), 2_000).0.to_owned()
    };
    match text(block, "type").as_str() {
        "image" | "audio" => {
            let data = block.get("data").and_then(Value::as_str).unwrap_or_default();
            Some(encoded(data, &text(block, "mimeType"), &text(block, "uri")))
        }
        "resource" => {
            let resource = block.get("resource")?;
            let (said, uri) = (text(resource, "mimeType"), text(resource, "uri"));
            match (resource.get("text").and_then(Value::as_str), resource.get("blob").and_then(Value::as_str))
            {
                (Some(words), _) => Some(plain(words, &said, &uri)),
                (None, Some(blob)) => Some(encoded(blob, &said, &uri)),
                (None, None) => Some(refused("ATTACHMENT_NOT_SENT", 0, &said, &uri)),
            }
        }
        "resource_link" => {
            let size = block.get("size").and_then(Value::as_i64).unwrap_or(0).max(0);
            let name = [text(block, "name"), text(block, "uri")].into_iter().find(|n| !n.is_empty());
            Some(refused("ATTACHMENT_NOT_SENT", size, &text(block, "mimeType"), &name.unwrap_or_default()))
        }
        _ => None,
    }
}

fn encoded(data: &str, said: &str, uri: &str) -> Shown {
    // Base64 takes four characters for three bytes; a few line ends do not matter for this estimate.
    let about = data.len() / 4 * 3;
    if about > MAX_FILE + 3 {
        return refused("ATTACHMENT_TOO_LARGE", i64::try_from(about).unwrap_or(i64::MAX), said, uri);
    }
    match STANDARD.decode(data) {
        Ok(bytes) if bytes.len() > MAX_FILE => {
            refused("ATTACHMENT_TOO_LARGE", i64::try_from(bytes.len()).unwrap_or(i64::MAX), said, uri)
        }
        Ok(bytes) if !bytes.is_empty() => whole(bytes.into(), uri),
        _ => refused("ATTACHMENT_MALFORMED", 0, said, uri),
    }
}

fn plain(words: &str, said: &str, uri: &str) -> Shown {
    match words.len() {
        0 => refused("ATTACHMENT_MALFORMED", 0, said, uri),
        n if n > MAX_FILE => refused("ATTACHMENT_TOO_LARGE", i64::try_from(n).unwrap_or(i64::MAX), said, uri),
        _ => whole(Bytes::copy_from_slice(words.as_bytes()), uri),
    }
}

fn whole(bytes: Bytes, uri: &str) -> Shown {
    let kind = media_type(&bytes);
    let attachment = Attachment {
        attachment_id: String::new(),
        name: cleaned_name(uri, default_name(kind)),
        media_type: kind.to_owned(),
        size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
        reason: String::new(),
    };
    let mark = hex::encode(&Sha256::digest(&bytes)[..8]);
    Shown { attachment, bytes: Some(bytes), mark }
}

/// A file whose bytes are not kept. Its type is the one that the agent gave.
fn refused(reason: &str, size: i64, said: &str, uri: &str) -> Shown {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/+-._".contains(c);
    let said = head(said, 100).0;
    let kind = if said.is_empty() || !said.chars().all(plain) { "application/octet-stream" } else { said };
    let name = cleaned_name(uri, default_name(kind));
    let mark = format!("{reason}/{size}/{name}");
    let attachment = Attachment {
        attachment_id: String::new(),
        name,
        media_type: kind.to_owned(),
        size,
        reason: reason.to_owned(),
    };
    Shown { attachment, bytes: None, mark }
}
