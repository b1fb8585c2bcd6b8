use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;

/// A session that is ready; its agent's questions are declined.
async fn ready(f: &Fixture) -> (FakeAgent, Session) {
    let agent = FakeAgent::serve(f).await;
    let made = f.ensure().await;
    f.run().await;
    let session = f.session(&made).await;
    f.run().await;
    (agent, f.again(&session).await)
}

fn asks(ids: std::ops::Range<i64>) -> impl Iterator<Item = Value> {
    ids.map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"mode": "telepathy"}}))
}

/// The ids under which the agent took an answer, in order.
fn answered(agent: &FakeAgent) -> Vec<i64> {
    let answers = agent.messages().into_iter().filter(|m| m.get("method").is_none());
    answers.filter_map(|m| m["id"].as_i64()).collect()
}

async fn later(f: &Fixture) {
    for _ in 0..10 {
        f.env.clock.advance(Duration::from_secs(40));
        f.run().await;
    }
}

#[tokio::test]
async fn an_agent_that_does_not_read_is_tried_with_one_answer_of_one_job_at_a_time() {
    let f = Fixture::new().await;
    let (agent, session) = ready(&f).await;
    agent.takes(Some(0));
    for stretch in 0..5 {
        agent.says_all(&session.session_id, asks(stretch * 100..(stretch + 1) * 100)).await;
    }
    f.run().await;
    assert_eq!(agent.refused(), 1);
    f.env.clock.advance(Duration::from_millis(500));
    f.run().await;
    assert_eq!(agent.refused(), 2);
    agent.takes(None);
    later(&f).await;
    assert_eq!(answered(&agent), (0..500).collect::<Vec<_>>(), "not in order");
}

#[tokio::test]
async fn many_answers_are_given_in_shares_and_a_share_that_was_given_stays_given() {
    let f = Fixture::new().await;
    let (agent, session) = ready(&f).await;
    let share = i64::try_from(SHARE).unwrap();
    agent.takes(Some(SHARE + 1));
    agent.says_all(&session.session_id, asks(0..2 * share + 1)).await;
    f.run().await;
    assert_eq!((answered(&agent).len(), agent.refused()), (SHARE + 1, 1));
    agent.takes(None);
    later(&f).await;
    let twice = share..share + 1;
    assert_eq!(
        answered(&agent),
        (0..share + 1).chain(twice).chain(share + 1..2 * share + 1).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn no_more_jobs_wait_for_an_agent_than_it_may_have() {
    let f = Fixture::new().await;
    let (agent, session) = ready(&f).await;
    agent.takes(Some(0));
    let most = i64::try_from(MAX_WAITING).unwrap();
    for id in 0..most + 5 {
        agent.says_all(&session.session_id, asks(id..id + 1)).await;
    }
    let waiting = unfinished(&f.shared.store, &DECLINE, session.session_id.as_str()).await.unwrap();
    assert_eq!(waiting.len(), MAX_WAITING);
    agent.takes(None);
    f.run().await;
    assert_eq!(answered(&agent), (0..most).collect::<Vec<_>>());
    agent.says_all(&session.session_id, asks(1_000..1_001)).await;
    f.run().await;
    assert_eq!(answered(&agent).last(), Some(&1_000), "an agent that reads again is answered again");
}
