//! Options of an agent, and forms that it sends.

use std::sync::atomic::Ordering;

use foundry_proto::common::v1::{
    AgentOption, AgentSettings, ElicitationAction, ElicitationField, ElicitationFieldKind,
    ElicitationRequest, ElicitationValue, Role,
};
use foundry_proto::task::v1::*;

use crate::ops;
use crate::testing::{Running, Tenant, World};

async fn running_turn(running: &Running, tenant: &Tenant) -> (String, String) {
    let created = running.create(tenant, "say hi").await;
    let (task, session) = super::ids(&created);
    running.until_session(tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    (task, session)
}

fn mode(session: &Session) -> AgentOption {
    session.options.as_ref().map(|o| o.options[0].clone()).unwrap_or_default()
}

async fn set(
    running: &Running,
    tenant: &Tenant,
    session: &str,
    option: &str,
    value: &str,
) -> foundry_core::Result<Session> {
    let request = SetSessionOptionRequest {
        session_id: session.into(),
        option_id: option.into(),
        value: value.into(),
        ..Default::default()
    };
    let answer = ops::set_session_option::set_session_option(&running.cx, &tenant.caller, request).await?;
    Ok(answer.session.unwrap())
}

#[tokio::test]
async fn a_choice_is_shown_at_once_and_stays_until_the_agents_side_has_it() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = Box::pin(running_turn(&running, &tenant)).await;
    let early = set(&running, &tenant, &session, "mode", "plan").await.unwrap_err();
    assert_eq!(early.reason(), "OPTION_UNKNOWN");
    world.provisioner.offer(&session, &["ask", "plan"]).await;
    running.until_session(&tenant, &task, &session, |s| s.options.is_some()).await;
    world.provisioner.hangs.store(true, Ordering::SeqCst);
    let shown = set(&running, &tenant, &session, "mode", "plan").await.unwrap();
    assert_eq!((mode(&shown).value.as_str(), mode(&shown).wanted.as_str()), ("ask", "plan"));
    running.crash().await;
    world.provisioner.hangs.store(false, Ordering::SeqCst);
    let running = world.start().await;
    running
        .until_session(&tenant, &task, &session, |s| mode(s).wanted == "plan" && mode(s).condition.is_none())
        .await;
    let wanted = world.provisioner.session(&session).unwrap().options.unwrap().options.remove(0).wanted;
    assert_eq!(wanted, "plan", "it survived the restart and arrived");
    for (option, value) in [("mode", "telepathy"), ("mode", ""), ("colour", "red")] {
        assert!(set(&running, &tenant, &session, option, value).await.is_err(), "{option} {value}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_choice_that_the_agents_side_refuses_says_why() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = Box::pin(running_turn(&running, &tenant)).await;
    world.provisioner.offer(&session, &["ask", "plan"]).await;
    running.until_session(&tenant, &task, &session, |s| s.options.is_some()).await;
    world.provisioner.refuses_answers.store(true, Ordering::SeqCst);
    set(&running, &tenant, &session, "mode", "plan").await.unwrap();
    let refused = |s: &Session| mode(s).condition.is_some_and(|c| c.reason == "OPTION_UNKNOWN");
    running.until_session(&tenant, &task, &session, refused).await;
    running.stop().await;
}

#[tokio::test]
async fn a_form_is_answered_once_and_can_be_answered_again_when_the_answer_was_not_taken() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = Box::pin(running_turn(&running, &tenant)).await;
    let field = ElicitationField {
        name: "name".into(),
        kind: ElicitationFieldKind::Text.into(),
        required: true,
        ..Default::default()
    };
    let form = ElicitationRequest {
        elicitation_id: "form-1".into(),
        message: "Who?".into(),
        fields: vec![field],
        ..Default::default()
    };
    world.provisioner.elicit(&session, Some(form)).await;
    let waits = running.until_session(&tenant, &task, &session, |s| s.pending_elicitation.is_some()).await;
    assert_eq!(waits.condition.unwrap().reason, "ANSWER_WANTED");
    let answer = |value: &str| RespondToElicitationRequest {
        session_id: session.clone(),
        elicitation_id: "form-1".into(),
        action: ElicitationAction::Accept.into(),
        values: vec![ElicitationValue { name: "name".into(), values: vec![value.to_owned()] }],
        ..Default::default()
    };
    let respond = ops::respond_to_elicitation::respond_to_elicitation;
    let empty = respond(&running.cx, &tenant.caller, answer("")).await.unwrap_err();
    assert!(empty.to_string().contains("name"), "{empty}");
    world.provisioner.refuses_answers.store(true, Ordering::SeqCst);
    let after = respond(&running.cx, &tenant.caller, answer("Ann")).await.unwrap().session.unwrap();
    assert_eq!(after.pending_elicitation, None);
    running.until_session(&tenant, &task, &session, |s| s.pending_elicitation.is_some()).await;
    world.provisioner.refuses_answers.store(false, Ordering::SeqCst);
    respond(&running.cx, &tenant.caller, answer("Ann")).await.unwrap();
    let late = respond(&running.cx, &tenant.caller, answer("Bob")).await.unwrap_err();
    assert_eq!(late.reason(), "ELICITATION_NOT_PENDING");
    running
        .until_session(&tenant, &task, &session, |s| s.condition.as_ref().unwrap().reason.is_empty())
        .await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_chosen_at_creation_reaches_the_agents_side() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let settings = AgentSettings { model: "m1".into(), mode: "plan".into(), effort: "high".into() };
    let request = CreateTaskRequest {
        organization_id: tenant.organization.to_string(),
        repository_id: tenant.repository.to_string(),
        prompt: "say hi".into(),
        settings: Some(settings.clone()),
        ..CreateTaskRequest::default()
    };
    let made = ops::create_task::create_task(&running.cx, &tenant.caller, request.clone()).await.unwrap();
    let (task, session) = super::ids(&made);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    assert_eq!(world.provisioner.settings(&session), Some(settings));
    let long = Some(AgentSettings { model: "m".repeat(121), ..Default::default() });
    let long = CreateTaskRequest { settings: long, ..request };
    assert!(ops::create_task::create_task(&running.cx, &tenant.caller, long).await.is_err());
    running.stop().await;
}
