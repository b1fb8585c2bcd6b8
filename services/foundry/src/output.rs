//! Output as tables for people or as protobuf JSON for programs.

use std::io::{IsTerminal as _, Write as _};
use std::sync::LazyLock;

use comfy_table::{ContentArrangement, Table, presets};
use foundry_core::Timestamp;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::cli::Output;
use crate::failure::Failure;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(foundry_proto::FILE_DESCRIPTOR_SET).ok());

/// A message as one line of protobuf JSON, with default values.
///
/// # Errors
/// When the message is unknown to the descriptors of this binary.
pub fn json<M: prost::Message + prost::Name>(message: &M) -> Result<String, Failure> {
    let descriptor = POOL
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(&M::full_name()))
        .ok_or_else(|| Failure::new(format!("unknown message type {}", M::full_name())))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|e| Failure::new(e.to_string()))?;
    let mut text = serde_json::Serializer::new(Vec::new());
    dynamic
        .serialize_with_options(&mut text, &SerializeOptions::new().skip_default_fields(false))
        .map_err(|e| Failure::new(e.to_string()))?;
    let text = String::from_utf8(text.into_inner()).map_err(|e| Failure::new(e.to_string()))?;
    Ok(escaped(text))
}

/// JSON in which every character that could control a terminal is escaped. Outside of strings there is none.
fn escaped(json: String) -> String {
    if !json.contains(steers) {
        return json;
    }
    let escape = |c: char| if steers(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escape).collect()
}

/// Whether a character acts on a terminal instead of being shown: a control, or a mark that changes the direction of
/// text.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints a line, inert except for [`dim`]. Errors are ignored, so that a closed pipe ends the output quietly.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", inert_but_dim(text));
}

fn inert_but_dim(text: &str) -> String {
    let parts = text.split(DIM).map(|part| part.split(PLAIN).map(inert).collect::<Vec<_>>().join(PLAIN));
    parts.collect::<Vec<_>>().join(DIM)
}

/// The sequences that begin and end dim text.
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Prints text without a line end, and flushes it.
pub fn part(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Prints one message: as JSON, or by calling `table`.
///
/// # Errors
/// As [`json`].
pub fn one<M: prost::Message + prost::Name>(
    output: Output,
    message: &M,
    table: impl FnOnce(&M),
) -> Result<(), Failure> {
    match output {
        Output::Json => line(&json(message)?),
        Output::Table => table(message),
    }
    Ok(())
}

/// Prints rows below a header.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| inert(&cell)).collect::<Vec<_>>()));
    for row in table.to_string().lines() {
        line(row.trim_end());
    }
}

/// Text from agents and other users with control characters replaced, so that it cannot control the terminal.
pub fn inert(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if steers(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Whether to use colours: on a terminal, with `NO_COLOR` unset or empty.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Dim text if colours are used.
pub fn dim(text: &str) -> String {
    if colours() { format!("{DIM}{text}{PLAIN}") } else { text.to_owned() }
}

/// A time for people, in UTC to the second.
pub fn time(t: Option<&prost_types::Timestamp>) -> String {
    t.map(|t| {
        let text = Timestamp::from_proto(t).to_string();
        text.split('.').next().unwrap_or(&text).trim_end_matches('Z').replace('T', " ")
    })
    .unwrap_or_default()
}

/// Name of an enum value without its prefix, in lower case.
pub fn state(full: &str, prefix: &str) -> String {
    full.strip_prefix(prefix).unwrap_or(full).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_what_could_steer_a_terminal() {
        assert_eq!(inert("a\u{1b}[2Jb\u{202e}c\n"), "a\u{fffd}[2Jb\u{fffd}c\n");
        let dimmed = format!("{DIM}a\u{202e}{PLAIN} \u{1b}[2Jb");
        assert_eq!(inert_but_dim(&dimmed), format!("{DIM}a\u{fffd}{PLAIN} \u{fffd}[2Jb"));
    }

    #[test]
    fn escapes_in_json_what_could_steer_a_terminal() {
        let name = "a\u{202e}b\u{9b}c\u{7f}d\u{2069}é\n\u{1b}".to_owned();
        let text =
            json(&foundry_proto::repo::v1::Repository { name: name.clone(), ..Default::default() }).unwrap();
        assert!(!text.contains(steers), "{text}");
        assert!(text.contains("\\u202eb\\u009bc\\u007fd\\u2069é"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["name"], name, "the same text");
    }

    #[test]
    fn prints_messages_as_protobuf_json_with_their_defaults() {
        let text =
            json(&foundry_proto::repo::v1::Repository { name: "demo".into(), ..Default::default() }).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["name"], &value["branchCount"]), (&"demo".into(), &0.into()));
    }
}
