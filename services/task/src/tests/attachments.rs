//! Files of messages: held before the message is kept, shown in queue and transcript, given to the agent.

use foundry_proto::common::v1::Attachment;

use super::*;

async fn queued(
    running: &Running,
    tenant: &Tenant,
    session_id: &str,
    text: &str,
    files: &[&Attachment],
) -> foundry_core::Result<QueuedMessage> {
    let request = SendMessageRequest {
        session_id: session_id.into(),
        text: text.into(),
        attachment_ids: files.iter().map(|f| f.attachment_id.clone()).collect(),
        ..SendMessageRequest::default()
    };
    let answer = ops::send_message::send_message(&running.cx, &tenant.caller, request).await?;
    Ok(answer.message.unwrap())
}

async fn spoken(running: &Running, tenant: &Tenant, session_id: &str) -> Vec<(String, Vec<Attachment>)> {
    let request = ListTranscriptRequest { session_id: session_id.into(), ..ListTranscriptRequest::default() };
    let answer = ops::list_transcript::list_transcript(&running.cx, &tenant.caller, request).await.unwrap();
    let said = |e: TranscriptEntry| match e.part?.body? {
        Body::UserMessage(m) => Some((m.text, m.attachments)),
        _ => None,
    };
    answer.entries.into_iter().filter_map(said).collect()
}

#[tokio::test]
async fn files_of_prompts_and_messages_reach_the_agent_and_stand_in_the_transcript() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let organization = tenant.organization.to_string();
    let [a, b, c] = ["a.png", "b.png", "c.png"].map(|name| world.provisioner.add_file(&organization, name));
    let request = CreateTaskRequest {
        organization_id: organization,
        repository_id: tenant.repository.to_string(),
        prompt: "look".into(),
        attachment_ids: vec![a.attachment_id.clone()],
        ..CreateTaskRequest::default()
    };
    let created = ops::create_task::create_task(&running.cx, &tenant.caller, request).await.unwrap();
    let (task, session) = ids(&created);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let first = world.provisioner.session(&session).unwrap().message_id;
    assert_eq!(world.provisioner.given(&first), std::slice::from_ref(&a.attachment_id));

    // A message may consist of files alone.
    let message = queued(&running, &tenant, &session, "", &[&c, &b]).await.unwrap();
    assert_eq!(message.attachments, [c.clone(), b.clone()]);
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    let second = message.message_id;
    running.until_session(&tenant, &task, &session, |s| s.message_id == second).await;
    world.provisioner.say(&session, "seen").await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset >= 5).await;
    assert_eq!(world.provisioner.given(&second), [c.attachment_id.clone(), b.attachment_id.clone()]);
    let said = spoken(&running, &tenant, &session).await;
    assert_eq!(said, [("look".to_owned(), vec![a]), (String::new(), vec![c, b])]);
    running.stop().await;
}

#[tokio::test]
async fn a_message_with_files_that_are_not_there_is_refused_and_nothing_is_kept() {
    let world = World::new().await;
    let (tenant, other) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
    let running = world.start().await;
    let created = running.create(&tenant, "hang").await;
    let (task, session) = ids(&created);
    // The first message leaves the queue a moment after its turn is seen to run.
    let begun = |s: &Session| s.state() == SessionState::Running && s.queue_length == 0;
    running.until_session(&tenant, &task, &session, begun).await;
    let mine = world.provisioner.add_file(tenant.organization.as_str(), "mine.png");
    let foreign = world.provisioner.add_file(other.organization.as_str(), "foreign.png");
    let absent = Attachment { attachment_id: format!("att_{}", "0".repeat(32)), ..Attachment::default() };
    let malformed = Attachment { attachment_id: "att_../x".into(), ..Attachment::default() };
    let refusals = [
        (vec![&foreign], "NOT_FOUND"),
        (vec![&mine, &absent], "NOT_FOUND"),
        (vec![&malformed], "INVALID_FIELD"),
        (vec![&mine, &mine], "INVALID_FIELD"),
        (vec![&mine; 11], "INVALID_FIELD"),
    ];
    for (files, reason) in refusals {
        let refused = queued(&running, &tenant, &session, "x", &files).await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{refused}");
    }
    let create = CreateTaskRequest {
        organization_id: tenant.organization.to_string(),
        repository_id: tenant.repository.to_string(),
        prompt: "x".into(),
        attachment_ids: vec![foreign.attachment_id.clone()],
        ..CreateTaskRequest::default()
    };
    let refused = ops::create_task::create_task(&running.cx, &tenant.caller, create).await.unwrap_err();
    assert_eq!(refused.reason(), "NOT_FOUND");
    assert_eq!(queued(&running, &tenant, &session, "", &[]).await.unwrap_err().reason(), "INVALID_FIELD");
    let found = running.get(&tenant, &task).await;
    assert_eq!(found.sessions[0].queue_length, 0);
    running.stop().await;
}

#[tokio::test]
async fn without_the_provisioner_only_messages_with_files_are_refused_for_now() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let created = running.create(&tenant, "hang").await;
    let (task, session) = ids(&created);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let file = world.provisioner.add_file(tenant.organization.as_str(), "a.png");
    let request = SendMessageRequest {
        request_id: "r1".into(),
        session_id: session.clone(),
        text: "x".into(),
        attachment_ids: vec![file.attachment_id.clone()],
    };
    let send = || ops::send_message::send_message(&running.cx, &tenant.caller, request.clone());
    let first = send().await.unwrap();
    // A repeated request makes no call: it succeeds although the file is gone and the provisioner hangs.
    world.provisioner.remove_file(&file.attachment_id);
    world.provisioner.hangs.store(true, Ordering::SeqCst);
    assert_eq!(send().await.unwrap(), first);
    queued(&running, &tenant, &session, "words alone", &[]).await.unwrap();
    let refused = queued(&running, &tenant, &session, "x", &[&file]).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::Unavailable, "PROVISIONER_UNAVAILABLE"));
    running.stop().await;
}

#[tokio::test]
async fn an_edit_of_a_queued_message_keeps_its_files_unless_it_names_others() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let created = running.create(&tenant, "hang").await;
    let (task, session) = ids(&created);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let organization = tenant.organization.to_string();
    let [a, b] = ["a.png", "b.png"].map(|name| world.provisioner.add_file(&organization, name));
    let message_id = queued(&running, &tenant, &session, "one", &[&a]).await.unwrap().message_id;
    let edit = async |text: &str, files: Option<Vec<String>>| {
        let request = UpdateQueuedMessageRequest {
            message_id: message_id.clone(),
            text: text.into(),
            attachments: files.map(|attachment_ids| AttachmentIds { attachment_ids }),
            ..UpdateQueuedMessageRequest::default()
        };
        let edited = ops::update_queued_message::update_queued_message(&running.cx, &tenant.caller, request);
        edited.await.map(|answer| answer.message.unwrap().attachments)
    };
    assert_eq!(edit("two", None).await.unwrap(), std::slice::from_ref(&a));
    assert_eq!(edit("", Some(vec![b.attachment_id.clone()])).await.unwrap(), std::slice::from_ref(&b));
    assert_eq!(edit("", Some(vec![])).await.unwrap_err().reason(), "INVALID_FIELD");
    assert_eq!(edit("three", Some(vec!["att_x".into()])).await.unwrap_err().reason(), "INVALID_FIELD");
    assert_eq!(edit("three", Some(vec![])).await.unwrap(), []);
    // A repeated request gets its first answer, even if the file is gone by now.
    let request = UpdateQueuedMessageRequest {
        request_id: "r1".into(),
        message_id: message_id.clone(),
        text: "four".into(),
        attachments: Some(AttachmentIds { attachment_ids: vec![a.attachment_id.clone()] }),
    };
    let repeated =
        || ops::update_queued_message::update_queued_message(&running.cx, &tenant.caller, request.clone());
    let first = repeated().await.unwrap();
    world.provisioner.remove_file(&a.attachment_id);
    assert_eq!(repeated().await.unwrap(), first);
    running.stop().await;
}
