//! Choices in a conversation, and forms, with the real runtime and the demo agent.

use foundry_proto::common::v1::{
    AgentOption, AgentSettings, ElicitationAction, ElicitationValue, NoticeKind, TurnOutcome,
};
use foundry_proto::provisioner::v1 as p;

use crate::turns::destroy;
use crate::world::{Life, Seen, World};

fn option(seen: &Seen, id: &str) -> AgentOption {
    let options = seen.session.options.clone().unwrap_or_default().options;
    options.into_iter().find(|o| o.option_id == id).unwrap_or_default()
}

async fn set(life: &mut Life, session: &str, option: &str, value: &str) {
    let request = p::SetAgentSessionOptionRequest {
        session_id: session.to_owned(),
        option_id: option.to_owned(),
        value: value.to_owned(),
        ..Default::default()
    };
    life.client.set_agent_session_option(request).await.unwrap();
}

/// Grants the agent's pending request.
async fn allow(life: &mut Life, session: &str, seen: &Seen) {
    let asked = seen.session.pending_permission.as_ref().unwrap();
    let request = p::RespondToPermissionRequest {
        session_id: session.to_owned(),
        permission_id: asked.permission_id.clone(),
        option_id: asked.options[0].option_id.clone(),
        ..Default::default()
    };
    life.client.respond_to_permission(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chooses_in_a_turn_keeps_it_over_a_crash_and_fills_in_forms_over_a_restart() {
    let world = World::new();
    let mut life = world.start().await;
    let sandbox = world.ensure(&mut life, "local").await;
    let request = p::CreateAgentSessionRequest {
        sandbox_id: sandbox.sandbox_id.clone(),
        session_id: foundry_core::SessionId::generate(&world.env).to_string(),
        settings: Some(AgentSettings {
            effort: "high".into(),
            mode: "telepathic".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let session = request.session_id.clone();
    life.client.create_agent_session(request).await.unwrap();
    let seen = life.watch_until(&session, "what is offered", |s| s.session.options.is_some()).await;
    assert_eq!(
        (option(&seen, "mode").value.as_str(), option(&seen, "effort").value.as_str()),
        ("usual", "high")
    );
    assert_eq!(seen.notices(), [NoticeKind::SettingRefused], "the agent has no such mode, and that is said");
    let seen = life
        .watch_until(&session, "commands", |s| {
            s.session.options.as_ref().is_some_and(|o| o.commands.iter().any(|c| c.name == "form"))
        })
        .await;
    assert_eq!(option(&seen, "model").choices.len(), 3);

    // Another model in the running turn, while it waits for an answer; it affects what the agent says next.
    life.prompt(&session, "title: Shouting\nuse 5000 tokens\nask for permission\nsay can you hear me").await;
    let asking = life.watch_until(&session, "a question", |s| s.session.pending_permission.is_some()).await;
    set(&mut life, &session, "model", "demo-loud").await;
    life.watch_until(&session, "the other model", |s| option(s, "model").value == "demo-loud").await;
    allow(&mut life, &session, &asking).await;
    let seen = life.watch_until(&session, "the end", |s| s.ends().len() == 1).await;
    assert!(seen.words().contains("CAN YOU HEAR ME"), "{}", seen.words());
    let seen = life.watch_until(&session, "its usage", |s| s.session.usage.is_some()).await;
    let usage = seen.session.usage.clone().unwrap();
    assert_eq!((usage.used, usage.cost_micros, seen.session.title.as_str()), (5_000, 50_000, "Shouting"));

    // A choice that the agent refuses is shown as refused.
    set(&mut life, &session, "model", "demo-locked").await;
    let refused = |s: &Seen| option(s, "model").condition.is_some_and(|c| c.reason == "OPTION_REFUSED");
    let seen = life.watch_until(&session, "the refusal", refused).await;
    assert!(option(&seen, "model").condition.unwrap().message.contains("this model is locked"));

    // A new process of the agent gets the choices before it works.
    set(&mut life, &session, "model", "demo-loud").await;
    life.prompt(&session, "crash").await;
    let ready = |s: &Seen| s.ends().len() == 2 && s.state() == p::AgentSessionState::Ready;
    life.watch_until(&session, "a new agent", ready).await;
    life.prompt(&session, "say still loud").await;
    let seen = life.watch_until(&session, "the end", |s| s.ends().len() == 3).await;
    assert!(seen.words().contains("STILL LOUD"), "{}", seen.words());

    // A form outlives a restart of the mesh; one that cannot be shown is declined at once.
    life.prompt(&session, "ask for a web page\nask for a form").await;
    life.watch_until(&session, "a form", |s| s.session.pending_elicitation.is_some()).await;
    life.stop().await;
    let mut life = world.start().await;
    let seen = life.watch_until(&session, "the form", |s| s.session.pending_elicitation.is_some()).await;
    assert!(seen.notices().contains(&NoticeKind::QuestionDeclined));
    let form = seen.session.pending_elicitation.clone().unwrap();
    let fill = |name: &str, value: &str| ElicitationValue { name: name.into(), values: vec![value.into()] };
    let answer = p::RespondToElicitationRequest {
        session_id: session.clone(),
        elicitation_id: form.elicitation_id.clone(),
        action: ElicitationAction::Accept.into(),
        values: vec![fill("name", "Bergamot"), fill("kind", "patch"), fill("reviewers", "2")],
        ..Default::default()
    };
    life.client.respond_to_elicitation(answer).await.unwrap();
    let seen = life.watch_until(&session, "the end", |s| s.ends().len() == 4).await;
    assert_eq!(seen.ends()[3].outcome(), TurnOutcome::Completed);
    assert!(seen.words().contains("BERGAMOT"), "{}", seen.words());

    // A stop voids the form.
    life.prompt(&session, "ask for a form").await;
    life.watch_until(&session, "a form", |s| s.session.pending_elicitation.is_some()).await;
    let cancel = p::CancelPromptRequest { session_id: session.clone(), ..Default::default() };
    life.client.cancel_prompt(cancel).await.unwrap();
    let seen = life.watch_until(&session, "the cancel", |s| s.ends().len() == 5).await;
    assert_eq!((seen.ends()[4].outcome(), seen.session.pending_elicitation), (TurnOutcome::Cancelled, None));
    destroy(&mut life, &sandbox.sandbox_id).await;
    life.stop().await;
}
