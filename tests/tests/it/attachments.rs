//! Files through the whole mesh: from the command line to the demo agent, and pictures from the agent back.

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{AgentFile, Attachment, NoticeKind, TurnOutcome};
use foundry_proto::provisioner::v1::{
    DeleteAttachmentRequest, GetAttachmentRequest, ListAttachmentsRequest, PutAttachmentRequest,
};
use foundry_proto::task::v1::{SendMessageRequest, SessionState, StopTurnRequest, TranscriptEntry};
use foundry_tests::story::{
    assert_contiguous, await_session, await_transcript, await_turns, create_task, get_task, register,
    task_request, turn_ends, until_answered, words,
};
use foundry_tests::{Caller, Mesh, Origin, Shape};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nas good as a picture";
/// The SHA-256 of [`PNG`], which the demo agent prints.
const PNG_HASH: &str = "1a89ecfb9ccd08bfd64d95294d0c70e6807d8efd77713b52c72afac2cc8d4862";

async fn put(caller: &Caller, name: &str, content: &[u8]) -> String {
    let request = PutAttachmentRequest {
        organization_id: caller.organization_id.clone(),
        name: name.to_owned(),
        content: content.to_vec().into(),
        ..Default::default()
    };
    let answer = caller.attachments().put_attachment(request).await.unwrap().into_inner();
    answer.attachment.unwrap().attachment_id
}

fn bodies(entries: &[TranscriptEntry]) -> impl Iterator<Item = &Body> {
    entries.iter().filter_map(|e| e.part.as_ref()?.body.as_ref())
}

fn shown(entries: &[TranscriptEntry]) -> Vec<(AgentFile, Attachment)> {
    let file = |b: &Body| match b {
        Body::AgentFile(f) => Some((f.clone(), f.attachment.clone().unwrap())),
        _ => None,
    };
    bodies(entries).filter_map(file).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_command_line_reach_the_agent_and_its_pictures_come_back() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let write = |name: &str, content: &[u8]| {
        let path = mesh.dir().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (picture, notes) = (write("shot.png", PNG), write("notes.txt", b"remember"));
    let large = write("large.bin", &[b"\0".repeat(200_000), b"end".to_vec()].concat());
    let repo = ["--repo", repository.repository_id.as_str()];
    let prompt = "show attachments\nrun ls -l ~/attachments && tail -c 3 ~/attachments/*-large.bin";
    let attach = ["--attach", &picture, "--attach", &notes, "--attach", &large];
    let args = [&["task", "create", prompt, "--allow"][..], &repo, &attach].concat();
    let output = mesh.cli_ok(&args);
    let picture_in = format!("Attached: picture image/png, {} bytes, sha256 {PNG_HASH}", PNG.len());
    assert!(output.contains(&picture_in), "{output}");
    assert!(output.contains("Attached: text attachment:///notes%2Etxt text/plain, 8 bytes"), "{output}");
    assert!(output.contains("large.bin (application/octet-stream, 200003 bytes)"), "{output}");
    assert!(output.contains("| end"), "the file is not in the sandbox: {output}");
    assert!(output.contains("with shot.png (image/png,"), "{output}");
    assert!(!output.contains("large.bin | "), "it is no part of the work: {output}");

    let listed =
        ListAttachmentsRequest { organization_id: caller.organization_id.clone(), ..Default::default() };
    let listed = caller.attachments().list_attachments(listed).await.unwrap().into_inner();
    let session = listed.attachments[0].session_id.clone();
    assert!(
        listed.attachments.iter().all(|a| a.session_id == session && a.expire_time.is_none()),
        "{listed:?}"
    );
    let task = await_session(&caller, &session, |s| s.state() == SessionState::Idle).await.task_id;
    assert_eq!(get_task(&caller, &task).await.changes.unwrap_or_default().files_changed, 0);

    // Pictures from the agent: one in its message, one from a tool.
    let output = mesh.cli_ok(&["session", "send", &session, "show a picture"]);
    assert_eq!(
        output.matches("+ file from the agent: picture.png (image/png, 115 bytes) att_").count(),
        2,
        "{output}"
    );
    let entries = await_turns(&caller, &session, 2).await;
    assert_contiguous(&entries);
    let files = shown(&entries);
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!((files[0].0.tool_call_id.is_empty(), files[1].0.tool_call_id.is_empty()), (true, false));
    let id = files[0].1.attachment_id.clone();
    let got = caller
        .attachments()
        .get_attachment(GetAttachmentRequest { attachment_id: id.clone() })
        .await
        .unwrap();
    assert!(got.into_inner().content.starts_with(b"\x89PNG"));
    let saved = mesh.dir().join("saved.png");
    mesh.cli_ok(&["attachment", "get", &id, "--file", saved.to_str().unwrap()]);
    assert_eq!(std::fs::read(&saved).unwrap().len(), 115);

    // A picture that is too large is not stored; the transcript still names it.
    mesh.cli_ok(&["session", "send", &session, "show a 3200 KiB picture"]);
    let entries = await_turns(&caller, &session, 3).await;
    assert_eq!(turn_ends(&entries)[2].outcome(), TurnOutcome::Completed);
    let named: Vec<_> = shown(&entries).into_iter().skip(2).map(|(_, a)| a).collect();
    assert_eq!(named.len(), 2);
    for file in named {
        assert_eq!((file.attachment_id.as_str(), file.reason.as_str()), ("", "ATTACHMENT_TOO_LARGE"));
        assert!(file.media_type == "image/png" && file.size > 3_200 << 10, "{file:?}");
    }
    // The largest file both ways; the command line refuses one more byte.
    let largest = write("largest.bin", &vec![7; 3 << 20]);
    mesh.cli_ok(&["session", "send", &session, "--attach", &largest, "--detach"]);
    let entries = await_turns(&caller, &session, 4).await;
    let sent = bodies(&entries)
        .filter_map(|b| if let Body::UserMessage(m) = b { m.attachments.first() } else { None });
    let id = sent.last().unwrap().attachment_id.clone();
    mesh.cli_ok(&["attachment", "get", &id, "--file", saved.to_str().unwrap()]);
    assert_eq!(std::fs::read(&saved).unwrap(), vec![7; 3 << 20]);
    mesh.cli_ok(&["attachment", "remove", &id]);
    assert!(!mesh.cli_ok(&["attachment", "list"]).contains(&id));
    std::fs::write(&saved, vec![0; (3 << 20) + 1]).unwrap();
    let refused = mesh.cli(&["session", "send", &session, "x", "--attach", saved.to_str().unwrap()]);
    assert!(
        !refused.status.success()
            && String::from_utf8_lossy(&refused.stderr).contains("the limit is 3145728")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_while_its_message_waits_is_missed_and_the_message_goes_without_it() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let (_, session) = create_task(&caller, &repository, "hang").await;
    let id = session.session_id;
    await_session(&caller, &id, |s| s.state() == SessionState::Running).await;
    let (kept, removed) = (put(&caller, "kept.png", PNG).await, put(&caller, "removed.png", PNG).await);
    let send = SendMessageRequest {
        session_id: id.clone(),
        text: "show attachments".into(),
        attachment_ids: vec![removed.clone(), kept],
        request_id: "with files".into(),
    };
    // The provisioner must answer within seconds to keep the files, so a busy machine may cause retries.
    let sent = until_answered("the message", || {
        let (mut client, send) = (caller.task(), send.clone());
        async move { client.send_message(send).await }
    });
    sent.await;
    let delete = DeleteAttachmentRequest { attachment_id: removed, ..Default::default() };
    caller.attachments().delete_attachment(delete).await.unwrap();
    caller.task().stop_turn(StopTurnRequest { session_id: id.clone(), ..Default::default() }).await.unwrap();
    await_session(&caller, &id, |s| s.queue_held && s.state() == SessionState::Idle).await;
    let resume = foundry_proto::task::v1::ResumeQueueRequest { session_id: id.clone(), ..Default::default() };
    caller.task().resume_queue(resume).await.unwrap();
    let entries = await_turns(&caller, &id, 2).await;
    assert_eq!(words(&entries).matches("Attached: picture").count(), 1, "{}", words(&entries));
    let names: Vec<_> = bodies(&entries)
        .filter_map(|b| match b {
            Body::UserMessage(m) => Some(m.attachments.iter().map(|a| a.name.clone()).collect::<Vec<_>>()),
            _ => None,
        })
        .collect();
    assert_eq!(names, [vec![], vec!["removed.png".to_owned(), "kept.png".to_owned()]]);
    // The runtime has the prompt before the notice is written, so a turn that is over at once may end before it.
    await_transcript(&caller, &id, 0, |entries| {
        bodies(entries).any(|b| {
            matches!(b, Body::Notice(n) if n.kind() == NoticeKind::Attachment && n.message.contains("a file of this message"))
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_outlives_a_crash_between_its_upload_and_the_message() {
    let mut mesh = Mesh::start(Shape::Separate, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let id = put(&caller, "a.png", PNG).await;
    mesh.signal("provisioner", rustix::process::Signal::KILL);
    mesh.ended("provisioner");
    let mut request = task_request(&caller, &repository, "show attachments");
    request.attachment_ids = vec![id.clone()];
    request.request_id = "with a file".to_owned();
    let refused = caller.task().create_task(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    mesh.start_again();
    // The other services reconnect to it a little later.
    let created = until_answered("task", || {
        let (mut client, request) = (caller.task(), request.clone());
        async move { client.create_task(request).await }
    });
    let created = created.await;
    let entries = await_turns(&caller, &created.session.unwrap().session_id, 1).await;
    assert!(words(&entries).contains(PNG_HASH), "{}", words(&entries));
    let stranger = mesh.sign_in("eve").await;
    let foreign = stranger.attachments().get_attachment(GetAttachmentRequest { attachment_id: id }).await;
    assert_eq!(foreign.unwrap_err().code(), tonic::Code::NotFound);
}
