//! What a model provider's answers do to the sessions that use it.

use std::time::Duration;

use foundry_core::{MessageId, SessionId, Timestamp};
use foundry_flow::{Engine, Options};
use foundry_model_gateway::{
    Access, ConditionKind, Credential, Kind, Ledger as _, ModelCondition, Owner, Refused, SandboxProof, Usage,
};
use foundry_proto::common::v1::{Role, TurnOutcome};
use foundry_proto::provisioner::v1 as p;
use foundry_sandbox::{RuntimeFacts, RuntimeKey};

use super::condition::record;
use super::mcp_tests::ledger;
use crate::domain::{Session, SessionState};
use crate::store::{sandboxes, sessions};
use crate::testing::Fixture;
use crate::testing::agent::FakeAgent;
use crate::testing::profiles::user;
use crate::{flow, ops};

const HOUR: Duration = Duration::from_secs(3600);
const KEY: &str = "sk-canary-0123456789-last";

/// Tasks whose sessions all use one model provider.
struct World {
    f: Fixture,
    agent: FakeAgent,
    provider: String,
    sessions: Vec<Session>,
}

impl World {
    async fn new(tasks: usize) -> Self {
        let f = Fixture::new().await;
        let agent = FakeAgent::serve(&f).await;
        // The agent's answer to the hand-over of work at the end of a turn.
        agent.says(0, "");
        let provider = f.model_provider("work", KEY).await.model_provider_id;
        let mut all = Vec::new();
        for _ in 0..tasks {
            let sandbox = f.ensure().await;
            f.run().await;
            let session = f.session(&sandbox).await;
            f.run().await;
            // The agent's messages are recorded at the same time, so conflicts are retried.
            let choose = || async {
                let mut ws = foundry_store::WriteSet::new();
                let set = vec![("model_provider_id", provider.as_str().into())];
                sessions::update(&mut ws, &f.again(&session).await, set);
                Ok::<_, foundry_core::Error>((ws, ()))
            };
            f.shared.store.retry_on_conflict(choose).await.unwrap();
            all.push(f.again(&session).await);
        }
        Self { f, agent, provider, sessions: all }
    }

    async fn prompt(&self, session: &Session) -> MessageId {
        let message = MessageId::generate(&self.f.env.env);
        let request = p::PromptAgentSessionRequest {
            session_id: session.session_id.to_string(),
            message_id: message.to_string(),
            text: "hi".into(),
            ..Default::default()
        };
        ops::prompt_agent_session::prompt_agent_session(&self.f.shared, &self.f.task, request).await.unwrap();
        message
    }

    async fn report(&self, session: &Session, kind: ConditionKind) {
        let session = self.f.again(session).await;
        self.report_of(&session, kind).await;
    }

    /// Reports the outcome of a call that was made when the session was as given here.
    async fn report_of(&self, session: &Session, kind: ConditionKind) {
        let owner = Owner {
            session: session.session_id.to_string(),
            provider: self.provider.clone(),
            turn: session.message_id.clone(),
            ..Owner::default()
        };
        let seen =
            ModelCondition { kind, model: "m".to_owned(), words: "the provider responded 429".to_owned() };
        record(&self.f.shared, &owner, &seen).await.unwrap();
    }

    fn access(&self, session: &Session) -> Access {
        Access {
            kind: Kind::OpenAi,
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            headers: Vec::new(),
            credential: Credential::None,
            models: Vec::new(),
            owner: Owner {
                organization: session.organization_id.to_string(),
                task: session.task_id.clone(),
                session: session.session_id.to_string(),
                provider: self.provider.clone(),
                ..Owner::default()
            },
            held_until: None,
            limits: Vec::new(),
            prices: Vec::new(),
        }
    }

    fn after(&self, time: Duration) -> Timestamp {
        self.f.shared.env.clock.now().plus(time)
    }

    fn quota(&self, time: Duration) -> ConditionKind {
        let notice = time <= Duration::from_secs(60);
        ConditionKind::Quota { resume_at: Some(self.after(time)), notice, ends_turn: !notice }
    }

    /// An engine of another process, with the flows of these kinds.
    fn engine(&self, has: impl Fn(&str) -> bool) -> Engine {
        let (store, env) = (self.f.shared.store.clone(), self.f.env.env.clone());
        let flows = flow::bindings(&self.f.shared).into_iter().filter(|b| has(b.kind())).collect();
        Engine::new(store, env, flows, Options::default()).unwrap()
    }

    fn prompts(&self) -> usize {
        self.agent.asked().iter().filter(|method| *method == "session/prompt").count()
    }

    /// The session whose turn has ended.
    async fn ended(&self) -> Session {
        for session in &self.sessions {
            let session = self.f.again(session).await;
            if session.state == SessionState::Ready {
                return session;
            }
        }
        panic!("no turn has ended");
    }

    async fn outcomes(&self) -> Vec<i64> {
        let rows = self.f.shared.store.query("SELECT outcome FROM turns", &[]).await.unwrap();
        rows.iter().map(|row| row.int("outcome").unwrap()).collect()
    }

    async fn revision(&self, id: &SessionId) -> i64 {
        sessions::find(&self.f.shared.store, id).await.unwrap().unwrap().rev
    }
}

#[tokio::test]
async fn eight_tasks_wait_for_a_quota_and_each_message_goes_once_when_its_time_has_come() {
    let w = World::new(8).await;
    let until = w.after(HOUR);
    w.report(&w.sessions[0], w.quota(HOUR)).await;
    for session in &w.sessions {
        w.prompt(session).await;
    }
    w.f.run().await;
    assert_eq!(w.prompts(), 0, "something is started while the quota is used up");
    for session in &w.sessions {
        let session = w.f.again(session).await;
        let condition = &session.condition;
        assert_eq!((session.state, condition.reason.as_str()), (SessionState::Running, "MODEL_QUOTA"));
        assert_eq!(condition.next_attempt_time, Some(until.to_proto()));
    }
    w.f.env.clock.advance(HOUR / 2);
    w.f.run().await;
    assert_eq!(w.prompts(), 0);
    // Another process continues the waiting flows.
    let engine = w.engine(|_| true);
    w.f.env.clock.advance(HOUR / 2);
    engine.run_until_idle().await.unwrap();
    assert_eq!(w.prompts(), 1, "one goes first, to see whether the quota is there again");
    w.report(&w.ended().await, ConditionKind::Working).await;
    engine.run_until_idle().await.unwrap();
    assert_eq!((w.prompts(), w.outcomes().await), (8, vec![i64::from(i32::from(TurnOutcome::Completed)); 8]));
}

#[tokio::test]
async fn a_quota_that_is_still_used_up_at_its_time_costs_one_turn_and_the_others_wait_on() {
    let w = World::new(3).await;
    w.report(&w.sessions[0], w.quota(HOUR)).await;
    for session in &w.sessions {
        w.prompt(session).await;
    }
    w.f.run().await;
    w.f.env.clock.advance(HOUR);
    w.f.run().await;
    assert_eq!(w.prompts(), 1);
    w.report(&w.ended().await, w.quota(HOUR)).await;
    w.f.env.clock.advance(HOUR / 2);
    w.f.run().await;
    assert_eq!(w.prompts(), 1);
    // The first turn gets no answer: after a while another one tries.
    w.f.env.clock.advance(HOUR / 2);
    w.f.run().await;
    assert_eq!(w.prompts(), 2);
    w.f.env.clock.advance(Duration::from_secs(60));
    w.f.run().await;
    assert_eq!(w.prompts(), 3);
}

#[tokio::test]
async fn a_good_answer_to_a_call_from_before_ends_no_wait() {
    let w = World::new(2).await;
    w.report(&w.sessions[0], w.quota(HOUR)).await;
    w.prompt(&w.sessions[0]).await;
    w.report(&w.sessions[1], ConditionKind::Working).await;
    w.f.run().await;
    assert_eq!(w.prompts(), 0);
}

#[tokio::test]
async fn a_person_who_resumes_and_another_key_let_what_waits_go_at_once() {
    let w = World::new(2).await;
    let resume = || {
        let session_id = w.sessions[0].session_id.to_string();
        let request = p::ResumeAgentSessionRequest { session_id, ..Default::default() };
        ops::resume_agent_session::resume_agent_session(&w.f.shared, &w.f.task, request)
    };
    let admin = user(&w.f, Role::Admin);
    let change = || {
        let settings = p::ModelProviderSettings { models: vec!["m".to_owned()], ..Default::default() };
        let request = p::UpdateModelProviderRequest {
            model_provider_id: w.provider.clone(),
            settings: Some(settings),
            update_mask: Some(prost_types::FieldMask { paths: vec!["models".to_owned()] }),
            ..Default::default()
        };
        ops::update_model_provider::update_model_provider(&w.f.shared, &admin, request)
    };
    for (rounds, by_key) in [(1, false), (2, true)] {
        w.report(&w.sessions[0], w.quota(HOUR)).await;
        w.prompt(&w.sessions[1]).await;
        w.f.run().await;
        assert_eq!(w.prompts(), rounds - 1);
        if by_key {
            change().await.unwrap();
        } else {
            resume().await.unwrap();
        }
        w.f.run().await;
        assert_eq!(w.prompts(), rounds, "{by_key}");
    }
}

#[tokio::test]
async fn a_turn_that_waits_for_a_quota_is_stopped_at_once() {
    let w = World::new(1).await;
    w.report(&w.sessions[0], w.quota(HOUR)).await;
    w.prompt(&w.sessions[0]).await;
    w.f.run().await;
    let session_id = w.sessions[0].session_id.to_string();
    let request = p::CancelPromptRequest { session_id, ..Default::default() };
    ops::cancel_prompt::cancel_prompt(&w.f.shared, &w.f.task, request).await.unwrap();
    // Its delivery is woken, without the job that would stop an agent.
    w.engine(|kind| kind == flow::turn::TURN.kind).run_until_idle().await.unwrap();
    assert_eq!((w.prompts(), w.outcomes().await), (0, vec![i64::from(i32::from(TurnOutcome::Cancelled))]));
    assert_eq!(w.f.again(&w.sessions[0]).await.state, SessionState::Ready);
}

#[tokio::test]
async fn a_short_wait_is_a_notice_once_a_turn_and_keeps_nobody_back() {
    let w = World::new(2).await;
    let session = running(&w).await;
    let before = session.last_offset;
    for _ in 0..3 {
        w.report(&session, w.quota(Duration::from_secs(2))).await;
        w.f.env.clock.advance(Duration::from_secs(2));
        w.report(&session, ConditionKind::Working).await;
    }
    w.report(&session, w.quota(Duration::from_secs(2))).await;
    let after = w.f.again(&session).await;
    assert_eq!((after.state, after.last_offset), (SessionState::Running, before + 1));
    assert_eq!((after.condition.reason.as_str(), after.condition.retryable), ("MODEL_QUOTA", true));
    w.prompt(&w.sessions[1]).await;
    w.f.run().await;
    assert_eq!(w.prompts(), 2);
}

/// The first session, with a turn that is recorded but not delivered.
async fn running(w: &World) -> Session {
    w.prompt(&w.sessions[0]).await;
    w.f.again(&w.sessions[0]).await
}

#[tokio::test]
async fn a_refusal_that_is_told_again_with_a_time_a_little_later_changes_nothing() {
    let w = World::new(1).await;
    let session = running(&w).await;
    w.report(&session, w.quota(HOUR)).await;
    let first = w.revision(&session.session_id).await;
    let flows = async || {
        let sql = "SELECT COUNT(*) AS n FROM flows WHERE kind = 'cancel'";
        w.f.shared.store.query(sql, &[]).await.unwrap()[0].int("n").unwrap()
    };
    assert_eq!(flows().await, 1);
    w.f.env.clock.advance(Duration::from_secs(3));
    w.report(&session, w.quota(HOUR)).await;
    assert_eq!((w.revision(&session.session_id).await, flows().await), (first, 1));
    // A clearly different time is shown, but the turn is not stopped a second time.
    w.report(&session, w.quota(3 * HOUR)).await;
    assert!(w.revision(&session.session_id).await > first);
    assert_eq!(flows().await, 1);
}

#[tokio::test]
async fn a_wait_for_a_limit_is_shown_and_taken_back_and_hides_no_refusal() {
    let w = World::new(1).await;
    let session = running(&w).await;
    w.report(&session, ConditionKind::LimitWait).await;
    let shown = w.f.again(&session).await.condition;
    assert_eq!((shown.reason.as_str(), shown.retryable), ("MODEL_LIMIT_WAIT", true));
    w.report(&session, ConditionKind::LimitWaitOver).await;
    let after = w.f.again(&session).await;
    assert_eq!((after.condition.reason.as_str(), after.model_condition), ("", None));

    w.report(&session, ConditionKind::Failing).await;
    for kind in [ConditionKind::LimitWait, ConditionKind::LimitWaitOver] {
        w.report(&session, kind).await;
        assert_eq!(w.f.again(&session).await.condition.reason, "MODEL_FAILING");
    }
    // A wait for a limit does not keep a later refusal from being recorded.
    w.report(&session, ConditionKind::Working).await;
    w.report(&session, ConditionKind::LimitWait).await;
    w.report(&session, ConditionKind::KeyRefused).await;
    assert_eq!(w.f.again(&session).await.condition.reason, "MODEL_KEY_REFUSED");
}

#[tokio::test]
async fn what_a_call_of_an_earlier_turn_shows_is_not_laid_on_the_next() {
    let w = World::new(1).await;
    let before = w.f.again(&w.sessions[0]).await;
    let now = running(&w).await;
    w.report_of(&before, ConditionKind::KeyRefused).await;
    assert_eq!(w.f.again(&now).await.rev, now.rev);
    w.report_of(&now, ConditionKind::KeyRefused).await;
    assert_eq!(w.f.again(&now).await.condition.reason, "MODEL_KEY_REFUSED");
}

#[tokio::test]
async fn limits_of_task_and_organization_count_what_was_used_also_after_a_restart() {
    let w = World::new(2).await;
    let admin = user(&w.f, Role::Admin);
    let set = |scope: p::ModelLimitScope, task_id: &str, maximum| {
        let request = p::SetModelLimitRequest {
            organization_id: w.f.organization.to_string(),
            scope: scope.into(),
            task_id: task_id.to_owned(),
            unit: p::ModelLimitUnit::Tokens.into(),
            maximum,
            ..Default::default()
        };
        ops::set_model_limit::set_model_limit(&w.f.shared, &admin, request)
    };
    let used = async |task: &str| -> Vec<(u64, u64)> {
        // A new ledger each time, as after a restart: what is used is in the database.
        let limits = super::limits::of_task(&w.f.shared, &w.f.organization, task).await.unwrap();
        limits.iter().map(|l| (l.used, l.maximum)).collect()
    };
    let call = async |session: &Session, tokens: u64| {
        let ledger = ledger(&w.f);
        let usage = Usage { model: "m".to_owned(), input: tokens, complete: true, ..Usage::default() };
        let access = w.access(session);
        ledger.used(&access, usage).await;
    };
    let (one, two) = (&w.sessions[0], &w.sessions[1]);
    assert!(used(&one.task_id).await.is_empty());
    set(p::ModelLimitScope::Organization, "", 1_000).await.unwrap();
    set(p::ModelLimitScope::Task, "", 100).await.unwrap();
    call(one, 70).await;
    call(one, 40).await;
    call(two, 5).await;
    assert_eq!(used(&one.task_id).await, [(115, 1_000), (110, 100)]);
    assert_eq!(used(&two.task_id).await, [(115, 1_000), (5, 100)]);
    // A limit of the task itself replaces the one for each task; once it is raised, the next call is made.
    set(p::ModelLimitScope::Task, &one.task_id, 200).await.unwrap();
    assert_eq!(used(&one.task_id).await, [(115, 1_000), (110, 200)]);
    // The next month starts from zero, for the organization only.
    w.f.env.clock.advance(Duration::from_secs(40 * 24 * 3600));
    assert_eq!(used(&one.task_id).await, [(0, 1_000), (110, 200)]);
    set(p::ModelLimitScope::Task, &one.task_id, 0).await.unwrap();
    let list = p::ListModelLimitsRequest {
        organization_id: w.f.organization.to_string(),
        task_id: one.task_id.clone(),
    };
    let listed =
        ops::list_model_limits::list_model_limits(&w.f.shared, &w.f.member, list).await.unwrap().limits;
    let shown: Vec<_> = listed.iter().map(|l| (l.scope(), l.used, l.maximum)).collect();
    let (organization, task) = (p::ModelLimitScope::Organization, p::ModelLimitScope::Task);
    assert_eq!(shown, [(organization, 0, 1_000), (task, 110, 100)]);
    let refused = set(organization, &one.task_id, 1).await.unwrap_err();
    assert_eq!(refused.code(), foundry_core::Code::InvalidArgument);
    let theirs = p::SetModelLimitRequest {
        organization_id: w.f.organization.to_string(),
        scope: organization.into(),
        unit: p::ModelLimitUnit::Micros.into(),
        maximum: 1,
        ..Default::default()
    };
    let member = user(&w.f, Role::Member);
    let denied = ops::set_model_limit::set_model_limit(&w.f.shared, &member, theirs).await.unwrap_err();
    assert_eq!(denied.code(), foundry_core::Code::PermissionDenied);
}

#[tokio::test]
async fn a_deleted_model_provider_is_named_to_the_session_that_still_uses_it() {
    let w = World::new(1).await;
    let session = running(&w).await;
    let sandbox = w.f.sandbox(session.sandbox_id.as_str()).await;
    let facts = RuntimeFacts { key: RuntimeKey::generate(&w.f.env.env), ..sandbox.facts.clone().unwrap() };
    let mut ws = foundry_store::WriteSet::new();
    sandboxes::update(&mut ws, &sandbox, vec![("facts", sandboxes::facts_value(&facts).unwrap())]);
    w.f.shared.store.commit(ws).await.unwrap();
    let ledger = ledger(&w.f);
    let token = facts.key.model_token(session.session_id.as_str());
    let proof =
        SandboxProof::of(&facts.key, session.sandbox_id.as_str(), &facts.runtime_instance, &"9".repeat(64));
    ledger.access(&token, Some(&proof)).await.unwrap();
    let request =
        p::DeleteModelProviderRequest { model_provider_id: w.provider.clone(), ..Default::default() };
    let admin = user(&w.f, Role::Admin);
    ops::delete_model_provider::delete_model_provider(&w.f.shared, &admin, request).await.unwrap();
    let refused = ledger.access(&token, Some(&proof)).await.unwrap_err();
    assert!(matches!(refused, Refused::ProviderGone(_)), "{refused:?}");
    assert_eq!(w.f.again(&session).await.condition.reason, "MODEL_PROVIDER_NOT_FOUND");
}
