//! Files for an agent that accepts none, and files of agents that cannot be kept.

use foundry_core::MessageId;
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{AgentFile, Attachment, NoticeKind, TranscriptPart};
use foundry_proto::provisioner::v1 as p;

use super::*;
use crate::domain::Session;
use crate::domain::attachment::{Attachment as Row, AttachmentState, MAX_FILES_OF_AGENT};
use crate::domain::fold::{Folded, ShownFile};
use crate::ops;
use crate::store::{attachments, events};
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\npicture";

async fn stored(f: &Fixture, name: &str) -> String {
    let request = p::PutAttachmentRequest {
        organization_id: f.organization.to_string(),
        name: name.to_owned(),
        content: PNG.into(),
        ..Default::default()
    };
    let answer = ops::put_attachment::put_attachment(&f.shared, &f.writer(), request).await.unwrap();
    answer.attachment.unwrap().attachment_id
}

#[tokio::test]
async fn an_agent_without_pictures_gets_them_as_files_outside_the_work_tree_and_people_are_told() {
    let f = Fixture::new().await;
    let agent = FakeAgent::serve(&f).await;
    // The hand-over of work at the end of the turn finds nothing.
    agent.says(1, "");
    let sandbox = f.ensure().await;
    f.run().await;
    let session = f.session(&sandbox).await;
    f.run().await;
    let (shown, gone) = (stored(&f, "shot 1.png").await, stored(&f, "gone.png").await);
    let removed = p::DeleteAttachmentRequest { attachment_id: gone.clone(), ..Default::default() };
    ops::delete_attachment::delete_attachment(&f.shared, &f.writer(), removed).await.unwrap();
    let prompt = p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: MessageId::generate(&f.env.env).to_string(),
        text: "look".into(),
        attachment_ids: vec![shown.clone(), gone],
        ..Default::default()
    };
    ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    f.run().await;

    let place = format!("/home/agent/attachments/{}-shot 1.png", &shown[shown.len() - 8..]);
    assert_eq!(agent.files(), std::slice::from_ref(&place));
    let log = agent.read_log(session.session_id.as_str());
    let words = format!("look\\n\\nAttached files:\\n- {place} (image/png, {} bytes)\\n", PNG.len());
    assert!(log.contains(&words) && !log.contains("\"image\""), "{log}");
    let parts = events::newest(&f.shared.store, &session.session_id).await.unwrap();
    let notices: Vec<_> = parts
        .iter()
        .filter_map(|part| match &part.body {
            Some(Body::Notice(n)) if n.kind() == NoticeKind::Attachment => Some(n.message.as_str()),
            _ => None,
        })
        .collect();
    let given = format!(
        "shot 1.png was passed to the agent as the file {place}: demo does not accept pictures in prompts"
    );
    let missed = "a file of this message did not reach the agent: removed before it was delivered";
    assert_eq!(notices, [given.as_str(), missed]);
}

/// The folded stretch of a log in which an agent shows a picture.
fn shows(place: &str) -> Folded {
    let attachment = Attachment {
        name: "picture.png".to_owned(),
        media_type: "image/png".to_owned(),
        size: PNG.len() as i64,
        ..Attachment::default()
    };
    let file = AgentFile { attachment: Some(attachment), tool_call_id: String::new() };
    let part = TranscriptPart { body: Some(Body::AgentFile(file)), ..TranscriptPart::default() };
    let files = vec![ShownFile { part: 0, place: place.to_owned(), bytes: PNG.into() }];
    Folded { parts: vec![part], files, ..Folded::default() }
}

async fn kept(f: &Fixture, session: &Session, place: &str) -> (Vec<AttachmentId>, Attachment) {
    let mut folded = shows(place);
    let ids = keep(&f.shared, session, &mut folded).await.unwrap();
    let Some(Body::AgentFile(file)) = folded.parts.remove(0).body else { panic!("no file") };
    (ids, file.attachment.unwrap())
}

#[tokio::test]
async fn a_file_of_an_agent_is_stored_once_however_often_its_log_is_read() {
    let f = Fixture::new().await;
    let session = f.made_ready(&f.session(&f.ensure().await).await).await;
    let (first, shown) = kept(&f, &session, "1-10").await;
    assert_eq!(shown.attachment_id, first[0].to_string());
    assert_eq!(kept(&f, &session, "1-10").await, (first.clone(), shown));
    let (other, _) = kept(&f, &session, "1-20").await;
    assert_ne!(first, other);
    assert_eq!(attachments::total(&f.shared.store, &f.organization).await.unwrap(), 2 * PNG.len() as u64);
}

#[tokio::test]
async fn a_file_of_an_agent_without_room_or_store_is_named_with_the_reason() {
    let mut f = Fixture::new().await;
    let session = f.made_ready(&f.session(&f.ensure().await).await).await;
    f.configure(|c| c.attachments.organization_bytes = PNG.len() as u64 + 1);
    assert_eq!(kept(&f, &session, "1-10").await.1.reason, "");
    let (ids, shown) = kept(&f, &session, "1-20").await;
    assert_eq!((ids, shown.attachment_id.as_str(), shown.reason.as_str()), (vec![], "", "LIMIT_REACHED"));
    // A file takes the place of the directory.
    f.configure(|c| c.attachments.organization_bytes = 1 << 20);
    let directory = f.dir.path().join("attachments");
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&directory, "").unwrap();
    let (ids, shown) = kept(&f, &session, "1-30").await;
    assert_eq!((ids, shown.reason.as_str()), (vec![], "ATTACHMENT_STORE_UNAVAILABLE"));
}

#[tokio::test]
async fn small_files_of_an_agent_are_bounded_by_their_number() {
    let f = Fixture::new().await;
    let session = f.made_ready(&f.session(&f.ensure().await).await).await;
    let mut ws = foundry_store::WriteSet::new();
    for n in 0..MAX_FILES_OF_AGENT {
        let row = Row {
            attachment_id: AttachmentId::generate(&f.env.env),
            organization_id: f.organization.clone(),
            name: format!("{n}.png"),
            media_type: "image/png".to_owned(),
            size: 1,
            sha256: String::new(),
            state: AttachmentState::Ready,
            user_id: String::new(),
            session_id: session.session_id.to_string(),
            create_time: f.env.env.clock.now(),
            expire_time: None,
        };
        attachments::insert(&mut ws, &row);
    }
    f.shared.store.commit(ws).await.unwrap();
    assert_eq!(kept(&f, &session, "1-10").await.1.reason, "LIMIT_REACHED");
}

#[tokio::test]
async fn the_files_of_one_stretch_wait_for_one_failing_transfer() {
    let f = Fixture::new().await;
    let session = f.made_ready(&f.session(&f.ensure().await).await).await;
    let directory = f.dir.path().join("attachments");
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&directory, "").unwrap();
    let (mut folded, second) = (shows("1-10"), shows("1-20"));
    folded.parts.extend(second.parts);
    folded.files.extend(second.files.into_iter().map(|file| ShownFile { part: 1, ..file }));
    assert_eq!(keep(&f.shared, &session, &mut folded).await.unwrap(), []);
    for part in folded.parts {
        let Some(Body::AgentFile(file)) = part.body else { panic!("no file") };
        assert_eq!(file.attachment.unwrap().reason, "ATTACHMENT_STORE_UNAVAILABLE");
    }
    // The second one did not even get a row.
    assert_eq!(attachments::total(&f.shared.store, &f.organization).await.unwrap(), PNG.len() as u64);
}

#[tokio::test]
async fn a_store_is_a_directory_by_its_url_and_nothing_else_is_built_in() {
    let (dir, env) = (tempfile::tempdir().unwrap(), foundry_core::Env::system());
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    let url = format!("file://{}", other.display());
    Attachments::open(&url, &own, &env).unwrap();
    assert!(other.is_dir() && !own.exists());
    Attachments::open("", &own, &env).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let taken = format!("file://{}/file", dir.path().display());
    for bad in ["s3://bucket", "file://elsewhere/x", "attachments", taken.as_str()] {
        let refused = Attachments::open(bad, &own, &env).err().expect("a refusal");
        assert_eq!(refused.reason(), "ATTACHMENT_STORE_UNUSABLE", "{bad}");
    }
}
