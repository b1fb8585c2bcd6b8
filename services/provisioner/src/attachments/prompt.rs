//! A prompt with its files, as the protocol writes it: pictures and short texts inline where the agent accepts them,
//! everything else as a file in the sandbox's HOME that the prompt mentions. Never in the work tree, where it would
//! become part of the patch.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use foundry_runtime_client::{ClientError, RuntimeClient};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::domain::attachment::{Attachment, is_picture};
use crate::domain::{Sandbox, Session, Turn};
use crate::flow::StageError;
use crate::shared::{Shared, facts_of};
use crate::store::attachments;

/// Most bytes of inline files in a prompt: in base64 and with the longest text they fit one message to the agent (8
/// MiB). Further ones become files in the sandbox.
const WITHIN: usize = 5 << 20;
/// Largest inline text in bytes; an agent reads a larger one in pieces, as a file.
const MAX_TEXT: usize = 64 << 10;
/// Where files are put, below HOME.
const DIRECTORY: &str = "attachments";

/// A prompt as it is sent to the agent.
#[derive(Debug, Default)]
pub struct PromptContent {
    /// Its content blocks.
    pub blocks: Vec<Value>,
    /// Notices for people about files that reach the agent in another form than they were sent.
    pub notices: Vec<String>,
}

/// The prompt of a turn with its files. Puts files into the sandbox where needed; idempotent.
///
/// # Errors
/// When a file cannot be read now, or the runtime cannot be reached.
pub async fn prompt_content(
    shared: &Shared,
    client: &RuntimeClient,
    sandbox: &Sandbox,
    session: &Session,
    turn: &Turn,
    text: String,
) -> Result<PromptContent, StageError> {
    let (mut within, mut named, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    let (mut left, mut missing) = (WITHIN, 0);
    for id in &turn.attachments {
        let found = attachments::find(&shared.store, id).await?;
        let found = found.filter(|f| f.organization_id == session.organization_id && f.is_ready());
        let Some(file) = found else {
            missing += 1;
            continue;
        };
        let Some(bytes) = shared.attachments.get(&file.organization_id, id).await? else {
            missing += 1;
            continue;
        };
        let block = block(&session.prompt_kinds, &file, &bytes).filter(|_| bytes.len() <= left);
        if let Some(block) = block {
            left -= bytes.len();
            within.push(block);
            continue;
        }
        let place = facts_of(sandbox)?.home.join(DIRECTORY).join(file_name(&file));
        if is_picture(&file.media_type) {
            let (agent, name) = (&session.agent, &file.name);
            let why = match takes(&session.prompt_kinds, "image") {
                true => "the pictures of this message exceed the total limit".to_owned(),
                false => format!("{agent} does not accept pictures in prompts"),
            };
            notices.push(format!("{name} was passed to the agent as the file {}: {why}", place.display()));
        }
        match put(client, &place, bytes).await {
            Ok(()) => named.push(format!("{} ({}, {} bytes)", place.display(), file.media_type, file.size)),
            Err(ClientError::Refused { detail, .. }) => {
                notices.push(format!("{} did not reach the agent: {detail}", file.name));
            }
            Err(e) => return Err(e.into()),
        }
    }
    if missing > 0 {
        let files = if missing == 1 { "a file".to_owned() } else { format!("{missing} files") };
        notices.push(format!(
            "{files} of this message did not reach the agent: removed before it was delivered"
        ));
    }
    Ok(PromptContent { blocks: joined(text, &named, within), notices })
}

/// The text first, then the paths of files in the sandbox, then the inline files.
fn joined(mut text: String, named: &[String], within: Vec<Value>) -> Vec<Value> {
    if !named.is_empty() {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str("Attached files:\n");
        for name in named {
            text.push_str(&format!("- {name}\n"));
        }
    }
    let mut blocks = Vec::new();
    if !text.is_empty() || within.is_empty() {
        blocks.push(json!({ "type": "text", "text": text }));
    }
    blocks.extend(within);
    blocks
}

fn takes(kinds: &str, kind: &str) -> bool {
    kinds.split(',').any(|k| k == kind)
}

/// A file as an inline block, if the agent accepts it in that form. Files that are neither pictures nor text are
/// never inline: agents ignore them silently.
fn block(kinds: &str, file: &Attachment, bytes: &[u8]) -> Option<Value> {
    let kind = &file.media_type;
    if is_picture(kind) {
        let block = || json!({ "type": "image", "mimeType": kind, "data": STANDARD.encode(bytes) });
        return takes(kinds, "image").then(block);
    }
    if kind != "text/plain" || bytes.len() > MAX_TEXT || !takes(kinds, "embedded") {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let uri = format!("attachment:///{}", utf8_percent_encode(&file.name, NON_ALPHANUMERIC));
    Some(json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } }))
}

/// The name of a file in the sandbox; with a part of its id, so that equal names do not collide.
fn file_name(file: &Attachment) -> String {
    let id = file.attachment_id.as_str();
    format!("{}-{}", &id[id.len() - 8..], file.name)
}

async fn put(client: &RuntimeClient, place: &Path, bytes: Bytes) -> Result<(), ClientError> {
    client.put_file(place, 0o644, bytes).await
}

#[cfg(test)]
mod tests {
    use foundry_core::{AttachmentId, Env, OrganizationId, Timestamp};

    use super::*;
    use crate::domain::attachment::AttachmentState;

    fn file(name: &str, media_type: &str) -> Attachment {
        let env = Env::system();
        Attachment {
            attachment_id: AttachmentId::generate(&env),
            organization_id: OrganizationId::generate(&env),
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            size: 3,
            sha256: String::new(),
            state: AttachmentState::Ready,
            user_id: String::new(),
            session_id: String::new(),
            create_time: Timestamp::default(),
            expire_time: None,
        }
    }

    #[test]
    fn pictures_and_short_texts_go_within_where_the_agent_takes_them() {
        let picture = file("a.png", "image/png");
        assert_eq!(
            block("embedded,image", &picture, b"abc"),
            Some(json!({ "type": "image", "mimeType": "image/png", "data": "YWJj" }))
        );
        assert_eq!(block("embedded", &picture, b"abc"), None);
        let text = file("a b.txt", "text/plain");
        let resource = json!({ "uri": "attachment:///a%20b%2Etxt", "mimeType": "text/plain", "text": "abc" });
        assert_eq!(
            block("image,embedded", &text, b"abc"),
            Some(json!({ "type": "resource", "resource": resource }))
        );
        assert_eq!(block("image", &text, b"abc"), None);
        assert_eq!(block("embedded", &text, &vec![b'a'; MAX_TEXT + 1]), None);
        assert_eq!(block("image,embedded", &file("x.svg", "image/svg+xml"), b"<svg/>"), None);
        assert_eq!(block("image,embedded", &file("x.pdf", "application/pdf"), b"%PDF-"), None);
    }

    #[test]
    fn a_prompt_of_files_alone_has_no_empty_text() {
        let picture = json!({ "type": "image" });
        assert_eq!(joined(String::new(), &[], vec![picture.clone()]), std::slice::from_ref(&picture));
        assert_eq!(joined(String::new(), &[], vec![]), [json!({ "type": "text", "text": "" })]);
        let both = joined("look".to_owned(), &["/home/x (y, 1 bytes)".to_owned()], vec![picture.clone()]);
        let text = "look\n\nAttached files:\n- /home/x (y, 1 bytes)\n";
        assert_eq!(both, [json!({ "type": "text", "text": text }), picture]);
    }
}
