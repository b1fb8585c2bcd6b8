//! A fake provisioner whose sandboxes and turns advance as far as the test lets them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use foundry_core::{AttachmentId, Env};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{
    AgentMessage, AgentOption, AgentOptionChoice, AgentOptions, AgentSettings, Attachment, Condition,
    ElicitationRequest, PermissionPolicy, PermissionRequest, TranscriptPart, TurnEnd, TurnOutcome,
};
use foundry_proto::provisioner::v1::attachment_service_server::AttachmentService;
use foundry_proto::provisioner::v1::provisioner_service_server::ProvisionerService;
use foundry_proto::provisioner::v1::*;
use foundry_watch_hub::FrameStream;
use tokio::sync::{Notify, watch};
use tonic::{Request, Response, Status};

use super::repo::not_needed;
use super::upstream::Items;

mod attachments;

type Answer<T> = Result<Response<T>, Status>;

/// Id of the only profile, named `night`.
pub const NIGHT: &str = "prf_00000000000000000000000000000001";

/// The agent and the profile id for a request.
fn chosen(agent: &str, profile: &str) -> Result<(String, String), Status> {
    match (agent, profile) {
        ("", "") => Ok(("demo".to_owned(), String::new())),
        ("", "night" | NIGHT) => Ok(("claude".to_owned(), NIGHT.to_owned())),
        (agent, "") => Ok((agent.to_owned(), String::new())),
        ("", profile) => {
            Err(foundry_core::Error::precondition("PROFILE_NOT_FOUND", profile, "there is no such profile")
                .into())
        }
        _ => Err(Status::invalid_argument("both an agent and a profile")),
    }
}

#[derive(Default)]
struct State {
    sandboxes: HashMap<String, Sandbox>,
    sessions: HashMap<String, AgentSession>,
    /// The requests that created sessions, by request id.
    created: HashMap<String, CreateAgentSessionRequest>,
    /// The settings that each session was created with.
    started: HashMap<String, Option<AgentSettings>>,
    /// Message id and text of all turns, in the order they began.
    prompts: Vec<(String, String)>,
    /// The attachment ids that reached the agent, by message id.
    given: HashMap<String, Vec<String>>,
    /// Organization and metadata of each stored file.
    files: HashMap<String, (String, Attachment)>,
    ensured: usize,
}

#[derive(Clone)]
pub struct FakeProvisioner {
    items: Items,
    env: Env,
    state: Arc<Mutex<State>>,
    /// Whether every unary call hangs.
    pub hangs: Arc<AtomicBool>,
    /// Whether sandboxes cannot be made for now.
    pub refuses_sandboxes: Arc<AtomicBool>,
    /// Whether new sandboxes are ready at once.
    pub eager: Arc<AtomicBool>,
    /// Whether new sessions fail; a retry makes them ready.
    pub fails_sessions: Arc<AtomicBool>,
    /// Whether answers to permission requests are refused.
    pub refuses_answers: Arc<AtomicBool>,
    /// Why watches of sessions end at once; none = they are served.
    pub watch_fault: Arc<Mutex<Option<Status>>>,
    /// Whether prompts are accepted; until then a prompt call waits.
    pub takes_prompts: watch::Sender<bool>,
    /// Sessions whose wait for a quota was ended by a call.
    pub resumed: watch::Sender<Vec<String>>,
    /// Id and newest offset of each session whose events may be deleted, in the order of the calls.
    pub released: watch::Sender<Vec<(String, i64)>>,
    /// Notified of every prompt.
    pub prompted: Arc<Notify>,
}

impl FakeProvisioner {
    pub async fn new(env: &Env, dir: &Path) -> Self {
        Self {
            items: Items::new(env, dir, "provisioner").await,
            env: env.clone(),
            state: Arc::default(),
            hangs: Arc::default(),
            refuses_sandboxes: Arc::default(),
            eager: Arc::new(AtomicBool::new(true)),
            fails_sessions: Arc::default(),
            refuses_answers: Arc::default(),
            watch_fault: Arc::default(),
            takes_prompts: watch::Sender::new(true),
            resumed: watch::Sender::default(),
            released: watch::Sender::default(),
            prompted: Arc::default(),
        }
    }

    async fn answer(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// The texts that reached an agent, in order.
    pub fn prompts(&self) -> Vec<String> {
        self.state.lock().unwrap().prompts.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Stores a file of an organization.
    pub fn add_file(&self, organization: &str, name: &str) -> Attachment {
        let attachment_id = AttachmentId::generate(&self.env).to_string();
        let file = Attachment {
            attachment_id: attachment_id.clone(),
            name: name.to_owned(),
            media_type: "image/png".to_owned(),
            size: 3,
            reason: String::new(),
        };
        self.state.lock().unwrap().files.insert(attachment_id, (organization.to_owned(), file.clone()));
        file
    }

    /// A file is gone.
    pub fn remove_file(&self, id: &str) {
        self.state.lock().unwrap().files.remove(id);
    }

    /// The attachment ids that reached the agent with a message.
    pub fn given(&self, message_id: &str) -> Vec<String> {
        self.state.lock().unwrap().given.get(message_id).cloned().unwrap_or_default()
    }

    pub fn sandbox_states(&self) -> Vec<SandboxState> {
        self.state.lock().unwrap().sandboxes.values().map(Sandbox::state).collect()
    }

    pub async fn set_sandboxes(&self, state: SandboxState) {
        let all: Vec<Sandbox> = self.state.lock().unwrap().sandboxes.values().cloned().collect();
        for mut sandbox in all {
            sandbox.set_state(state);
            self.put_sandbox(sandbox).await;
        }
    }

    /// An attempt of all sandboxes has failed; the next is at a time, in seconds since 1970.
    pub async fn fail_attempt(&self, reason: &str, next: i64) {
        let all: Vec<Sandbox> = self.state.lock().unwrap().sandboxes.values().cloned().collect();
        for mut sandbox in all {
            sandbox.set_state(SandboxState::InstallingAgent);
            sandbox.condition = Some(Condition {
                reason: reason.to_owned(),
                attempt: 2,
                max_attempts: 10,
                next_attempt_time: Some(prost_types::Timestamp { seconds: next, nanos: 0 }),
                ..Condition::default()
            });
            self.put_sandbox(sandbox).await;
        }
    }

    /// Knows no sandbox any more.
    pub fn forget_sandboxes(&self) {
        self.state.lock().unwrap().sandboxes.clear();
    }

    /// Destroys all sandboxes and closes their sessions.
    pub async fn lose_sandboxes(&self) {
        self.close_sessions(|_| true).await;
        self.set_sandboxes(SandboxState::Destroyed).await;
    }

    async fn close_sessions(&self, which: impl Fn(&AgentSession) -> bool) {
        let all: Vec<AgentSession> = self.state.lock().unwrap().sessions.values().cloned().collect();
        for mut session in all.into_iter().filter(which) {
            session.set_state(AgentSessionState::Closed);
            self.put_session(session).await;
        }
    }

    async fn put_sandbox(&self, sandbox: Sandbox) -> i64 {
        self.state.lock().unwrap().sandboxes.insert(sandbox.sandbox_id.clone(), sandbox.clone());
        let (scope, key) = (sandbox.organization_id.clone(), format!("sandbox/{}", sandbox.sandbox_id));
        let item = SandboxItem { item: Some(sandbox_item::Item::Sandbox(sandbox)) };
        self.items.put(&scope, &[(key, 0, item)]).await
    }

    async fn put_session(&self, session: AgentSession) -> i64 {
        self.state.lock().unwrap().sessions.insert(session.session_id.clone(), session.clone());
        let (scope, key) = (session.organization_id.clone(), format!("session/{}", session.session_id));
        let item = AgentSessionItem { item: Some(agent_session_item::Item::AgentSession(session.clone())) };
        self.items.put(&session.session_id, &[("session".to_owned(), 0, item)]).await;
        let item = SandboxItem { item: Some(sandbox_item::Item::AgentSession(session)) };
        self.items.put(&scope, &[(key, 0, item)]).await
    }

    /// The settings that a session was created with.
    pub fn settings(&self, id: &str) -> Option<AgentSettings> {
        self.state.lock().unwrap().started.get(id).cloned().flatten()
    }

    pub fn session(&self, id: &str) -> Option<AgentSession> {
        self.state.lock().unwrap().sessions.get(id).cloned()
    }

    async fn emit(&self, session: &mut AgentSession, body: Body) {
        session.last_offset += 1;
        let part = TranscriptPart {
            message_id: session.message_id.clone(),
            body: Some(body),
            ..TranscriptPart::default()
        };
        let event = AgentEvent {
            session_id: session.session_id.clone(),
            offset: session.last_offset,
            part: Some(part),
        };
        let item = AgentSessionItem { item: Some(agent_session_item::Item::Event(event)) };
        let key = format!("event/{:012}", session.last_offset);
        self.items.put(&session.session_id, &[(key, session.last_offset, item)]).await;
    }

    /// Deletes the events of a session, as after a release.
    pub async fn delete_events(&self, session_id: &str) {
        for offset in 1..=self.session(session_id).unwrap().last_offset {
            self.items.delete(session_id, &format!("event/{offset:012}")).await;
        }
    }

    /// Emits an agent message.
    pub async fn say(&self, session_id: &str, text: &str) {
        let mut session = self.session(session_id).unwrap();
        self.emit(&mut session, Body::AgentMessage(AgentMessage { text: text.into() })).await;
        self.put_session(session).await;
    }

    pub async fn ask(&self, session_id: &str, pending: Option<PermissionRequest>) {
        let mut session = self.session(session_id).unwrap();
        session.pending_permission = pending;
        self.put_session(session).await;
    }

    pub async fn elicit(&self, session_id: &str, pending: Option<ElicitationRequest>) {
        let mut session = self.session(session_id).unwrap();
        session.pending_elicitation = pending;
        self.put_session(session).await;
    }

    /// Lets the agent offer these modes; the first is the current one.
    pub async fn offer(&self, session_id: &str, modes: &[&str]) {
        let mut session = self.session(session_id).unwrap();
        let choice = |m: &&str| AgentOptionChoice { value: (*m).to_owned(), ..AgentOptionChoice::default() };
        let mode = AgentOption {
            option_id: "mode".into(),
            value: modes[0].to_owned(),
            choices: modes.iter().map(choice).collect(),
            ..AgentOption::default()
        };
        // Truncated, as with an agent that has more choices than are shown.
        let options = AgentOptions { options: vec![mode], truncated: true, ..AgentOptions::default() };
        session.options = Some(options);
        self.put_session(session).await;
    }

    /// Ends the running turn. The session's state arrives before the event of the turn's end.
    pub async fn end_turn(&self, session_id: &str, outcome: TurnOutcome) {
        self.tell_ready(session_id).await;
        self.tell_end(session_id, outcome).await;
    }

    /// The first half of a turn's end: the session is ready, and one event is still to come.
    pub async fn tell_ready(&self, session_id: &str) {
        let mut session = self.session(session_id).unwrap();
        session.set_state(AgentSessionState::Ready);
        session.last_offset += 1;
        self.put_session(session).await;
    }

    /// The second half of a turn's end: the event.
    pub async fn tell_end(&self, session_id: &str, outcome: TurnOutcome) {
        let mut session = self.session(session_id).unwrap();
        session.last_offset -= 1;
        let end = TurnEnd { outcome: outcome.into(), ..TurnEnd::default() };
        self.emit(&mut session, Body::TurnEnd(end)).await;
    }

    /// The event of a turn's end before the session's state.
    pub async fn tell_end_early(&self, session_id: &str, outcome: TurnOutcome) {
        let mut session = self.session(session_id).unwrap();
        let end = TurnEnd { outcome: outcome.into(), ..TurnEnd::default() };
        self.emit(&mut session, Body::TurnEnd(end)).await;
    }

    /// Ends the running turn because the model provider's quota is used up until a time.
    pub async fn refuse_until(&self, session_id: &str, until: prost_types::Timestamp) {
        let mut session = self.session(session_id).unwrap();
        session.condition = Some(Condition {
            reason: "MODEL_QUOTA".to_owned(),
            next_attempt_time: Some(until),
            ..Condition::default()
        });
        self.put_session(session).await;
        self.tell_ready(session_id).await;
        let mut session = self.session(session_id).unwrap();
        session.last_offset -= 1;
        let end = TurnEnd {
            outcome: TurnOutcome::Error.into(),
            reason: "MODEL_QUOTA".to_owned(),
            next_attempt_time: Some(until),
            ..TurnEnd::default()
        };
        self.emit(&mut session, Body::TurnEnd(end)).await;
    }

    /// Sets the condition of a session.
    pub async fn set_condition(&self, session_id: &str, condition: Condition) {
        let mut session = self.session(session_id).unwrap();
        session.condition = Some(condition);
        self.put_session(session).await;
    }

    fn find(&self, id: &str) -> Result<AgentSession, Status> {
        self.session(id).ok_or_else(|| Status::not_found("no such session"))
    }
}

fn lives(sandbox: &Sandbox, task_id: &str) -> bool {
    sandbox.task_id == task_id && sandbox.state() != SandboxState::Destroyed
}

#[async_trait::async_trait]
impl ProvisionerService for FakeProvisioner {
    type WatchSandboxesStream = FrameStream;
    type WatchSandboxStream = FrameStream;
    type WatchAgentSessionStream = FrameStream;

    async fn ensure_sandbox(&self, request: Request<EnsureSandboxRequest>) -> Answer<EnsureSandboxResponse> {
        self.answer().await;
        if self.refuses_sandboxes.load(Ordering::SeqCst) {
            return Err(Status::unavailable("no room"));
        }
        let request = request.into_inner();
        let (agent, profile_id) = chosen(&request.agent, &request.profile_id)?;
        let living =
            self.state.lock().unwrap().sandboxes.values().find(|s| lives(s, &request.task_id)).cloned();
        let sandbox = living.unwrap_or_else(|| {
            let number = {
                let mut state = self.state.lock().unwrap();
                state.ensured += 1;
                state.ensured
            };
            let ready = self.eager.load(Ordering::SeqCst);
            Sandbox {
                sandbox_id: format!("sbx_{number:032x}"),
                organization_id: request.organization_id.clone(),
                task_id: request.task_id.clone(),
                agent,
                profile_id,
                state: if ready { SandboxState::Ready } else { SandboxState::Queued }.into(),
                create_time: Some(self.env.clock.now().to_proto()),
                ..Sandbox::default()
            }
        });
        let rev = self.put_sandbox(sandbox.clone()).await;
        Ok(Response::new(EnsureSandboxResponse { sandbox: Some(sandbox), rev }))
    }

    async fn retry_sandbox(&self, request: Request<RetrySandboxRequest>) -> Answer<RetrySandboxResponse> {
        self.answer().await;
        let id = request.into_inner().sandbox_id;
        let mut sandbox = self.state.lock().unwrap().sandboxes[&id].clone();
        sandbox.set_state(SandboxState::Ready);
        sandbox.condition = None;
        let rev = self.put_sandbox(sandbox.clone()).await;
        Ok(Response::new(RetrySandboxResponse { sandbox: Some(sandbox), rev }))
    }

    async fn destroy_sandbox(
        &self,
        request: Request<DestroySandboxRequest>,
    ) -> Answer<DestroySandboxResponse> {
        self.answer().await;
        let id = request.into_inner().sandbox_id;
        self.close_sessions(|session| session.sandbox_id == id).await;
        let mut sandbox = self.state.lock().unwrap().sandboxes[&id].clone();
        sandbox.set_state(SandboxState::Destroyed);
        let rev = self.put_sandbox(sandbox.clone()).await;
        Ok(Response::new(DestroySandboxResponse { sandbox: Some(sandbox), rev }))
    }

    async fn create_agent_session(
        &self,
        request: Request<CreateAgentSessionRequest>,
    ) -> Answer<CreateAgentSessionResponse> {
        self.answer().await;
        let request = request.into_inner();
        if !request.request_id.is_empty() {
            let mut state = self.state.lock().unwrap();
            let first = state.created.entry(request.request_id.clone()).or_insert_with(|| request.clone());
            if *first != request {
                let error = foundry_core::Error::new(
                    foundry_core::Code::InvalidArgument,
                    "REQUEST_ID_REUSED",
                    "this request id was used with another content",
                );
                return Err(error.into());
            }
        }
        let sandbox = self.state.lock().unwrap().sandboxes[&request.sandbox_id].clone();
        let (agent, profile_id) = match (request.agent.as_str(), request.profile_id.as_str()) {
            ("", "") => (sandbox.agent.clone(), sandbox.profile_id.clone()),
            (agent, profile) => chosen(agent, profile)?,
        };
        self.state.lock().unwrap().started.insert(request.session_id.clone(), request.settings.clone());
        let known = self.session(&request.session_id);
        let elsewhere = |s: &AgentSession| s.sandbox_id != request.sandbox_id;
        if known.as_ref().is_some_and(|s| elsewhere(s) && s.state() != AgentSessionState::Closed) {
            return Err(Status::already_exists("the session is in another sandbox"));
        }
        let fails = self.fails_sessions.load(Ordering::SeqCst);
        let state = if fails { AgentSessionState::Error } else { AgentSessionState::Ready };
        let session = match known {
            Some(s) if !elsewhere(&s) => s,
            moved => AgentSession {
                session_id: request.session_id.clone(),
                organization_id: sandbox.organization_id,
                task_id: sandbox.task_id,
                sandbox_id: request.sandbox_id.clone(),
                agent,
                profile_id,
                permission_policy: request.permission_policy.max(PermissionPolicy::Ask.into()),
                state: state.into(),
                ..moved.unwrap_or_default()
            },
        };
        let rev = self.put_session(session.clone()).await;
        Ok(Response::new(CreateAgentSessionResponse { agent_session: Some(session), rev }))
    }

    async fn retry_agent_session(
        &self,
        request: Request<RetryAgentSessionRequest>,
    ) -> Answer<RetryAgentSessionResponse> {
        self.answer().await;
        let mut session = self.find(&request.into_inner().session_id)?;
        if session.state() != AgentSessionState::Error {
            return Err(Status::failed_precondition("only a failed session can be retried"));
        }
        session.set_state(AgentSessionState::Ready);
        let rev = self.put_session(session.clone()).await;
        Ok(Response::new(RetryAgentSessionResponse { agent_session: Some(session), rev }))
    }

    async fn prompt_agent_session(
        &self,
        request: Request<PromptAgentSessionRequest>,
    ) -> Answer<PromptAgentSessionResponse> {
        self.answer().await;
        self.prompted.notify_one();
        let _ = self.takes_prompts.subscribe().wait_for(|takes| *takes).await;
        let request = request.into_inner();
        let mut session = self.find(&request.session_id)?;
        let known = self.state.lock().unwrap().prompts.iter().any(|(id, _)| *id == request.message_id);
        if !known {
            if session.state() != AgentSessionState::Ready {
                return Err(Status::failed_precondition("a turn runs"));
            }
            let mut state = self.state.lock().unwrap();
            state.given.insert(request.message_id.clone(), request.attachment_ids);
            state.prompts.push((request.message_id.clone(), request.text));
            drop(state);
            session.set_state(AgentSessionState::Running);
            session.message_id = request.message_id;
            session.turn_count += 1;
        }
        let rev = self.put_session(session.clone()).await;
        Ok(Response::new(PromptAgentSessionResponse { agent_session: Some(session), rev }))
    }

    async fn resume_agent_session(
        &self,
        request: Request<ResumeAgentSessionRequest>,
    ) -> Answer<ResumeAgentSessionResponse> {
        let session_id = request.into_inner().session_id;
        self.resumed.send_modify(|all| all.push(session_id.clone()));
        Ok(Response::new(ResumeAgentSessionResponse { agent_session: self.session(&session_id), rev: 0 }))
    }

    async fn cancel_prompt(&self, request: Request<CancelPromptRequest>) -> Answer<CancelPromptResponse> {
        self.answer().await;
        let CancelPromptRequest { session_id: id, message_id, .. } = request.into_inner();
        let session = self.find(&id)?;
        let meant = message_id.is_empty() || message_id == session.message_id;
        if meant && session.state() == AgentSessionState::Running {
            self.end_turn(&id, TurnOutcome::Cancelled).await;
        }
        Ok(Response::new(CancelPromptResponse { agent_session: self.session(&id), rev: 0 }))
    }

    async fn respond_to_permission(
        &self,
        request: Request<RespondToPermissionRequest>,
    ) -> Answer<RespondToPermissionResponse> {
        self.answer().await;
        if self.refuses_answers.load(Ordering::SeqCst) {
            return Err(Status::failed_precondition("the agent cannot be answered now"));
        }
        self.ask(&request.into_inner().session_id, None).await;
        Ok(Response::new(RespondToPermissionResponse::default()))
    }

    async fn respond_to_elicitation(
        &self,
        request: Request<RespondToElicitationRequest>,
    ) -> Answer<RespondToElicitationResponse> {
        self.answer().await;
        if self.refuses_answers.load(Ordering::SeqCst) {
            return Err(Status::failed_precondition("the agent cannot be answered now"));
        }
        self.elicit(&request.into_inner().session_id, None).await;
        Ok(Response::new(RespondToElicitationResponse::default()))
    }

    async fn set_agent_session_option(
        &self,
        request: Request<SetAgentSessionOptionRequest>,
    ) -> Answer<SetAgentSessionOptionResponse> {
        self.answer().await;
        let request = request.into_inner();
        if self.refuses_answers.load(Ordering::SeqCst) {
            let gone =
                foundry_core::Error::precondition("OPTION_UNKNOWN", "mode", "it is not offered any more");
            return Err(gone.into());
        }
        let mut session = self.find(&request.session_id)?;
        let options = session.options.iter_mut().flat_map(|o| &mut o.options);
        for option in options.filter(|o| o.option_id == request.option_id) {
            option.wanted.clone_from(&request.value);
        }
        let rev = self.put_session(session.clone()).await;
        Ok(Response::new(SetAgentSessionOptionResponse { agent_session: Some(session), rev }))
    }

    async fn close_agent_session(
        &self,
        request: Request<CloseAgentSessionRequest>,
    ) -> Answer<CloseAgentSessionResponse> {
        self.answer().await;
        let mut session = self.find(&request.into_inner().session_id)?;
        session.set_state(AgentSessionState::Closed);
        self.put_session(session).await;
        Ok(Response::new(CloseAgentSessionResponse::default()))
    }

    async fn release_agent_events(
        &self,
        request: Request<ReleaseAgentEventsRequest>,
    ) -> Answer<ReleaseAgentEventsResponse> {
        self.answer().await;
        let request = request.into_inner();
        self.released.send_modify(|all| all.push((request.session_id, request.stored_offset)));
        Ok(Response::new(ReleaseAgentEventsResponse::default()))
    }

    async fn get_sandbox(&self, request: Request<GetSandboxRequest>) -> Answer<GetSandboxResponse> {
        let found = self.state.lock().unwrap().sandboxes.get(&request.into_inner().sandbox_id).cloned();
        let sandbox = Some(found.ok_or_else(|| Status::not_found("no such sandbox"))?);
        Ok(Response::new(GetSandboxResponse { sandbox }))
    }

    async fn watch_sandboxes(&self, request: Request<WatchSandboxesRequest>) -> Answer<FrameStream> {
        let request = request.into_inner();
        Ok(Response::new(self.items.watch(&request.organization_id, 0, request.options)))
    }

    async fn watch_agent_session(&self, request: Request<WatchAgentSessionRequest>) -> Answer<FrameStream> {
        if let Some(status) = self.watch_fault.lock().unwrap().clone() {
            return Err(status);
        }
        let request = request.into_inner();
        Ok(Response::new(self.items.watch(&request.session_id, request.after_offset, request.options)))
    }

    not_needed! {
        list_sandboxes: ListSandboxesRequest => ListSandboxesResponse;
        watch_sandbox: WatchSandboxRequest => FrameStream;
        list_providers: ListProvidersRequest => ListProvidersResponse;
        list_agents: ListAgentsRequest => ListAgentsResponse;
        list_processes: ListProcessesRequest => ListProcessesResponse;
    }
}
