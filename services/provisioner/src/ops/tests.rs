//! The ops on a real database with a provider in memory.

mod profile;

use foundry_core::{Code, MessageId};
use foundry_proto::common::v1::TurnOutcome;
use foundry_proto::provisioner::v1 as p;

use super::*;
use crate::domain::{SandboxState, SessionState};
use crate::testing::Fixture;

fn destroy(id: &str) -> p::DestroySandboxRequest {
    p::DestroySandboxRequest { sandbox_id: id.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_task_has_one_living_sandbox_however_often_it_asks() {
    let f = Fixture::new().await;
    let wanted = p::EnsureSandboxRequest { request_id: "r1".into(), ..f.wanted() };
    let ask = |w: p::EnsureSandboxRequest| ensure_sandbox::ensure_sandbox(&f.shared, &f.task, w);
    let (a, b) = tokio::join!(
        ask(wanted.clone()),
        ask(p::EnsureSandboxRequest { request_id: "r2".into(), ..wanted.clone() })
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.sandbox.as_ref().unwrap().sandbox_id, b.sandbox.unwrap().sandbox_id);
    let again = ask(wanted.clone()).await.unwrap();
    assert_eq!(again, a, "the first answer, its revision too");
    assert!(a.rev > 0);
    let other = p::EnsureSandboxRequest { branch: "feat/other".into(), ..wanted.clone() };
    assert_eq!(ask(other).await.unwrap_err().reason(), "REQUEST_ID_REUSED");

    f.run().await;
    let id = a.sandbox.unwrap().sandbox_id;
    assert_eq!(f.sandbox(&id).await.state, SandboxState::Ready);
    // No runtime answers in this test, so there is no work to save.
    f.provider.kill(&id);
    destroy_sandbox::destroy_sandbox(&f.shared, &f.task, destroy(&id)).await.unwrap();
    f.run().await;
    let next = ask(p::EnsureSandboxRequest { request_id: String::new(), ..wanted }).await.unwrap();
    assert_ne!(next.sandbox.unwrap().sandbox_id, id, "the destroyed one is history");
}

#[tokio::test]
async fn refuses_what_makes_no_sense_and_writes_nothing() {
    let f = Fixture::new().await;
    let good = f.wanted();
    let bad = [
        p::EnsureSandboxRequest { organization_id: "org_1".into(), ..good.clone() },
        p::EnsureSandboxRequest { task_id: "../x".into(), ..good.clone() },
        p::EnsureSandboxRequest { repository_id: String::new(), ..good.clone() },
        p::EnsureSandboxRequest { branch: String::new(), ..good.clone() },
        p::EnsureSandboxRequest { branch: "--upload-pack=x".into(), ..good.clone() },
        p::EnsureSandboxRequest { base_branch: "a..b".into(), ..good.clone() },
        p::EnsureSandboxRequest { provider: "moon".into(), ..good.clone() },
        p::EnsureSandboxRequest { agent: "hal".into(), ..good.clone() },
        p::EnsureSandboxRequest { user_id: "root".into(), ..good.clone() },
        p::EnsureSandboxRequest { request_id: "x".repeat(201), ..good },
    ];
    for request in bad {
        let e = ensure_sandbox::ensure_sandbox(&f.shared, &f.task, request.clone()).await.unwrap_err();
        assert_eq!(e.code(), Code::InvalidArgument, "{request:?}: {e}");
    }
    assert!(sandboxes::living(&f.shared.store).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_foreign_sandbox_answers_as_an_absent_one() {
    let f = Fixture::new().await;
    let id = f.ensure().await.sandbox_id.to_string();
    let s = &f.stranger;
    let get = get_sandbox::get_sandbox(&f.shared, s, p::GetSandboxRequest { sandbox_id: id.clone() }).await;
    let retry = p::RetrySandboxRequest { sandbox_id: id.clone(), ..Default::default() };
    let retry = retry_sandbox::retry_sandbox(&f.shared, s, retry).await;
    let gone = destroy_sandbox::destroy_sandbox(&f.shared, s, destroy(&id)).await;
    let mut watch = p::WatchSandboxRequest { sandbox_id: id, options: None };
    let watch = watch_sandbox::grant(&f.shared, s, &mut watch).await;
    let list = p::ListSandboxesRequest { organization_id: f.organization.to_string(), ..Default::default() };
    let list = list_sandboxes::list_sandboxes(&f.shared, s, list).await;
    let codes = [
        get.err().map(|e| e.code()),
        retry.err().map(|e| e.code()),
        gone.err().map(|e| e.code()),
        watch.err().map(|e| e.code()),
        list.err().map(|e| e.code()),
    ];
    assert_eq!(codes, [Some(Code::NotFound); 5]);
}

#[tokio::test]
async fn a_retry_makes_the_next_attempt_now_and_refuses_what_waits_for_none() {
    let f = Fixture::new().await;
    f.provider.host().flaky.insert("install_agent");
    let made = f.ensure().await;
    let id = made.sandbox_id.to_string();
    let retry = || {
        let request = p::RetrySandboxRequest { sandbox_id: id.clone(), ..Default::default() };
        retry_sandbox::retry_sandbox(&f.shared, &f.task, request)
    };
    assert_eq!(retry().await.unwrap_err().reason(), "NOT_FAILED");
    f.run().await;
    assert!(f.sandbox(&id).await.condition.next_attempt_time.is_some());
    f.provider.host().flaky.clear();
    f.run().await;
    assert_eq!(f.sandbox(&id).await.state, SandboxState::InstallingAgent, "the time has not come");
    retry().await.unwrap();
    f.run().await;
    assert_eq!(f.sandbox(&id).await.state, SandboxState::Ready);

    // Nothing answers at the runtime's port.
    let session = f.session(&made).await.session_id;
    f.run().await;
    let find = async || sessions::find(&f.shared.store, &session).await.unwrap().unwrap();
    let first = find().await;
    assert_eq!((first.state, first.condition.attempt), (SessionState::Creating, 1), "{first:?}");
    let request = p::RetryAgentSessionRequest { session_id: session.to_string(), ..Default::default() };
    retry_agent_session::retry_agent_session(&f.shared, &f.task, request).await.unwrap();
    f.run().await;
    assert_eq!(find().await.condition.attempt, 2);
}

#[tokio::test]
async fn lists_by_pages_newest_first() {
    let f = Fixture::new().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        f.env.clock.advance(std::time::Duration::from_millis(2));
        made.push(f.ensure().await.sandbox_id.to_string());
    }
    made.reverse();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = p::ListSandboxesRequest {
            organization_id: f.organization.to_string(),
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let page = list_sandboxes::list_sandboxes(&f.shared, &f.task, request).await.unwrap();
        seen.extend(page.sandboxes.into_iter().map(|s| s.sandbox_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_sandbox_holds_ten_open_sessions() {
    let f = Fixture::new().await;
    let sandbox = f.ensure().await;
    let mut last = None;
    for _ in 0..10 {
        last = Some(f.session(&sandbox).await);
    }
    let create = || p::CreateAgentSessionRequest {
        sandbox_id: sandbox.sandbox_id.to_string(),
        session_id: SessionId::generate(&f.env.env).to_string(),
        ..Default::default()
    };
    let full = create_agent_session::create_agent_session(&f.shared, &f.task, create()).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    let session_id = last.unwrap().session_id.to_string();
    let close = p::CloseAgentSessionRequest { session_id, ..Default::default() };
    close_agent_session::close_agent_session(&f.shared, &f.task, close).await.unwrap();
    create_agent_session::create_agent_session(&f.shared, &f.task, create()).await.unwrap();
}

#[tokio::test]
async fn a_prompt_needs_a_ready_session_and_fits_a_size() {
    let f = Fixture::new().await;
    let sandbox = f.ensure().await;
    let session = f.session(&sandbox).await;
    let prompt = |text: String| p::PromptAgentSessionRequest {
        session_id: session.session_id.to_string(),
        message_id: MessageId::generate(&f.env.env).to_string(),
        text,
        ..Default::default()
    };
    let send = |r| prompt_agent_session::prompt_agent_session(&f.shared, &f.task, r);
    assert_eq!(send(prompt("hi".into())).await.unwrap_err().reason(), "SESSION_NOT_READY");
    for text in [String::new(), "x".repeat((256 << 10) + 1)] {
        assert_eq!(send(prompt(text)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    f.made_ready(&session).await;
    let first = prompt("hi".into());
    let answer = send(first.clone()).await.unwrap();
    assert_eq!(answer.agent_session.unwrap().turn_count, 1);
    assert_eq!(send(prompt("more".into())).await.unwrap_err().reason(), "TURN_RUNNING");
    send(first).await.unwrap();
    assert_eq!(f.again(&session).await.turn_count, 1, "the same message is one turn");
}

#[tokio::test]
async fn destroys_in_every_state_and_cuts_the_turn() {
    // How far the sandbox is when it is destroyed: the provider's call that fails, if any.
    for failing in ["", "allocate", "prepare_repo", "install_agent", "start_agent", "not even begun"] {
        let f = Fixture::new().await;
        f.provider.host().failing.extend(Some(failing).filter(|s| !s.is_empty()));
        let sandbox = f.ensure().await;
        let id = sandbox.sandbox_id.to_string();
        let session = f.made_ready(&f.session(&sandbox).await).await;
        if failing != "not even begun" {
            f.run().await;
        }
        let text = p::PromptAgentSessionRequest {
            session_id: session.session_id.to_string(),
            message_id: MessageId::generate(&f.env.env).to_string(),
            text: "hi".into(),
            ..Default::default()
        };
        prompt_agent_session::prompt_agent_session(&f.shared, &f.task, text).await.unwrap();
        // No runtime answers in this test, so there is no work to save.
        f.provider.kill(&id);
        let answer = destroy_sandbox::destroy_sandbox(&f.shared, &f.task, destroy(&id)).await.unwrap();
        assert_eq!(answer.sandbox.unwrap().state(), p::SandboxState::Destroying, "{failing}");
        f.run().await;
        let gone = f.sandbox(&id).await;
        assert_eq!(gone.state, SandboxState::Destroyed, "{failing}: {:?}", gone.condition);
        assert!(gone.destroy_time.is_some() && f.provider.names().is_empty());
        let closed = f.again(&session).await;
        assert_eq!((closed.state, closed.last_offset), (SessionState::Closed, 1));
        let rows = "SELECT outcome FROM turns WHERE state = 'ended'";
        let turns = f.shared.store.query(rows, &[]).await.unwrap();
        assert_eq!(turns[0].int("outcome").unwrap(), i64::from(i32::from(TurnOutcome::Cancelled)));
    }
}

#[tokio::test]
async fn lists_agents_with_what_they_miss() {
    let f = Fixture::new().await;
    let list = p::ListAgentsRequest::default();
    let agents = list_agents::list_agents(&f.shared, &f.member, list).await.unwrap().agents;
    assert_eq!((agents[0].name.as_str(), agents[0].available), ("demo", true));
    // The environment of the fixture has a key for Anthropic's models, and none for Gemini's.
    for (name, available, kinds) in [("claude", true, ["anthropic"]), ("gemini", false, ["gemini"])] {
        let agent = agents.iter().find(|a| a.name == name).unwrap();
        assert_eq!(
            (agent.available, &agent.missing_credentials[..]),
            (available, &kinds.map(str::to_owned)[..])
        );
    }
    let request = p::ListProvidersRequest {};
    let providers = list_providers::list_providers(&f.shared, &f.member, request).await.unwrap().providers;
    assert_eq!((providers[0].name.as_str(), providers[0].available), ("local", true));
}

#[tokio::test]
async fn an_agent_is_usable_with_a_model_provider_of_its_organization_alone() {
    let f = Fixture::new().await;
    let usable = async |caller: &Caller, organization_id: String| {
        let list = p::ListAgentsRequest { organization_id };
        let agents = list_agents::list_agents(&f.shared, caller, list).await?.agents;
        let agents = agents.into_iter().filter(|a| a.available);
        Ok::<_, Error>(agents.map(|a| a.name).collect::<Vec<_>>())
    };
    let (ours, theirs) =
        (f.organization.to_string(), f.stranger.memberships()[0].organization_id.to_string());
    assert!(!usable(&f.member, ours.clone()).await.unwrap().contains(&"codex".to_owned()));
    // Of the kind openai-compatible.
    f.model_provider("work", "key-canary-0000000000").await;
    assert!(usable(&f.member, ours.clone()).await.unwrap().contains(&"codex".to_owned()));
    for elsewhere in [(&f.stranger, theirs), (&f.member, String::new())] {
        let found = usable(elsewhere.0, elsewhere.1).await.unwrap();
        assert!(!found.contains(&"codex".to_owned()) && found.contains(&"claude".to_owned()), "{found:?}");
    }
    assert_eq!(usable(&f.stranger, ours).await.unwrap_err().code(), Code::NotFound);
}
