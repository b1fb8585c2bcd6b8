//! Choices on their way to an agent.

use serde_json::{Value, json};

use super::*;
use crate::ops::set_agent_session_option::set_agent_session_option;
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;
use foundry_proto::provisioner::v1::SetAgentSessionOptionRequest;

fn offers(mode: &str) -> Value {
    let modes = json!([{"value": "ask", "name": "Ask"}, {"value": "plan", "name": "Plan"}, {"value": "all", "name": "All"}]);
    json!({"sessionId": "s1", "configOptions": [
        {"id": "mode", "name": "Mode", "category": "mode", "type": "select", "currentValue": mode, "options": modes}]})
}

/// A session whose agent offers three modes.
async fn session(f: &Fixture) -> (FakeAgent, Session) {
    let agent = FakeAgent::serve(f).await;
    agent.answers("session/new", Ok(offers("ask")));
    let made = f.ensure().await;
    f.run().await;
    let session = f.session(&made).await;
    f.run().await;
    crate::runtime::drain_log(&f.shared, &session.session_id).await.unwrap();
    let session = f.again(&session).await;
    assert_eq!((session.state, session.offer.options.len()), (SessionState::Ready, 1));
    (agent, session)
}

async fn choose(f: &Fixture, session: &Session, option: &str, value: &str) -> Result<(), Error> {
    let request = SetAgentSessionOptionRequest {
        session_id: session.session_id.to_string(),
        option_id: option.to_owned(),
        value: value.to_owned(),
        ..Default::default()
    };
    set_agent_session_option(&f.shared, &f.task, request).await.map(drop)
}

fn set_to(agent: &FakeAgent) -> Vec<Value> {
    let requests = agent.messages().into_iter().filter(|m| m["method"] == "session/set_config_option");
    requests.map(|m| m["params"]["value"].clone()).collect()
}

#[tokio::test]
async fn a_choice_is_wanted_at_once_and_holds_when_the_agent_says_so() {
    let f = Fixture::new().await;
    let (agent, session) = session(&f).await;
    agent.answers("session/set_config_option", Ok(offers("plan")));
    choose(&f, &session, "mode", "plan").await.unwrap();
    let shown = f.again(&session).await.to_proto().options.unwrap().options.remove(0);
    assert_eq!((shown.value.as_str(), shown.wanted.as_str()), ("ask", "plan"));
    assert_eq!(shown.condition.unwrap().waiting_on, "the agent");
    f.run().await;
    let shown = f.again(&session).await.to_proto().options.unwrap().options.remove(0);
    assert_eq!((shown.value.as_str(), shown.wanted.as_str(), shown.condition), ("plan", "", None));
    assert_eq!(set_to(&agent), ["plan"]);
    choose(&f, &session, "mode", "plan").await.unwrap();
    f.run().await;
    assert_eq!(set_to(&agent), ["plan"], "what holds is not set again");
}

#[tokio::test]
async fn a_refusal_is_shown_with_the_agents_words_and_another_choice_clears_it() {
    let f = Fixture::new().await;
    let (agent, session) = session(&f).await;
    agent.answers("session/set_config_option", Err("plan is for owners".into()));
    choose(&f, &session, "mode", "plan").await.unwrap();
    f.run().await;
    let shown = f.again(&session).await.to_proto().options.unwrap().options.remove(0);
    let condition = shown.condition.unwrap();
    assert_eq!((shown.value.as_str(), condition.reason.as_str()), ("ask", "OPTION_REFUSED"));
    assert!(condition.message.contains("plan is for owners"), "{condition:?}");
    choose(&f, &session, "mode", "ask").await.unwrap();
    let shown = f.again(&session).await.to_proto().options.unwrap().options.remove(0);
    assert_eq!((shown.wanted.as_str(), shown.condition), ("", None));
}

#[tokio::test]
async fn an_agent_that_never_answers_is_given_up_and_a_newer_choice_takes_the_place_of_an_older() {
    let f = Fixture::new().await;
    let (agent, session) = session(&f).await;
    agent.answers("session/set_config_option", Ok(Value::Null));
    choose(&f, &session, "mode", "plan").await.unwrap();
    f.run().await;
    choose(&f, &session, "mode", "all").await.unwrap();
    f.run().await;
    assert_eq!(set_to(&agent), ["plan", "all"]);
    f.env.clock.advance(Duration::from_secs(31));
    f.run().await;
    let shown = f.again(&session).await.to_proto().options.unwrap().options.remove(0);
    assert_eq!(
        (shown.wanted.as_str(), shown.condition.unwrap().reason.as_str()),
        ("all", "OPTION_UNANSWERED")
    );
}

#[tokio::test]
async fn a_choice_made_while_the_agent_is_started_again_waits_for_it() {
    let f = Fixture::new().await;
    let (agent, session) = session(&f).await;
    agent.answers("session/set_config_option", Ok(offers("plan")));
    let set = vec![("state", "interrupted".into())];
    let mut ws = WriteSet::new();
    sessions::update(&mut ws, &session, set);
    f.shared.store.commit(ws).await.unwrap();
    choose(&f, &session, "mode", "plan").await.unwrap();
    f.run().await;
    assert!(set_to(&agent).is_empty());
    let mut ws = WriteSet::new();
    sessions::update(&mut ws, &f.again(&session).await, vec![("state", "ready".into())]);
    crate::runtime::wake(&mut ws, &f.env.env, &session.session_id);
    f.shared.store.commit(ws).await.unwrap();
    f.run().await;
    assert_eq!(set_to(&agent), ["plan"]);
}

#[tokio::test]
async fn what_is_not_offered_is_refused_and_changes_nothing() {
    let f = Fixture::new().await;
    let (_, session) = session(&f).await;
    let before = f.again(&session).await;
    for (option, value, reason) in [
        ("colour", "red", "OPTION_UNKNOWN"),
        ("mode", "telepathy", "INVALID_FIELD"),
        ("mode", "", "INVALID_FIELD"),
    ] {
        let refused = choose(&f, &session, option, value).await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{option} {value}");
    }
    assert_eq!(f.again(&session).await.rev, before.rev);
}

#[tokio::test]
async fn a_flood_of_usage_changes_the_session_once_a_second() {
    let f = Fixture::new().await;
    let (agent, session) = session(&f).await;
    f.env.clock.advance(Duration::from_secs(5));
    let before = f.again(&session).await.rev;
    for used in 0..50 {
        let update = json!({"sessionUpdate": "usage_update", "used": used, "size": 1000});
        let params = json!({"sessionId": "s1", "update": update});
        agent.speaks(&session.session_id, json!({"method": "session/update", "params": params})).await;
    }
    let shown = f.again(&session).await;
    assert_eq!((shown.rev, shown.offer.usage.unwrap().used), (before + 1, 0));
    f.env.clock.advance(Duration::from_secs(1));
    let params =
        json!({"sessionId": "s1", "update": {"sessionUpdate": "usage_update", "used": 50, "size": 1000}});
    agent.speaks(&session.session_id, json!({"method": "session/update", "params": params})).await;
    let shown = f.again(&session).await;
    assert_eq!((shown.rev, shown.offer.usage.unwrap().used), (before + 2, 50));
}
