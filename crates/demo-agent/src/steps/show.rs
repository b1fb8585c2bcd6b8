//! Attachments of the prompt, described; and pictures that the agent sends.

use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, EmbeddedResourceResource, ImageContent, SessionUpdate, ToolCallContent,
    ToolKind,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::tool::{Outcome, text};
use crate::turn::{Turn, TurnEnd};

/// A chessboard of 32 by 32 pixels.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAOUlEQVR42mPQtgrFim7mG2FFpKpnGLVg1IIhYAG1DMKlftSCUQuGggWjRcWoBaMWjNYHoxaMWgBEABb3aD2q9vvuAAAAAElFTkSuQmCC";

impl Turn {
    /// Describes the attachments of the prompt.
    pub(super) async fn show_attachments(&self) -> Result<(), TurnEnd> {
        if self.attachments.is_empty() {
            return self.say("Nothing is attached.").await;
        }
        for attachment in &self.attachments {
            self.say(&format!("Attached: {attachment}\n")).await?;
        }
        Ok(())
    }

    /// Sends a picture in a message, and another one as the result of a tool call.
    pub(super) async fn show_picture(&self, kib: usize) -> Result<(), TurnEnd> {
        self.say("This is a picture:").await?;
        let message = self.session.next_message();
        let chunk = ContentChunk::new(ContentBlock::Image(picture(kib, 0))).message_id(&*message);
        self.update(SessionUpdate::AgentMessageChunk(chunk)).await?;
        let call = self.announce("Draw a picture".to_owned(), ToolKind::Other, &[], Value::Null).await?;
        self.begin(&call).await?;
        let drawn = ToolCallContent::from(ContentBlock::Image(picture(kib, 1)));
        self.finish(&call, Outcome::completed(vec![text("Drawn."), drawn])).await
    }
}

/// A picture of about `kib` KiB: decoders ignore what follows its end. The last byte makes each picture distinct.
fn picture(kib: usize, number: u8) -> ImageContent {
    let mut bytes = STANDARD.decode(PICTURE).unwrap_or_default();
    bytes.resize(bytes.len().max(kib << 10), 0);
    bytes.push(number);
    ImageContent::new(STANDARD.encode(bytes), "image/png")
}

/// The attachments of a prompt as text: kind, type, size and hash of each.
pub(crate) fn described(blocks: &[ContentBlock]) -> Vec<String> {
    let hashed = |kind: &str, media_type: &str, bytes: &[u8]| {
        format!("{kind} {media_type}, {} bytes, sha256 {}", bytes.len(), hex::encode(Sha256::digest(bytes)))
    };
    let encoded = |kind: &str, media_type: &str, data: &str| match STANDARD.decode(data) {
        Ok(bytes) => hashed(kind, media_type, &bytes),
        Err(_) => format!("{kind} {media_type} that is not base64"),
    };
    let describe = |block: &ContentBlock| match block {
        ContentBlock::Image(image) => Some(encoded("picture", &image.mime_type, &image.data)),
        ContentBlock::Resource(resource) => match &resource.resource {
            EmbeddedResourceResource::TextResourceContents(r) => {
                let kind = format!("text {}", r.uri);
                Some(hashed(&kind, r.mime_type.as_deref().unwrap_or("-"), r.text.as_bytes()))
            }
            EmbeddedResourceResource::BlobResourceContents(r) => {
                let kind = format!("file {}", r.uri);
                Some(encoded(&kind, r.mime_type.as_deref().unwrap_or("-"), &r.blob))
            }
            _ => None,
        },
        _ => None,
    };
    blocks.iter().filter_map(describe).collect()
}
