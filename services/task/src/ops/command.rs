//! What all commands to an existing task share: replay of a repeated request, load, decide, one write set with audit
//! and idempotency, and a new decision when another writer came between.

use foundry_authn::Caller;
use foundry_core::{Env, Error, Result, TaskId, Timestamp};
use foundry_service::{RequestKey, audit};
use foundry_store::{CommitError, Scope, WriteSet};
use prost::Message;

use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::session::Session;
use crate::domain::task::Lifecycle;
use crate::flow::provisioner_call::{self, ProvisionerCall};
use crate::flow::teardown;
use crate::store::aggregate;

/// A command before its decision.
pub struct Command<'a> {
    pub caller: &'a Caller,
    /// The task as authorized for the caller.
    pub found: Box<Aggregate>,
    /// Name of the rpc; part of the request key.
    pub method: &'static str,
    /// The client's id of this request.
    pub request_id: &'a str,
    /// Whether it creates an entity. Its first answer is then replayed without a time limit.
    pub creates: bool,
    /// Whether it ends the task, which a damaged one allows, too.
    pub ends: bool,
    /// Name in the audit log, such as `task.rename`.
    pub action: &'static str,
    /// Id of the entity concerned, for the audit log.
    pub subject: &'a str,
    /// The scope whose revision is returned.
    pub scope: Scope,
}

/// What a decision reads and changes.
pub struct Decision<'a> {
    /// Clock and random source.
    pub env: &'a Env,
    /// The caller, for audit and flows.
    pub caller: &'a Caller,
    /// The moment of the decision.
    pub now: Timestamp,
    /// The task aggregate; changes to it are written.
    pub aggregate: Box<Aggregate>,
    /// Anything else to write in the same transaction.
    pub ws: WriteSet,
}

impl<'a> Command<'a> {
    /// A command that neither creates an entity nor ends the task. The revision of its answer is the organization's.
    pub fn new(
        caller: &'a Caller,
        found: Box<Aggregate>,
        method: &'static str,
        request_id: &'a str,
        action: &'static str,
        subject: &'a str,
    ) -> Self {
        let scope = Scope::organization(&found.task.organization_id);
        Self { caller, found, method, request_id, creates: false, ends: false, action, subject, scope }
    }

    /// Decides and writes; returns the answer and its revision.
    ///
    /// `decide` changes the aggregate; `answer` builds the answer from the aggregate as written.
    ///
    /// # Errors
    /// The error of `decide`; `ABORTED` when others kept changing the task.
    pub async fn run<A, D, M, T>(self, cx: &Context, request: &M, decide: D, answer: T) -> Result<(A, i64)>
    where
        A: Message + Default,
        M: Message,
        D: Fn(&mut Decision<'_>) -> Result<()>,
        T: Fn(&Aggregate) -> A,
    {
        let organization = self.found.task.organization_id.clone();
        let id: TaskId = self.found.task.task_id.clone();
        let key = RequestKey::new(organization.as_str(), self.caller, self.method, self.request_id, request)?;
        if let Some(first) = key.first_answer(&cx.store).await? {
            return Ok(first);
        }
        let mut found = Some(self.found);
        let (mut tries, mut turn) = (0, None);
        loop {
            tries += 1;
            let before = match found.take() {
                Some(found) => found,
                None => aggregate::load_damaged_too(&cx.store, &id)
                    .await?
                    .ok_or_else(|| Error::not_found("task", id.as_str()))?,
            };
            if !self.ends {
                before.require_readable()?;
            }
            let mut ws = WriteSet::new();
            let rev = ws.scope(self.scope.clone());
            let now = cx.env.clock.now();
            let mut decision =
                Decision { env: &cx.env, caller: self.caller, now, aggregate: before.clone(), ws };
            if let Err(e) = decide(&mut decision) {
                return key.settle(&cx.store, None, Err(CommitError::Refused(e))).await;
            }
            let Decision { aggregate, mut ws, .. } = decision;
            let after = aggregate::write(&mut ws, &cx.env, &before, aggregate);
            let answer = answer(&after);
            ws.audit(audit(&organization, self.caller, "", self.action, self.subject, self.request_id));
            if self.creates {
                key.remember_create(&mut ws, &answer);
            } else {
                key.remember(&mut ws, &answer, &cx.env);
            }
            match cx.store.commit(ws).await {
                Ok(committed) => return Ok((answer, committed.rev(rev))),
                Err(e) if e.is_concurrent_change() && tries < MAX_DECISIONS => {
                    // The task is busy: wait for a turn before the next attempt.
                    if turn.is_none() {
                        turn = Some(cx.writers.turn(&id).await);
                    }
                }
                Err(e) => return key.settle(&cx.store, Some(&self.scope), Err(e)).await,
            }
        }
    }
}

/// How often a command is decided when others keep writing the task.
const MAX_DECISIONS: u32 = 10;

impl Decision<'_> {
    /// A session of the task.
    ///
    /// # Errors
    /// `NOT_FOUND` when it has none with this id.
    pub fn session(&mut self, id: &str) -> Result<&mut Session> {
        self.aggregate.session_mut(id).ok_or_else(|| Error::not_found("session", id))
    }

    /// A session that can be worked in.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when it is closed or its task has ended.
    pub fn open_session(&mut self, id: &str) -> Result<&mut Session> {
        self.aggregate.task.require_active()?;
        let session = self.session(id)?;
        if session.closed {
            return Err(Error::precondition("SESSION_CLOSED", id, "the session is closed")
                .next_action("create another session"));
        }
        Ok(session)
    }

    /// Adds the flow that makes a call to the provisioner, about this task or session, for the caller.
    ///
    /// # Errors
    /// When the call cannot be written.
    pub fn send(&mut self, subject_id: &str, call: &ProvisionerCall) -> Result<()> {
        let (organization, user) = (&self.aggregate.task.organization_id, self.caller.actor());
        provisioner_call::send(&mut self.ws, self.env, organization, subject_id, &user, call)
    }

    /// Begins the end of the task, `Archiving` or `Killing`; see [`teardown::begin`].
    ///
    /// # Errors
    /// When a command cannot be written.
    pub fn end(&mut self, end: Lifecycle) -> Result<()> {
        let user = self.caller.actor();
        teardown::begin(&mut self.ws, self.env, &mut self.aggregate, end, self.now, &user)
    }
}

/// The scope in which a change of a message is visible: its session's.
pub fn scope_of_message(aggregate: &Aggregate, id: &str) -> Scope {
    match aggregate.message(id) {
        Some(message) => Scope::session(&message.session_id),
        // A repeated request may arrive after the message has left the queue.
        None => Scope::organization(&aggregate.task.organization_id),
    }
}
