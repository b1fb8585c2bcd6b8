//! The views of a task, derived from its aggregate by pure functions.

use std::collections::BTreeMap;

use foundry_core::{Code, Error, Result, Timestamp};
use foundry_proto::common::v1::{Condition, PermissionPolicy};
use foundry_proto::provisioner::v1::{AgentSession, AgentSessionState, Sandbox, SandboxState};
use foundry_proto::repo::v1::{Work, WorkState};
use foundry_proto::task::v1::{SessionState, TaskState, Turn};
use foundry_service::damaged_condition;

use super::base;
use super::branch;
use super::fix;
use super::session::{Message, MessageState, Session};
use super::stages;
use super::task::{Lifecycle, PENDING_BRANCH, Task};
use super::turn;
use super::validate::prefix;
use super::work;

/// The reason when the repository of a task was removed.
const REPOSITORY_REMOVED: &str = "REPOSITORY_REMOVED";
const START_AGAIN: &str = "kill the task; register the repository again and create a new task in it";

/// The last known copy of another service's entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica<T> {
    /// Revision of the entity in the other service.
    pub rev: i64,
    pub entity: T,
}

impl<T> Replica<T> {
    /// What stands for a copy that cannot be decoded. Its revision is below all: whatever the other service reports
    /// next replaces it.
    pub fn damaged(entity: T) -> Self {
        Self { rev: -1, entity }
    }

    /// Whether it stands for a copy that cannot be decoded.
    pub fn is_damaged(&self) -> bool {
        self.rev < 0
    }
}

/// A task and everything that belongs to it, loaded and written as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub task: Task,
    /// Its sessions, oldest first.
    pub sessions: Vec<Session>,
    /// Its newest sandbox; none until the provisioner reports one.
    pub sandbox: Option<Replica<Sandbox>>,
    /// The agent's side of its sessions, by session id.
    pub agents: BTreeMap<String, Replica<AgentSession>>,
    /// The changes that it produced; none until the repo service reports them.
    pub work: Option<Replica<Work>>,
    /// The messages in its queues, in delivery order.
    pub messages: Vec<Message>,
}

impl Aggregate {
    /// A task that has not begun, with its first session and the message in it.
    pub fn new(task: Task, session: Session, message: Message) -> Self {
        Self {
            task,
            sessions: vec![session],
            sandbox: None,
            agents: BTreeMap::new(),
            work: None,
            messages: vec![message],
        }
    }

    /// Refuses what needs the task and its sessions whole. Damaged copies of other services' entities do not count:
    /// the next update replaces them.
    ///
    /// # Errors
    /// `DATA_LOSS` `STORED_DATA_DAMAGED` when the stored row of one of them cannot be decoded.
    pub fn require_readable(&self) -> Result<()> {
        let session = self.sessions.iter().find(|s| s.damaged).map(|s| s.session_id.as_str());
        let damaged = self.task.damaged.then_some(self.task.task_id.as_str()).or(session);
        damaged.map_or(Ok(()), |id| Err(unreadable(id)))
    }

    /// Whether the stored row of the task or of one of its sessions cannot be decoded.
    pub fn is_damaged(&self) -> bool {
        self.require_readable().is_err()
    }

    /// The repository was removed, and the work with it.
    pub fn lose_repository(&mut self, name: &str, now: Timestamp) {
        if self.repository_removed().is_some() {
            return;
        }
        let condition = Condition {
            reason: REPOSITORY_REMOVED.to_owned(),
            message: format!(
                "the repository {name} was removed, and the stored work of this task with it; what the agent does \
                 from then on cannot be saved"
            ),
            since_time: Some(now.to_proto()),
            next_action: "ask the agent to show what you still need, and kill the task".to_owned(),
            ..Condition::default()
        };
        let work = Work {
            task_id: self.task.task_id.to_string(),
            organization_id: self.task.organization_id.to_string(),
            repository_id: self.task.repository_id.to_string(),
            state: WorkState::Error.into(),
            condition: Some(condition),
            ..Work::default()
        };
        // No other work of it comes.
        self.work = Some(Replica { rev: i64::MAX, entity: work });
    }

    /// Why there is no work any more and no new sandbox can be made: the repository was removed. None when it is there.
    pub fn repository_removed(&self) -> Option<&Condition> {
        let condition = self.work.as_ref()?.entity.condition.as_ref()?;
        (condition.reason == REPOSITORY_REMOVED).then_some(condition)
    }

    /// Refuses what needs the repository of the task.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` `REPOSITORY_REMOVED`.
    pub fn require_repository(&self) -> Result<()> {
        let Some(removed) = self.repository_removed() else { return Ok(()) };
        Err(Error::precondition(
            "REPOSITORY_REMOVED",
            self.task.repository_id.as_str(),
            removed.message.clone(),
        )
        .next_action(START_AGAIN))
    }

    /// A session by its id.
    pub fn session(&self, id: &str) -> Option<&Session> {
        self.sessions.iter().find(|s| s.session_id.as_str() == id)
    }

    /// A session by its id, to change it.
    pub fn session_mut(&mut self, id: &str) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|s| s.session_id.as_str() == id)
    }

    /// A message in a queue by its id.
    pub fn message(&self, id: &str) -> Option<&Message> {
        self.messages.iter().find(|m| m.message_id.as_str() == id)
    }

    /// A message that is still in the queue and can be changed.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` `MESSAGE_DELIVERED` once it is being handed over.
    pub fn queued_message_mut(&mut self, id: &str) -> Result<&mut Message> {
        let found = self.messages.iter_mut().find(|m| m.message_id.as_str() == id);
        found.filter(|m| m.state == MessageState::Queued).ok_or_else(|| {
            Error::precondition("MESSAGE_DELIVERED", id, "the message has already been sent to the agent")
                .next_action("stop the turn, or send another message")
        })
    }

    /// The agent's side of a session.
    pub fn agent(&self, session_id: &str) -> Option<&AgentSession> {
        self.agents.get(session_id).map(|t| &t.entity)
    }

    /// The queued messages of a session, in delivery order.
    pub fn queue(&self, session_id: &str) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |m| m.session_id.as_str() == session_id && m.is_open())
    }

    /// State of the newest sandbox, if the task has one.
    pub fn sandbox_state(&self) -> Option<SandboxState> {
        self.sandbox.as_ref().map(|s| s.entity.state())
    }

    /// Version of the changes that are shown; 0 before the first import.
    pub fn changes_version(&self) -> i64 {
        self.task.view.changes.as_ref().map_or(0, |changes| changes.version)
    }

    /// Whether a sandbox exists that is not being destroyed.
    pub fn has_living_sandbox(&self) -> bool {
        !matches!(self.sandbox_state(), None | Some(SandboxState::Destroying | SandboxState::Destroyed))
    }

    /// The living sandbox, if it waits for the next attempt after a failed one.
    pub fn sandbox_between_attempts(&self) -> Option<&Sandbox> {
        let sandbox = self.sandbox.as_ref().filter(|_| self.has_living_sandbox()).map(|s| &s.entity);
        sandbox.filter(|s| s.state() != SandboxState::Error && next_attempt_is_known(s.condition.as_ref()))
    }

    /// Whether the agent's side of a session is created by another attempt after a failed one, at a known time.
    pub fn agent_between_attempts(&self, session_id: &str) -> bool {
        self.agent(session_id).is_some_and(|a| {
            a.state() == AgentSessionState::Creating && next_attempt_is_known(a.condition.as_ref())
        })
    }

    /// Whether the transcript holds all events of the agent's side.
    pub fn caught_up(&self, session: &Session) -> bool {
        session.caught_up(self.agent(session.session_id.as_str()))
    }

    /// Whether a turn runs in any session.
    pub fn turn_runs(&self) -> bool {
        self.sessions.iter().any(|s| !s.closed && s.view.state() == SessionState::Running)
    }

    /// Derives all views from the facts. `now` becomes the update time of the task's view if that changed.
    pub fn refresh(&mut self, now: Timestamp) {
        let sessions: Vec<_> = self.sessions.iter().map(|s| self.derived_session(s)).collect();
        for (session, (state, condition)) in self.sessions.iter_mut().zip(sessions) {
            let id = session.session_id.as_str();
            let agent = self.agents.get(id).map(|t| &t.entity);
            session.view.set_state(state);
            session.view.condition = Some(condition);
            if let Some(agent) = agent {
                let view = &mut session.view;
                learn(&mut view.agent, &agent.agent);
                learn(&mut view.profile, &agent.profile_id);
                if view.permission_policy() == PermissionPolicy::Unspecified {
                    view.permission_policy = agent.permission_policy;
                }
                // Its turn may be seen before this service has noted that it handed the message over.
                if state == SessionState::Running {
                    learn(&mut view.message_id, &agent.message_id);
                }
                view.options = session.asked.over(agent.options.as_ref());
                view.agent_title.clone_from(&agent.title);
                view.usage.clone_from(&agent.usage);
            }
            let waiting = self.messages.iter().filter(|m| m.session_id.as_str() == id && m.is_open());
            session.view.queue_length = i32::try_from(waiting.count()).unwrap_or(i32::MAX);
            session.view.pending_permission = agent
                .and_then(|a| a.pending_permission.clone())
                .filter(|p| p.permission_id != session.answered && state == SessionState::Running);
            session.view.pending_elicitation = agent
                .and_then(|a| a.pending_elicitation.clone())
                .filter(|e| e.elicitation_id != session.asked.form && state == SessionState::Running);
            session.follows = session.to_follow(agent);
        }
        self.refresh_task(now);
    }

    fn refresh_task(&mut self, now: Timestamp) {
        let (state, condition) = self.derived_task();
        let sandbox = self.sandbox.as_ref().map(|s| &s.entity);
        let agent = self.agent(self.task.first_session_id.as_str());
        let failure = (state == TaskState::Error).then_some(&condition);
        let stages = stages::fold(sandbox, agent, failure);
        let changes = work::shown(self.work.as_ref().map(|w| &w.entity), sandbox);
        let open = self.sessions.iter().filter(|s| !s.closed).count();
        let mut view = self.task.view.clone();
        view.set_state(state);
        view.condition = Some(condition);
        if self.task.damaged && self.task.lifecycle == Lifecycle::Active {
            (view.state, view.condition) = (TaskState::Error.into(), Some(damaged_condition()));
        }
        view.stages = stages;
        view.sandbox_id = match sandbox {
            Some(s) if s.state() != SandboxState::Destroyed => s.sandbox_id.clone(),
            _ => String::new(),
        };
        view.changes = changes;
        view.auto_fix.clone_from(&self.task.auto_fix.auto_fix);
        if let Some(rule) = &mut view.auto_fix {
            rule.waiting = fix::waiting(self);
        }
        view.newest_turn = self.newest_turn(view.newest_turn.take(), now);
        view.session_count = i32::try_from(open).unwrap_or(i32::MAX);
        if let Some(s) = sandbox {
            let moved = base::moved(&view, s, now);
            learn(&mut view.base_branch, &s.base_branch);
            if s.base.is_some() {
                view.base.clone_from(&s.base);
            }
            if let Some(base) = &mut view.base {
                base.notices.extend(moved);
            }
            learn(&mut view.agent, &s.agent);
            learn(&mut view.profile, &s.profile_id);
        }
        if let Some(agent) = agent.filter(|_| view.permission_policy() == PermissionPolicy::Unspecified) {
            view.permission_policy = agent.permission_policy;
        }
        if view != self.task.view {
            view.update_time = Some(now.to_proto());
            self.task.view = view;
        }
    }

    fn newest_turn(&self, before: Option<Turn>, now: Timestamp) -> Option<Turn> {
        let running = self.sessions.iter().filter(|s| s.view.state() == SessionState::Running).map(|s| {
            let condition = self.agent(s.session_id.as_str()).and_then(|a| a.condition.as_ref());
            (s.view.message_id.as_str(), condition.and_then(|c| c.since_time))
        });
        let newest = turn::newest(before, running, self.work.as_ref().map(|w| &w.entity), now)?;
        let over = self.sessions.iter().find(|s| s.view.message_id == newest.message_id);
        let over = over.filter(|s| s.view.state() == SessionState::Idle);
        let agent = over.and_then(|s| self.agent(s.session_id.as_str()));
        // One with a reason, such as a limit that was reached during the turn, may be older than the end of the turn.
        let rests = agent.and_then(|a| a.condition.as_ref()).filter(|c| c.reason.is_empty());
        let since = rests.and_then(|c| c.since_time);
        Some(turn::ended(newest, since))
    }

    fn derived_task(&self) -> (TaskState, Condition) {
        let since = Some(self.task.lifecycle_time.to_proto());
        let ending = |waiting_on: &str, message: &str| Condition {
            waiting_on: waiting_on.to_owned(),
            message: message.to_owned(),
            since_time: since,
            ..Condition::default()
        };
        match self.task.lifecycle {
            Lifecycle::Active => self.derived_active(),
            Lifecycle::Archiving => {
                (TaskState::Archiving, ending("sandbox", "its sandbox is being released"))
            }
            Lifecycle::Killing => (TaskState::Killing, ending("sandbox", "its sandbox is being destroyed")),
            Lifecycle::Archived | Lifecycle::Killed => {
                let killed = self.task.lifecycle == Lifecycle::Killed;
                let state = if killed { TaskState::Killed } else { TaskState::Archived };
                let remains = !matches!(self.sandbox_state(), None | Some(SandboxState::Destroyed));
                let waits =
                    if remains { ("sandbox", "its sandbox is still being destroyed") } else { ("", "") };
                (state, ending(waits.0, waits.1))
            }
        }
    }

    fn derived_active(&self) -> (TaskState, Condition) {
        let flow = &self.task.flow;
        if let Some(removed) = self.repository_removed().filter(|_| !self.has_living_sandbox()) {
            // Nothing to retry: there is nothing to clone.
            return (TaskState::Error, Condition { next_action: START_AGAIN.to_owned(), ..removed.clone() });
        }
        if flow.failed() {
            let cause = if flow.seeks_branch() { branch::not_found(flow) } else { self.cause_of_failure() };
            return (TaskState::Error, retryable(cause));
        }
        if flow.status != "done" {
            return self.derived_provisioning();
        }
        let sandbox = self.sandbox.as_ref().map(|s| &s.entity);
        match sandbox.map(Sandbox::state) {
            Some(SandboxState::Error) => (TaskState::Error, retryable(condition_of(sandbox))),
            Some(SandboxState::Destroying | SandboxState::Destroyed) => {
                let gone = Condition {
                    reason: "SANDBOX_DESTROYED".to_owned(),
                    message: "the sandbox was destroyed; the transcript and the work are kept".to_owned(),
                    ..condition_of(sandbox)
                };
                (TaskState::Error, retryable(gone))
            }
            Some(SandboxState::Ready) | None => self.derived_serving(),
            Some(_) if self.turn_runs() => self.derived_serving(),
            Some(_) => (TaskState::EnsuringAgent, condition_of(sandbox)),
        }
    }

    fn derived_provisioning(&self) -> (TaskState, Condition) {
        let flow = &self.task.flow;
        let sandbox = self.sandbox.as_ref().map(|s| &s.entity);
        let state = match flow.stage.as_str() {
            "naming" => TaskState::Naming,
            PENDING_BRANCH => TaskState::PendingBranch,
            "creating_sandbox" => TaskState::CreatingSandbox,
            "ensuring_agent" => TaskState::EnsuringAgent,
            "creating_session" => TaskState::CreatingSession,
            _ => TaskState::Queued,
        };
        let condition = match state {
            TaskState::CreatingSandbox | TaskState::EnsuringAgent if sandbox.is_some() => {
                condition_of(sandbox)
            }
            TaskState::CreatingSession => self
                .agent(self.task.first_session_id.as_str())
                .and_then(|a| a.condition.clone())
                .unwrap_or_else(|| flow.condition.clone()),
            TaskState::PendingBranch => branch::sought(&self.task),
            TaskState::Queued => Condition {
                waiting_on: "worker".to_owned(),
                since_time: Some(self.task.create_time.to_proto()),
                ..Condition::default()
            },
            _ => flow.condition.clone(),
        };
        (state, condition)
    }

    fn derived_serving(&self) -> (TaskState, Condition) {
        let open = || self.sessions.iter().filter(|s| !s.closed);
        if let Some(session) = open().find(|s| s.view.state() == SessionState::Running) {
            let asks =
                |s: &&Session| s.view.pending_permission.is_some() || s.view.pending_elicitation.is_some();
            let waits = open().find(asks).unwrap_or(session);
            return (TaskState::Running, waits.view.condition.clone().unwrap_or_default());
        }
        let wanting = open().find(|s| {
            s.view.state() == SessionState::Error || (s.view.queue_held && s.view.queue_length > 0)
        });
        let limited = || open().find(|s| s.view.condition.as_ref().is_some_and(says_output_limit));
        let shown = wanting.or_else(limited).and_then(|s| s.view.condition.clone());
        (TaskState::Idle, shown.or_else(|| self.repository_removed().cloned()).unwrap_or_default())
    }

    /// Why provisioning failed: the condition of the sandbox or agent session if it has one, else the flow's.
    fn cause_of_failure(&self) -> Condition {
        let flow = &self.task.flow.condition;
        let sandbox = self.sandbox.as_ref().map(|s| &s.entity);
        let theirs = match self.task.flow.stage.as_str() {
            "creating_session" => self.agent(self.task.first_session_id.as_str()).and_then(|a| {
                (a.state() == AgentSessionState::Error).then(|| a.condition.clone().unwrap_or_default())
            }),
            _ => sandbox.filter(|s| s.state() == SandboxState::Error).map(|s| condition_of(Some(s))),
        };
        theirs.filter(|c| !c.reason.is_empty()).unwrap_or_else(|| flow.clone())
    }

    fn derived_session(&self, session: &Session) -> (SessionState, Condition) {
        if session.closed || self.task.lifecycle.has_ended() {
            return (SessionState::Closed, Condition::default());
        }
        if session.damaged {
            return (SessionState::Error, damaged_condition());
        }
        let agent = self.agent(session.session_id.as_str());
        let theirs = || agent.and_then(|a| a.condition.clone()).unwrap_or_default();
        if session.flow.failed() {
            let cause = match agent {
                Some(a) if a.state() == AgentSessionState::Error => theirs(),
                _ => session.flow.condition.clone(),
            };
            return (SessionState::Error, retryable(cause));
        }
        let created = session.flow.stage == "ready";
        match agent.map(|a| (a.state(), a)) {
            Some((AgentSessionState::Running, a)) => (SessionState::Running, running(session, a)),
            Some((AgentSessionState::Ready, a)) if created => {
                let fresh = a.turn_count == 0 && session.view.message_id.is_empty();
                let state = if fresh { SessionState::Ready } else { SessionState::Idle };
                (state, self.resting(session, theirs()))
            }
            Some((AgentSessionState::Interrupted, _)) => {
                (SessionState::Interrupted, self.resting(session, theirs()))
            }
            Some((AgentSessionState::Error, _)) if created => (SessionState::Error, retryable(theirs())),
            // Closed with its sandbox, not by a person: it is created again in the next sandbox.
            Some((AgentSessionState::Closed, _)) => {
                (SessionState::PendingProvision, self.provisioning(session))
            }
            Some((AgentSessionState::Pending, _)) if self.sandbox_state() != Some(SandboxState::Ready) => {
                (SessionState::PendingProvision, self.provisioning(session))
            }
            Some(_) => (SessionState::PendingSessionCreate, theirs()),
            None if self.sandbox_state() == Some(SandboxState::Ready) => {
                (SessionState::PendingSessionCreate, session.flow.condition.clone())
            }
            None => (SessionState::PendingProvision, self.provisioning(session)),
        }
    }

    /// What a session without a ready sandbox waits for: the same as the sandbox.
    fn provisioning(&self, session: &Session) -> Condition {
        let theirs = match &self.sandbox {
            Some(s) => condition_of(Some(&s.entity)),
            None => self.task.flow.condition.clone(),
        };
        let since = theirs.since_time.or_else(|| Some(session.create_time.to_proto()));
        let waiting_on = if theirs.waiting_on.is_empty() { "sandbox".to_owned() } else { theirs.waiting_on };
        Condition { waiting_on, since_time: since, ..theirs }
    }

    fn resting(&self, session: &Session, theirs: Condition) -> Condition {
        let waits = self.queue(session.session_id.as_str()).count();
        if session.view.queue_held && waits > 0 {
            return Condition {
                reason: "QUEUE_HELD".to_owned(),
                message: format!("{} queued until the queue is resumed", queued(waits)),
                waiting_on: "a person".to_owned(),
                next_action: "resume the queue or send a message".to_owned(),
                ..theirs
            };
        }
        theirs
    }
}

/// The error for a task or session whose stored row cannot be decoded.
pub fn unreadable(id: &str) -> Error {
    let text = format!("the stored data of {id} cannot be decoded");
    Error::new(Code::DataLoss, "STORED_DATA_DAMAGED", text).next_action(
        "kill or archive the task, or restore its row from a backup; `foundry verify` names the row",
    )
}

/// `1 message is`, `2 messages are`.
fn queued(waits: usize) -> String {
    match waits {
        1 => "1 message is".to_owned(),
        several => format!("{several} messages are"),
    }
}

fn next_attempt_is_known(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|c| c.next_attempt_time.is_some())
}

/// Copies the provisioner's value unless it is empty.
fn learn(ours: &mut String, theirs: &str) {
    if !theirs.is_empty() {
        theirs.clone_into(ours);
    }
}

fn running(session: &Session, agent: &AgentSession) -> Condition {
    let theirs = agent.condition.clone().unwrap_or_default();
    let form = agent.pending_elicitation.as_ref().filter(|_| agent.pending_permission.is_none());
    if let Some(form) = form {
        return match form.elicitation_id == session.asked.form {
            true => Condition { waiting_on: "delivery of the answer".to_owned(), ..theirs },
            false => Condition {
                reason: "ANSWER_WANTED".to_owned(),
                message: "the agent is asking a question".to_owned(),
                waiting_on: format!("answer: {}", prefix(&form.message, 500)),
                next_action: "answer it".to_owned(),
                ..theirs
            },
        };
    }
    match &agent.pending_permission {
        Some(p) if p.permission_id == session.answered => {
            Condition { waiting_on: "delivery of the answer".to_owned(), ..theirs }
        }
        Some(p) => Condition {
            reason: "PERMISSION_WANTED".to_owned(),
            message: "the agent is asking for permission".to_owned(),
            waiting_on: format!("permission: {}", p.title),
            next_action: "answer it".to_owned(),
            ..theirs
        },
        None => theirs,
    }
}

/// Whether a condition says that output of the agent was left out of the transcript because of a limit.
fn says_output_limit(condition: &Condition) -> bool {
    ["TASK_OUTPUT_LIMIT", "ORGANIZATION_OUTPUT_LIMIT"].contains(&condition.reason.as_str())
}

fn condition_of(sandbox: Option<&Sandbox>) -> Condition {
    sandbox.and_then(|s| s.condition.clone()).unwrap_or_default()
}

fn retryable(condition: Condition) -> Condition {
    let next_action = if condition.next_action.is_empty() {
        "retry the task".to_owned()
    } else {
        condition.next_action.clone()
    };
    let reason = if condition.reason.is_empty() { "FAILED".to_owned() } else { condition.reason.clone() };
    Condition { retryable: true, next_action, reason, waiting_on: String::new(), ..condition }
}
