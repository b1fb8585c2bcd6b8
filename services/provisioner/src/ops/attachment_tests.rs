//! Stored files: limits, strangers, repeats, crashes in between, and the sweep.

use std::time::Duration;

use foundry_core::{Code, MessageId};
use foundry_proto::provisioner::v1 as p;

use super::*;
use crate::attachments::{HELD, sweep};
use crate::domain::attachment::{AttachmentState, MAX_FILE};
use crate::testing::Fixture;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\npicture";
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn file(f: &Fixture, name: &str, content: &[u8]) -> p::PutAttachmentRequest {
    p::PutAttachmentRequest {
        organization_id: f.organization.to_string(),
        name: name.to_owned(),
        content: content.to_vec().into(),
        ..Default::default()
    }
}

async fn put(f: &Fixture, request: p::PutAttachmentRequest) -> Result<p::PutAttachmentResponse, Error> {
    put_attachment::put_attachment(&f.shared, &f.writer(), request).await
}

async fn stored(f: &Fixture, name: &str, content: &[u8]) -> String {
    put(f, file(f, name, content)).await.unwrap().attachment.unwrap().attachment_id
}

async fn get(f: &Fixture, caller: &Caller, id: &str) -> Result<p::GetAttachmentResponse, Error> {
    let request = p::GetAttachmentRequest { attachment_id: id.to_owned() };
    get_attachment::get_attachment(&f.shared, caller, request).await
}

async fn hold(f: &Fixture, organization: &OrganizationId, ids: &[&str]) -> Result<(), Error> {
    let request = p::HoldAttachmentsRequest {
        organization_id: organization.to_string(),
        session_id: SessionId::generate(&f.env.env).to_string(),
        attachment_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    hold_attachments::hold_attachments(&f.shared, &f.task, request).await.map(drop)
}

async fn row(f: &Fixture, id: &str) -> Option<Attachment> {
    attachments::find(&f.shared.store, &id.parse().unwrap()).await.unwrap()
}

/// Number of stored files of the organization, whether a row names them or not.
fn bytes_in_store(f: &Fixture) -> usize {
    let directory = f.dir.path().join("attachments").join(f.organization.as_str());
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_stored_file_comes_back_whole_with_the_type_that_its_bytes_show() {
    let f = Fixture::new().await;
    let lie = p::PutAttachmentRequest { media_type: "image/png".into(), ..file(&f, "a.png", b"<script>") };
    let liar = put(&f, lie).await.unwrap().attachment.unwrap();
    assert_eq!(liar.media_type, "text/plain");
    let id = stored(&f, "shot.txt", PNG).await;
    let got = get(&f, &f.member, &id).await.unwrap();
    assert_eq!((&got.content[..], got.sha256.len()), (PNG, 64));
    let shown = got.attachment.unwrap();
    assert_eq!(
        (shown.name.as_str(), shown.media_type.as_str(), shown.size),
        ("shot.txt", "image/png", PNG.len() as i64)
    );
}

#[tokio::test]
async fn refuses_hostile_files_and_stores_nothing() {
    let f = Fixture::new().await;
    let long = "n".repeat(10 << 10);
    for name in ["", "../a", "a/b", "a\\b", "a\0", "a\n", "\u{202e}gnp", ".", &long] {
        let refused = put(&f, file(&f, name, PNG)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name:?}");
    }
    let empty = put(&f, file(&f, "a", b"")).await.unwrap_err();
    let large = put(&f, file(&f, "a", &vec![0; MAX_FILE + 1])).await.unwrap_err();
    assert_eq!((empty.reason(), large.reason()), ("INVALID_FIELD", "ATTACHMENT_TOO_LARGE"));
    let viewer = put_attachment::put_attachment(&f.shared, &f.member, file(&f, "a", PNG)).await.unwrap_err();
    let stranger =
        put_attachment::put_attachment(&f.shared, &f.stranger, file(&f, "a", PNG)).await.unwrap_err();
    assert_eq!((viewer.code(), stranger.code()), (Code::PermissionDenied, Code::NotFound));
    assert_eq!(bytes_in_store(&f), 0);
    stored(&f, "a", &vec![0; MAX_FILE]).await;
}

#[tokio::test]
async fn a_foreign_file_answers_as_an_absent_one() {
    let f = Fixture::new().await;
    let id = stored(&f, "a.png", PNG).await;
    let absent = AttachmentId::generate(&f.env.env).to_string();
    let other = OrganizationId::generate(&f.env.env);
    for id in [&id, &absent] {
        let got = get(&f, &f.stranger, id).await.unwrap_err();
        let request = p::DeleteAttachmentRequest { attachment_id: id.clone(), ..Default::default() };
        let deleted =
            delete_attachment::delete_attachment(&f.shared, &f.stranger, request).await.unwrap_err();
        let held = hold(&f, &other, &[id]).await.unwrap_err();
        assert_eq!(
            (got.code(), deleted.code(), held.code()),
            (Code::NotFound, Code::NotFound, Code::NotFound)
        );
        let words = format!("attachment {id} not found in your organizations");
        assert_eq!((got.message(), held.message()), (words.as_str(), words.as_str()));
    }
    assert!(get(&f, &f.member, &id).await.is_ok());
}

#[tokio::test]
async fn a_repeat_has_the_first_answer_and_takes_up_what_a_crash_left() {
    let f = Fixture::new().await;
    let wanted = p::PutAttachmentRequest { request_id: "r1".into(), ..file(&f, "a.png", PNG) };
    let caller = f.writer();
    let ask = |r: p::PutAttachmentRequest| put_attachment::put_attachment(&f.shared, &caller, r);
    let (a, b) = tokio::join!(ask(wanted.clone()), ask(wanted.clone()));
    let first = a.unwrap();
    assert_eq!(first, b.unwrap());
    let other = p::PutAttachmentRequest { content: b"other".to_vec().into(), ..wanted.clone() };
    assert_eq!(ask(other).await.unwrap_err().reason(), "REQUEST_ID_REUSED");

    // As if the process had died between writing the row and the bytes.
    let id = first.attachment.as_ref().unwrap().attachment_id.clone();
    let mut ws = foundry_store::WriteSet::new();
    let pending = [("state", AttachmentState::Pending.as_str().into())];
    ws.update(&attachments::ATTACHMENTS, &[id.as_str().into()], &pending, &[]);
    f.shared.store.commit(ws).await.unwrap();
    f.shared.attachments.delete(&f.organization, &id.parse().unwrap()).await.unwrap();
    assert_eq!(get(&f, &f.member, &id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(ask(wanted).await.unwrap(), first);
    assert_eq!(&get(&f, &f.member, &id).await.unwrap().content[..], PNG);
}

#[tokio::test]
async fn the_space_of_an_organization_is_bounded_for_two_at_once() {
    let mut f = Fixture::new().await;
    f.configure(|c| c.attachments.organization_bytes = 10);
    let (a, b) = tokio::join!(put(&f, file(&f, "a", b"123456")), put(&f, file(&f, "b", b"123456")));
    let results = [a, b];
    let refused: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).map(Error::reason).collect();
    assert_eq!(refused, ["LIMIT_REACHED"]);
    // A removed file makes room once its bytes are deleted.
    let id = results.into_iter().find_map(Result::ok).unwrap().attachment.unwrap().attachment_id;
    let request = p::DeleteAttachmentRequest { attachment_id: id.clone(), ..Default::default() };
    delete_attachment::delete_attachment(&f.shared, &f.writer(), request).await.unwrap();
    assert_eq!(get(&f, &f.member, &id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(sweep(&f.shared).await.unwrap(), 1);
    assert_eq!(bytes_in_store(&f), 0);
    put(&f, file(&f, "c", b"1234567890")).await.unwrap();
}

#[tokio::test]
async fn the_sweep_takes_what_nobody_uses_and_leaves_the_rest() {
    let f = Fixture::new().await;
    let unused = stored(&f, "unused", PNG).await;
    let held = stored(&f, "held", PNG).await;
    let used = stored(&f, "used", PNG).await;
    let lost = stored(&f, "lost", PNG).await;
    hold(&f, &f.organization, &[&held, &used]).await.unwrap();

    let session = f.made_ready(&f.session(&f.ensure().await).await).await;
    let prompt = p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: MessageId::generate(&f.env.env).to_string(),
        attachment_ids: vec![used.clone()],
        ..Default::default()
    };
    prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    // As if the process had died between writing the row and the bytes, without a repeated request.
    let mut ws = foundry_store::WriteSet::new();
    let pending = [("state", AttachmentState::Pending.as_str().into())];
    ws.update(&attachments::ATTACHMENTS, &[lost.as_str().into()], &pending, &[]);
    f.shared.store.commit(ws).await.unwrap();

    f.env.clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(sweep(&f.shared).await.unwrap(), 0);
    f.env.clock.advance(Duration::from_secs(2));
    assert_eq!(sweep(&f.shared).await.unwrap(), 2);
    assert_eq!((row(&f, &unused).await, row(&f, &lost).await), (None, None));
    assert_eq!(bytes_in_store(&f), 2);
    f.env.clock.advance(HELD);
    assert_eq!(sweep(&f.shared).await.unwrap(), 1);
    assert!(row(&f, &held).await.is_none());
    assert_eq!(row(&f, &used).await.unwrap().expire_time, None);
    assert!(get(&f, &f.member, &used).await.is_ok());
}

#[tokio::test]
async fn a_file_that_is_held_at_the_last_moment_is_not_swept() {
    let f = Fixture::new().await;
    let id = stored(&f, "a", PNG).await;
    f.env.clock.advance(DAY * 2);
    let due = attachments::expired(&f.shared.store, f.env.env.clock.now(), 10).await.unwrap();
    hold(&f, &f.organization, &[&id]).await.unwrap();
    let mut ws = foundry_store::WriteSet::new();
    attachments::remove(&mut ws, &due[0], f.env.env.clock.now());
    assert!(f.shared.store.commit(ws).await.is_err(), "what the sweep saw is not so any more");
    assert_eq!(sweep(&f.shared).await.unwrap(), 0);
    assert!(get(&f, &f.member, &id).await.is_ok());
}

#[tokio::test]
async fn holds_all_files_or_none_and_each_once() {
    let f = Fixture::new().await;
    let (a, b) = (stored(&f, "a", PNG).await, stored(&f, "b", PNG).await);
    let absent = AttachmentId::generate(&f.env.env).to_string();
    assert_eq!(hold(&f, &f.organization, &[&a, &absent]).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(row(&f, &a).await.unwrap().session_id, "");
    assert_eq!(hold(&f, &f.organization, &[&a, &a]).await.unwrap_err().reason(), "INVALID_FIELD");
    let eleven = vec![a.as_str(); 11];
    assert_eq!(hold(&f, &f.organization, &eleven).await.unwrap_err().reason(), "INVALID_FIELD");
    hold(&f, &f.organization, &[&b, &a]).await.unwrap();
    assert_ne!(row(&f, &a).await.unwrap().session_id, "");
}

#[tokio::test]
async fn lists_by_pages_newest_first_with_what_they_take() {
    let f = Fixture::new().await;
    let mut made = Vec::new();
    for n in 0..5 {
        // Files of the same instant are ordered by their ids.
        f.env.clock.advance(Duration::from_millis(n % 2));
        made.push(stored(&f, &format!("{n}"), PNG).await);
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = p::ListAttachmentsRequest {
            organization_id: f.organization.to_string(),
            page_size: 2,
            page_token: token,
        };
        let page = list_attachments::list_attachments(&f.shared, &f.member, request).await.unwrap();
        assert_eq!(page.total_bytes, 5 * PNG.len() as i64);
        seen.extend(page.attachments.into_iter().map(|a| a.attachment.unwrap().attachment_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
    made.sort();
    let mut found = seen.clone();
    found.sort();
    assert_eq!(found, made, "each once");
    let bad = p::ListAttachmentsRequest {
        organization_id: f.organization.to_string(),
        page_token: foundry_core::PageToken("nonsense".to_owned()).encode(),
        page_size: 0,
    };
    let refused = list_attachments::list_attachments(&f.shared, &f.member, bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
