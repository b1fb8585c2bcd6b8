//! What fails at a pull request and is sent to the agent, by a user or by the rule of the task; and the texts of a publication.

use foundry_proto::common::v1::{ChecksState, PullRequest, PullRequestChecks, PullRequestState};

use super::*;

/// An idle task with a work.
struct Fixed {
    world: World,
    running: Running,
    tenant: Tenant,
    task: String,
    session: String,
}

fn failing(commit: &str, checks: &[&str]) -> PullRequest {
    PullRequest {
        number: 7,
        commit: commit.into(),
        state: PullRequestState::Open.into(),
        checks: Some(PullRequestChecks {
            state: ChecksState::Failed.into(),
            failing: checks.iter().map(|name| (*name).to_owned()).collect(),
            ..PullRequestChecks::default()
        }),
        ..PullRequest::default()
    }
}

impl Fixed {
    async fn new() -> Self {
        Self::of(Role::Member).await
    }

    async fn of(role: Role) -> Self {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(role).await, world.start().await);
        let (task, session) = ids(&running.create(&tenant, "Fix the parser").await);
        let fixed = Self { world, running, tenant, task, session };
        fixed.until(SessionState::Running).await;
        fixed.end_turn("## Parse it right\n\nIt was wrong.").await;
        fixed
    }

    async fn until(&self, state: SessionState) -> Session {
        self.running.until_session(&self.tenant, &self.task, &self.session, |s| s.state() == state).await
    }

    /// Ends the turn, after which another one may begin at once.
    async fn end(&self, said: &str) {
        self.world.provisioner.say(&self.session, said).await;
        self.world.provisioner.end_turn(&self.session, TurnOutcome::Completed).await;
    }

    async fn end_turn(&self, said: &str) {
        self.end(said).await;
        self.until(SessionState::Idle).await;
    }

    /// Waits until the agent works on its so many-th message after the first.
    async fn prompted(&self, count: usize) {
        let begun = |t: &GetTaskResponse| {
            self.prompts().len() == count && t.sessions[0].state() == SessionState::Running
        };
        self.running.until(&self.tenant, &self.task, begun).await;
    }

    async fn report(&self, version: i64, p: PullRequest) {
        self.world.repo.publish(&self.tenant.organization, &self.task, version, p).await;
        let shows = |t: &GetTaskResponse| {
            t.task.as_ref().and_then(|t| t.changes.as_ref()).is_some_and(|c| c.version == version)
        };
        self.running.until(&self.tenant, &self.task, shows).await;
    }

    async fn set(&self, enabled: bool, max_tries: i32) -> foundry_core::Result<SetAutoFixResponse> {
        let request = SetAutoFixRequest {
            task_id: self.task.clone(),
            enabled,
            max_tries,
            ..SetAutoFixRequest::default()
        };
        ops::set_auto_fix::set_auto_fix(&self.running.cx, &self.tenant.caller, request).await
    }

    async fn fix(&self, request_id: &str) -> foundry_core::Result<RequestFixResponse> {
        let request = RequestFixRequest {
            request_id: request_id.into(),
            task_id: self.task.clone(),
            ..RequestFixRequest::default()
        };
        ops::request_fix::request_fix(&self.running.cx, &self.tenant.caller, request).await
    }

    async fn rule(&self) -> AutoFix {
        let found = self.running.get(&self.tenant, &self.task).await;
        found.task.unwrap().auto_fix.unwrap_or_default()
    }

    /// The texts that reached the agent after the first.
    fn prompts(&self) -> Vec<String> {
        self.world.provisioner.prompts().split_off(1)
    }

    /// The previews of what waits.
    async fn queue(&self) -> Vec<String> {
        let id = self.task.parse().unwrap();
        let found = aggregate::load(&self.running.cx.store, &id).await.unwrap().unwrap();
        found.queue(&self.session).map(|m| m.preview.clone()).collect()
    }
}

#[tokio::test]
async fn a_failure_is_sent_once_by_the_rule_until_its_limit_is_reached() {
    let f = Fixed::of(Role::Admin).await;
    f.report(1, failing("a", &["build"])).await;
    assert_eq!((f.prompts().len(), f.rule().await), (0, AutoFix::default()), "it is off unless switched on");
    assert!(f.set(true, 11).await.is_err() && f.set(true, -1).await.is_err());
    f.set(true, 2).await.unwrap();
    f.prompted(1).await;
    assert!(f.prompts()[0].contains("> build"), "{:?}", f.prompts());
    f.end_turn("corrected").await;
    f.report(2, failing("a", &["build"])).await;
    assert_eq!((f.prompts().len(), f.rule().await.tries), (1, 1), "the same failure");
    f.report(3, failing("b", &["build"])).await;
    f.prompted(2).await;
    f.end_turn("corrected again").await;
    f.report(4, failing("c", &["build"])).await;
    let stopped = f.rule().await;
    assert_eq!((f.prompts().len(), stopped.tries, stopped.max_tries), (2, 2, 2));
    let why = stopped.stopped.unwrap();
    assert_eq!(why.reason, "AUTO_FIX_LIMIT");
    assert!(why.message.contains("after 2 messages") && !why.next_action.is_empty(), "{why:?}");
    // Switching the rule on again sends only failures that were not sent before.
    f.set(true, 0).await.unwrap();
    f.prompted(3).await;
    let rule = f.rule().await;
    assert_eq!((f.prompts().len(), rule.tries, rule.max_tries, rule.stopped), (3, 1, 3, None));
    let request = ListAuditEventsRequest {
        organization_id: f.tenant.organization.to_string(),
        ..ListAuditEventsRequest::default()
    };
    let found = ops::list_audit_events::list_audit_events(&f.running.cx, &f.tenant.caller, request).await;
    let events = found.unwrap().events;
    let sent: Vec<_> = events.iter().filter(|e| e.action == "message.auto_fix").collect();
    assert_eq!(sent.len(), 3);
    for event in sent {
        assert_eq!(event.actor, "service:task", "the one who set the rule may have left");
        assert!(event.on_behalf_of == rule.set_by && !rule.set_by.is_empty(), "{event:?}");
    }
    f.running.stop().await;
}

#[tokio::test]
async fn the_rule_waits_for_the_other_checks_and_for_the_newest_work_to_be_published() {
    let f = Fixed::new().await;
    let waits = async || f.rule().await.waiting.unwrap_or_default().waiting_on;
    let set = f.set(true, 0).await.unwrap().task.unwrap().auto_fix.unwrap().waiting.unwrap();
    assert_eq!(set.waiting_on, "a publication");
    assert!(set.next_action.contains("--pull-request"), "{set:?}");
    let mut some = failing("a", &["build"]);
    some.checks.as_mut().unwrap().pending = 1;
    f.report(1, some).await;
    assert_eq!((f.rule().await.tries, f.queue().await.len()), (0, 0));
    assert_eq!(waits().await, "a check");
    let ended = PullRequest { state: PullRequestState::Closed.into(), ..failing("a", &["build"]) };
    f.report(2, ended).await;
    assert_eq!((f.rule().await.tries, f.queue().await.len()), (0, 0));
    assert_eq!(waits().await, "", "there is nothing to correct in one that was closed");
    f.report(3, failing("a", &["build", "lint"])).await;
    f.prompted(1).await;
    assert!(f.prompts()[0].contains("2 checks failed"), "{:?}", f.prompts());
    assert_eq!(waits().await, "", "everything that fails is sent");
    f.running.stop().await;
}

#[tokio::test]
async fn a_users_own_turn_goes_before_the_message_of_the_rule() {
    let f = Fixed::new().await;
    send(&f.running, &f.tenant, &f.session, "mine").await;
    f.prompted(1).await;
    f.set(true, 0).await.unwrap();
    f.report(1, failing("a", &["build"])).await;
    send(&f.running, &f.tenant, &f.session, "mine too").await;
    assert_eq!(f.queue().await, ["mine too"]);
    f.end("one").await;
    f.prompted(2).await;
    f.end("two").await;
    f.prompted(3).await;
    let prompts = f.prompts();
    assert_eq!(prompts[..2], ["mine", "mine too"]);
    assert!(prompts[2].contains("> build"), "{prompts:?}");
    f.end_turn("three").await;
    // One that waits already lets the user's own pass.
    f.running.halt_flows().await;
    f.report(2, failing("b", &["build"])).await;
    send(&f.running, &f.tenant, &f.session, "first").await;
    send(&f.running, &f.tenant, &f.session, "second").await;
    let queue = f.queue().await;
    assert_eq!(queue[..2], ["first", "second"]);
    assert!(queue.len() == 3 && queue[2].contains("commit b"), "{queue:?}");
    f.running.stop().await;
}

#[tokio::test]
async fn what_waits_in_a_closed_session_does_not_hold_the_rule_back() {
    let f = Fixed::new().await;
    let request = CreateSessionRequest { task_id: f.task.clone(), ..CreateSessionRequest::default() };
    let other = ops::create_session::create_session(&f.running.cx, &f.tenant.caller, request).await.unwrap();
    let other = other.session.unwrap().session_id;
    f.running.halt_flows().await;
    send(&f.running, &f.tenant, &other, "later").await;
    let request = CloseSessionRequest { session_id: other, ..CloseSessionRequest::default() };
    ops::close_session::close_session(&f.running.cx, &f.tenant.caller, request).await.unwrap();
    f.set(true, 0).await.unwrap();
    f.report(1, failing("a", &["build"])).await;
    assert_eq!((f.queue().await.len(), f.rule().await.tries), (1, 1));
    f.running.stop().await;
}

#[tokio::test]
async fn what_is_removed_from_the_queue_was_not_sent_and_only_a_user_sends_it_again() {
    let f = Fixed::new().await;
    f.running.halt_flows().await;
    f.report(1, failing("a", &["build"])).await;
    let remove = async |message_id: String| {
        let request = RemoveQueuedMessageRequest { message_id, ..RemoveQueuedMessageRequest::default() };
        ops::remove_queued_message::remove_queued_message(&f.running.cx, &f.tenant.caller, request).await
    };
    let sent = f.fix("one").await.unwrap().message.unwrap();
    remove(sent.message_id).await.unwrap();
    let sent = f.fix("two").await.unwrap().message.unwrap();
    assert_eq!((f.queue().await.len(), f.fix("three").await.unwrap_err().reason()), (1, "FIX_SENT"));
    remove(sent.message_id).await.unwrap();
    // The rule leaves what a user has removed, and a removed message of its own is no try.
    f.set(true, 1).await.unwrap();
    assert_eq!((f.queue().await.len(), f.rule().await.tries), (0, 0));
    f.report(2, failing("b", &["build"])).await;
    assert_eq!(f.rule().await.tries, 1);
    let id = f.task.parse().unwrap();
    let found = aggregate::load(&f.running.cx.store, &id).await.unwrap().unwrap();
    remove(found.queue(&f.session).next().unwrap().message_id.to_string()).await.unwrap();
    assert_eq!((f.queue().await.len(), f.rule().await.tries), (0, 0));
    f.fix("four").await.unwrap();
    f.running.stop().await;
}

#[tokio::test]
async fn what_waited_in_a_session_that_was_closed_is_sent_by_the_rule_in_another() {
    let f = Fixed::new().await;
    let request = CreateSessionRequest { task_id: f.task.clone(), ..CreateSessionRequest::default() };
    let other = ops::create_session::create_session(&f.running.cx, &f.tenant.caller, request).await.unwrap();
    let other = other.session.unwrap().session_id;
    f.running.halt_flows().await;
    f.report(1, failing("a", &["build"])).await;
    f.set(true, 0).await.unwrap();
    assert_eq!((f.queue().await.len(), f.rule().await.tries), (1, 1));
    let request = CloseSessionRequest { session_id: f.session.clone(), ..CloseSessionRequest::default() };
    ops::close_session::close_session(&f.running.cx, &f.tenant.caller, request).await.unwrap();
    let id = f.task.parse().unwrap();
    let found = aggregate::load(&f.running.cx.store, &id).await.unwrap().unwrap();
    let rule = f.rule().await;
    // It waits until the agent of the other session is there.
    assert!(
        rule.tries <= 1 && found.queue(&other).count() == usize::try_from(rule.tries).unwrap(),
        "{rule:?}"
    );
    f.running.stop().await;
}

#[tokio::test]
async fn a_user_sends_what_has_failed_with_one_request_and_the_rule_does_not_send_it_again() {
    let f = Fixed::new().await;
    assert_eq!(f.fix("").await.unwrap_err().reason(), "NOTHING_TO_FIX");
    f.report(1, failing("a", &["build"])).await;
    let sent = f.fix("one").await.unwrap();
    assert!(sent.message.as_ref().unwrap().text_preview.contains("> build"), "{sent:?}");
    assert_eq!(f.fix("one").await.unwrap(), sent, "a repeat is the same message");
    assert_eq!(f.fix("two").await.unwrap_err().reason(), "FIX_SENT");
    f.prompted(1).await;
    f.set(true, 0).await.unwrap();
    f.end_turn("corrected").await;
    f.report(2, failing("a", &["build"])).await;
    assert_eq!((f.prompts().len(), f.rule().await.tries), (1, 0));
    let stranger = f.world.tenant(Role::Owner).await;
    let request = RequestFixRequest { task_id: f.task.clone(), ..RequestFixRequest::default() };
    let refused = ops::request_fix::request_fix(&f.running.cx, &stranger.caller, request).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    f.running.stop().await;
}

#[tokio::test]
async fn the_texts_of_a_publication_are_what_the_agent_has_said_last() {
    let f = Fixed::new().await;
    let propose = async || {
        let request = ProposePublicationRequest { task_id: f.task.clone() };
        ops::propose_publication::propose_publication(&f.running.cx, &f.tenant.caller, request).await.unwrap()
    };
    let texts = propose().await;
    assert_eq!((texts.title.as_str(), texts.body.as_str()), ("Parse it right", "It was wrong."));
    send(&f.running, &f.tenant, &f.session, "more").await;
    f.prompted(1).await;
    f.end_turn("Done.").await;
    let texts = propose().await;
    assert_eq!((texts.title.as_str(), texts.body.as_str()), ("Fix the parser", "Done."));
    f.running.stop().await;
}
