//! Forms: asked, answered, declined, given up.

use foundry_core::MessageId;
use foundry_proto::common::v1::{ElicitationValue, NoticeKind};
use foundry_proto::provisioner::v1 as p;
use serde_json::{Value, json};

use super::*;
use crate::domain::SessionState;
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

/// A session whose agent does not end its turn.
async fn in_a_turn(f: &Fixture) -> (FakeAgent, Session) {
    let agent = FakeAgent::serve(f).await;
    agent.answers("session/prompt", Ok(Value::Null));
    // The hand-over of the work after the turn is not under test here.
    agent.says(1, "");
    let made = f.ensure().await;
    f.run().await;
    let session = f.session(&made).await;
    f.run().await;
    let prompt = p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: MessageId::generate(&f.env.env).to_string(),
        text: "hi".into(),
        ..Default::default()
    };
    crate::ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
    f.run().await;
    (agent, f.again(&session).await)
}

fn asks(id: i64, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params})
}

fn form() -> Value {
    let properties = json!({"name": {"type": "string"}, "sure": {"type": "boolean"}});
    json!({"mode": "form", "sessionId": "s1", "message": "Who?",
        "requestedSchema": {"type": "object", "properties": properties, "required": ["name"]}})
}

fn filled(session: &Session, name: &str) -> RespondToElicitationRequest {
    RespondToElicitationRequest {
        session_id: session.session_id.to_string(),
        elicitation_id: session
            .pending_elicitation
            .as_ref()
            .map(|e| e.elicitation_id.clone())
            .unwrap_or_default(),
        action: ElicitationAction::Accept.into(),
        values: vec![ElicitationValue { name: "name".into(), values: vec![name.to_owned()] }],
        ..Default::default()
    }
}

/// The answers that the agent got under this id.
fn answers(agent: &FakeAgent, id: i64) -> Vec<Value> {
    let ours = |m: &Value| m["id"] == id && m.get("method").is_none();
    agent.messages().into_iter().filter(ours).map(|m| m["result"].clone()).collect()
}

#[tokio::test]
async fn a_form_waits_is_answered_once_and_the_answer_reaches_the_agent() {
    let f = Fixture::new().await;
    let (agent, session) = in_a_turn(&f).await;
    agent.speaks(&session.session_id, asks(7, form())).await;
    let waits = f.again(&session).await;
    assert_eq!(waits.pending_elicitation.as_ref().unwrap().message, "Who?");
    assert_eq!(waits.condition.reason, "ANSWER_PENDING");
    let empty = respond_to_elicitation(&f.shared, &f.task, filled(&waits, "")).await.unwrap_err();
    assert!(empty.to_string().contains("name"), "{empty}");
    respond_to_elicitation(&f.shared, &f.task, filled(&waits, "Ann")).await.unwrap();
    f.run().await;
    let after = f.again(&session).await;
    assert_eq!((after.pending_elicitation, after.condition.reason.as_str()), (None, ""));
    respond_to_elicitation(&f.shared, &f.task, filled(&waits, "Ann")).await.unwrap();
    let late = respond_to_elicitation(&f.shared, &f.task, filled(&waits, "Bob")).await.unwrap_err();
    assert_eq!(late.reason(), "ELICITATION_CLOSED");
    f.run().await;
    assert_eq!(answers(&agent, 7), [json!({"action": "accept", "content": {"name": "Ann"}})]);
}

#[tokio::test]
async fn what_cannot_be_shown_is_declined_at_once_with_a_notice() {
    let f = Fixture::new().await;
    let (agent, session) = in_a_turn(&f).await;
    let url = json!({"mode": "url", "sessionId": "s1", "message": "m", "elicitationId": "e", "url": "https://example.com"});
    agent.speaks(&session.session_id, asks(8, url)).await;
    f.run().await;
    assert_eq!(answers(&agent, 8), [json!({"action": "decline"})]);
    let after = f.again(&session).await;
    assert_eq!((after.pending_elicitation, after.state), (None, SessionState::Running));
    let parts = events::newest(&f.shared.store, &session.session_id).await.unwrap();
    let Some(Body::Notice(notice)) = &parts.last().unwrap().body else { panic!("{parts:?}") };
    assert_eq!(notice.kind(), NoticeKind::QuestionDeclined);
    assert!(notice.message.contains("web page"), "{}", notice.message);
}

#[tokio::test]
async fn a_form_outside_a_turn_is_declined() {
    let f = Fixture::new().await;
    let (agent, session) = in_a_turn(&f).await;
    let end = json!({"jsonrpc": "2.0", "id": session.message_id, "result": {"stopReason": "end_turn"}});
    agent.speaks(&session.session_id, end).await;
    agent.speaks(&session.session_id, asks(9, form())).await;
    f.run().await;
    assert_eq!(answers(&agent, 9), [json!({"action": "decline"})]);
}

async fn jobs(f: &Fixture, kind: &'static str) -> usize {
    f.shared.store.query("SELECT flow_id FROM flows WHERE kind = $1", &[kind.into()]).await.unwrap().len()
}

#[tokio::test]
async fn a_flood_of_questions_that_are_declined_is_one_job_and_few_words() {
    let f = Fixture::new().await;
    let (agent, session) = in_a_turn(&f).await;
    let before = events::newest(&f.shared.store, &session.session_id).await.unwrap().len();
    let strange = json!({"mode": "telepathy", "sessionId": "s1", "message": "m"});
    agent.says_all(&session.session_id, (100..600).map(|id| asks(id, strange.clone()))).await;
    let (answers_of_people, declines) = ("permission_answer", "question_decline");
    assert_eq!((jobs(&f, answers_of_people).await, jobs(&f, declines).await), (0, 1));
    f.run().await;
    assert!((100..600).all(|id| answers(&agent, id) == [json!({"action": "decline"})]));
    let parts = events::newest(&f.shared.store, &session.session_id).await.unwrap().split_off(before);
    assert_eq!(parts.len(), 20, "{parts:?}");
    let Some(Body::Notice(last)) = &parts.last().unwrap().body else { panic!("{parts:?}") };
    assert!(last.message.contains("further ones are not shown"), "{}", last.message);
}

#[tokio::test]
async fn each_declined_question_is_answered_also_when_it_is_no_longer_told() {
    let f = Fixture::new().await;
    let (agent, session) = in_a_turn(&f).await;
    let strange = json!({"mode": "telepathy", "sessionId": "s1", "message": "m"});
    for id in 100..125 {
        agent.speaks(&session.session_id, asks(id, strange.clone())).await;
    }
    f.run().await;
    let unanswered: Vec<i64> = (100..125).filter(|id| answers(&agent, *id).len() != 1).collect();
    assert_eq!(unanswered, [0; 0]);
}

#[tokio::test]
async fn what_is_asked_outside_a_turn_is_answered_also_before_the_session_is_ready() {
    let f = Fixture::new().await;
    let agent = FakeAgent::serve(&f).await;
    let made = f.ensure().await;
    f.run().await;
    let session = f.session(&made).await;
    f.run().await;
    // As when the agent asks just after it has opened its session.
    let creating = vec![("state", SessionState::Creating.as_str().into())];
    let mut ws = foundry_store::WriteSet::new();
    crate::store::sessions::update(&mut ws, &f.again(&session).await, creating);
    f.shared.store.commit(ws).await.unwrap();
    let options = json!([{"optionId": "yes", "name": "Yes", "kind": "allow_once"}]);
    let permission = json!({"jsonrpc": "2.0", "id": 8, "method": "session/request_permission",
        "params": {"sessionId": "s1", "toolCall": {"toolCallId": "t"}, "options": options}});
    agent.says_all(&session.session_id, [asks(7, form()), permission]).await;
    f.run().await;
    assert_eq!(answers(&agent, 7), [json!({"action": "decline"})]);
    assert_eq!(answers(&agent, 8), [json!({"outcome": {"outcome": "cancelled"}})]);
}

#[tokio::test]
async fn the_end_of_the_turn_gives_the_form_up() {
    let f = Fixture::new().await;
    let (agent, session) = in_a_turn(&f).await;
    agent.speaks(&session.session_id, asks(7, form())).await;
    let waits = f.again(&session).await;
    let end = json!({"jsonrpc": "2.0", "id": session.message_id, "result": {"stopReason": "end_turn"}});
    agent.speaks(&session.session_id, end).await;
    assert_eq!(f.again(&session).await.pending_elicitation, None);
    let late = respond_to_elicitation(&f.shared, &f.task, filled(&waits, "Ann")).await.unwrap_err();
    assert_eq!(late.reason(), "ELICITATION_CLOSED");
}
