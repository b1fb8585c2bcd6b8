//! Limits of request fields.

use foundry_core::{Error, Result};
use foundry_proto::common::v1::{AgentSettings, PermissionPolicy};

use super::asked::Start;
use super::review::{MAX_COMMENT, MAX_PATH};

/// Longest prompt or message in bytes.
pub const MAX_TEXT: usize = 256 * 1024;
/// Most files of one message.
pub const MAX_ATTACHMENTS: usize = 10;
/// Longest draft in bytes.
pub const MAX_DRAFT: usize = 12 * 1024;
/// Most bytes of a text that views show.
pub const PREVIEW: usize = 1024;
/// Longest name of an agent or a provider.
const MAX_PLAIN: usize = 64;
/// Longest value of an agent setting.
const MAX_CHOICE: usize = 120;

/// A prompt or a message: 1 byte to 256 KiB, not blank.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the limit.
pub fn text(field: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::invalid_field(field, "must not be empty"));
    }
    bounded(field, text, "text_bytes", MAX_TEXT)
}

/// A message: as [`text`], but it may be empty if it has files.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the limit.
pub fn message(field: &str, words: &str, files: bool) -> Result<()> {
    if files && words.is_empty() { Ok(()) } else { text(field, words) }
}

/// A draft: at most 12 KiB, and possibly empty.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the limit.
pub fn draft(field: &str, text: &str) -> Result<()> {
    bounded(field, text, "draft_bytes", MAX_DRAFT)
}

/// A comment on the changes: 1 byte to 8 KiB, not blank.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the limit.
pub fn comment(field: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::invalid_field(field, "must not be empty"));
    }
    bounded(field, text, "comment_bytes", MAX_COMMENT)
}

/// Path of a file in a review.
///
/// # Errors
/// `INVALID_ARGUMENT` for an empty one or one over 1 KiB.
pub fn review_path(field: &str, path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(Error::invalid_field(field, "must not be empty"));
    }
    bounded(field, path, "path_bytes", MAX_PATH)
}

fn bounded(field: &str, text: &str, limit: &str, maximum: usize) -> Result<()> {
    if text.len() > maximum {
        let says = format!("is {} bytes; the limit is {maximum}", text.len());
        return Err(Error::invalid_field(field, says)
            .with("limit", limit)
            .with("maximum", maximum.to_string()));
    }
    if text.contains('\0') {
        return Err(Error::invalid_field(field, "must not contain NUL characters"));
    }
    Ok(())
}

/// The name of a known agent or provider, or the default for an empty one.
///
/// # Errors
/// `INVALID_ARGUMENT` for anything but lowercase letters, digits, dash and underscore, and for a
/// name that is neither the default nor among the known ones.
pub fn plain_name(field: &str, name: &str, default: &str, known: &[String]) -> Result<String> {
    let name = if name.is_empty() { default } else { name };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.len() > MAX_PLAIN || !name.chars().all(plain) || name.starts_with('-') {
        return Err(Error::invalid_field(field, "must be lowercase letters, digits, dashes or underscores"));
    }
    if name != default && !known.iter().any(|k| k == name) {
        return Err(Error::invalid_field(field, format!("is unknown; known values: {}", known.join(", "))));
    }
    Ok(name.to_owned())
}

/// The requested agent and profile, at most one of them. With neither, the provisioner chooses.
///
/// # Errors
/// `INVALID_ARGUMENT` when both are named, or one is malformed or not known. Whether a profile exists is checked when
/// its sandbox is created.
pub fn agent(agent: &str, profile: &str, known: &[String]) -> Result<(String, String)> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    match (agent, profile) {
        ("", "") => Ok((String::new(), String::new())),
        ("", profile) if profile.len() <= MAX_PLAIN && profile.chars().all(plain) => {
            Ok((String::new(), profile.to_owned()))
        }
        ("", _) => Err(Error::invalid_field("profile", "is not the id or name of an agent profile")),
        (agent, "") => Ok((plain_name("agent", agent, "", known)?, String::new())),
        _ => Err(Error::invalid_field(
            "agent",
            "must be empty if a profile is given; the profile defines the agent",
        )),
    }
}

/// A policy. Unspecified means the one of the profile, or ASK.
///
/// # Errors
/// `INVALID_ARGUMENT` for an unknown number.
pub fn policy(policy: i32) -> Result<PermissionPolicy> {
    PermissionPolicy::try_from(policy)
        .map_err(|_| Error::invalid_field("permission_policy", "is not a known policy"))
}

/// Settings that override the profile.
///
/// # Errors
/// `INVALID_ARGUMENT` for a value that is too long or has line breaks.
pub fn settings(settings: Option<AgentSettings>) -> Result<Start> {
    let settings = settings.unwrap_or_default();
    for (field, value) in [("model", &settings.model), ("mode", &settings.mode), ("effort", &settings.effort)]
    {
        if value.len() > MAX_CHOICE || value.chars().any(char::is_control) {
            let text = format!("must be one line of at most {MAX_CHOICE} bytes");
            return Err(Error::invalid_field(format!("settings.{field}"), text));
        }
    }
    Ok(settings.into())
}

/// The longest prefix of a text with at most so many bytes that splits no character.
pub fn prefix(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let at = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    &text[..at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_text_of_exactly_the_limit_and_no_byte_more() {
        assert!(text("prompt", &"x".repeat(MAX_TEXT)).is_ok());
        assert!(text("prompt", &"x".repeat(MAX_TEXT + 1)).is_err());
        assert!(text("prompt", " \n").is_err());
        assert!(draft("text", "").is_ok() && draft("text", &"x".repeat(MAX_DRAFT)).is_ok());
        assert!(draft("text", &"x".repeat(MAX_DRAFT + 1)).is_err());
    }

    #[test]
    fn cuts_a_preview_between_characters() {
        assert_eq!(prefix("aé", 2), "a");
        assert_eq!(prefix("aé", 3), "aé");
    }
}
