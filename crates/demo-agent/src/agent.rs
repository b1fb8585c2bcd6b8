//! The connection: reads requests, keeps the sessions, and runs each prompt as a task of its own,
//! so that a cancel, an answer or another session's prompt is read while a turn works.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, CancelNotification, ContentBlock, Error as RpcError, Implementation,
    InitializeRequest, InitializeResponse, NewSessionRequest, NewSessionResponse, PromptCapabilities,
    PromptRequest, SessionId, SessionNotification, SessionUpdate, SetSessionConfigOptionRequest,
    SetSessionConfigOptionResponse,
};
use foundry_core::Tasks;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::options::DemoOptions;
use crate::session::Session;
use crate::settings::{self, Settings};
use crate::steps::described;
use crate::turn::{Answer, Done, Turn};
use crate::wire::{Incoming, Line, MAX_LINE, Outbox, OutputClosed, Requests, parse, read_line};
use crate::workspace::Workspace;

/// The most sessions one process keeps.
const MAX_SESSIONS: usize = 256;
/// How long running turns have to stop their commands when the agent ends.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How the agent ended.
#[derive(Debug)]
pub enum Ended {
    /// The client closed the input, or [`DemoOptions::stop`] was cancelled.
    InputClosed,
    /// The client stopped reading, or the input failed.
    Broken(std::io::Error),
    /// A prompt contained `crash`: the process must exit at once.
    Crashed,
    /// A turn panicked.
    Panicked,
}

impl Ended {
    /// The status the process exits with.
    pub fn status(&self) -> u8 {
        match self {
            Self::InputClosed => 0,
            Self::Broken(_) => 1,
            Self::Crashed => 42,
            Self::Panicked => 70,
        }
    }
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(ended.status())
    }
}

/// Runs the agent on standard input and output and exits the process: with 0 when the client disconnects or on SIGTERM,
/// SIGINT and SIGHUP (running commands are stopped first), with 42 on `crash`.
/// It exits by itself because the runtime would otherwise wait for the thread that reads standard input.
pub async fn run_stdio() -> ExitCode {
    let options = DemoOptions::from_environment();
    let signals = match stop_on_signals() {
        Ok(signals) => signals,
        Err(e) => {
            tracing::error!(error = %e, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
    };
    let stop = options.stop.clone();
    let running = Box::pin(run(tokio::io::stdin(), tokio::io::stdout(), options));
    tokio::pin!(signals);
    let ended = tokio::select! {
        ended = running => ended,
        () = async { signals.as_mut().await; stop.cancel(); std::future::pending().await } => Ended::InputClosed,
    };
    std::process::exit(i32::from(ended.status()))
}

fn stop_on_signals() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Runs the agent until its input ends, its output breaks, or a prompt crashes it.
/// No command outlives it.
pub async fn run<R, W>(input: R, output: W, options: DemoOptions) -> Ended
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (tasks, mut failures) = Tasks::new();
    let (outbox, writing) = Outbox::new(output);
    let (written, writer_ended) = oneshot::channel();
    tasks.spawn("demo-agent-writer", async move {
        // The receiver is dropped only when the agent has ended.
        let _ = written.send(writing.await);
    });
    let crash = CancellationToken::new();
    let stop = options.stop.clone();
    let mut agent = Agent {
        options: Arc::new(options),
        outbox,
        requests: Arc::new(Requests::default()),
        sessions: HashMap::new(),
        initialized: false,
        forms: false,
        tasks: tasks.clone(),
        crash: crash.clone(),
    };
    let ended = tokio::select! {
        biased;
        () = crash.cancelled() => return Ended::Crashed,
        Some(_) = failures.recv() => Ended::Panicked,
        Ok(Err(e)) = writer_ended => Ended::Broken(e),
        () = stop.cancelled() => Ended::InputClosed,
        read = agent.serve(BufReader::with_capacity(64 << 10, input)) => match read {
            Ok(()) => Ended::InputClosed,
            Err(e) => Ended::Broken(e),
        },
    };
    // The writer ends when the last outbox is dropped: the agent's here, those of the turns with them.
    drop(agent);
    if !tasks.shutdown(END_LIMIT).await {
        tracing::warn!("a turn of the demo agent did not stop in time");
    }
    ended
}

struct Agent {
    options: Arc<DemoOptions>,
    outbox: Outbox,
    requests: Arc<Requests>,
    sessions: HashMap<SessionId, Arc<Session>>,
    initialized: bool,
    /// Whether the client supports forms.
    forms: bool,
    tasks: Tasks,
    crash: CancellationToken,
}

impl Agent {
    async fn serve<R: AsyncRead + Unpin>(&mut self, mut input: BufReader<R>) -> std::io::Result<()> {
        loop {
            let handled = match read_line(&mut input).await? {
                Line::End => return Ok(()),
                Line::TooLong => {
                    let why = format!("a line is at most {MAX_LINE} bytes");
                    self.reject(&Value::Null, RpcError::invalid_request().data(json!(why))).await
                }
                Line::Full(line) if line.trim_ascii().is_empty() => Ok(()),
                Line::Full(line) => self.handle(parse(&line)).await,
            };
            if handled.is_err() {
                // `run` reports why the output is closed.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn handle(&mut self, message: Incoming) -> Result<(), OutputClosed> {
        match message {
            Incoming::Request { id, method, params } => self.request(id, &method, params).await,
            Incoming::Notification { method, params } => {
                self.notified(&method, params);
                Ok(())
            }
            Incoming::Response { id, result } => {
                self.requests.answered(&id, result);
                Ok(())
            }
            Incoming::Invalid { id, error } => self.reject(&id, error).await,
        }
    }

    async fn reject(&self, id: &Value, error: RpcError) -> Result<(), OutputClosed> {
        self.outbox.answer::<()>(id, &Err(error)).await
    }

    async fn request(&mut self, id: Value, method: &str, params: Value) -> Result<(), OutputClosed> {
        if method == "initialize" {
            let request = read_params::<InitializeRequest>(params);
            if let Ok(request) = &request {
                let forms = request.client_capabilities.elicitation.as_ref().and_then(|e| e.form.as_ref());
                self.forms = forms.is_some();
            }
            let answer = request.map(|_| initialize());
            self.initialized |= answer.is_ok();
            return self.answer(&id, answer).await;
        }
        if !self.initialized {
            let error = RpcError::invalid_request().data(json!("initialize comes first"));
            return self.reject(&id, error).await;
        }
        match method {
            "session/new" => {
                let answer = read_params(params).and_then(|request| self.open_session(&request));
                let opened = answer.as_ref().ok().map(|answer| answer.session_id.clone());
                self.answer(&id, answer).await?;
                let Some(session) = opened else { return Ok(()) };
                let update = SessionUpdate::AvailableCommandsUpdate(settings::commands());
                self.outbox.notify("session/update", &SessionNotification::new(session, update)).await
            }
            "session/set_config_option" => {
                let answer = read_params(params).and_then(|request| self.set_option(&request));
                self.answer(&id, answer).await
            }
            "session/prompt" => {
                match read_params(params).and_then(|request| self.begin_turn(&id, &request)) {
                    Ok(()) => Ok(()),
                    Err(error) => self.reject(&id, error).await,
                }
            }
            _ => self.reject(&id, RpcError::method_not_found().data(json!(method))).await,
        }
    }

    async fn answer<A: Serialize>(
        &self,
        id: &Value,
        answer: Result<A, RpcError>,
    ) -> Result<(), OutputClosed> {
        self.outbox.answer(id, &answer).await
    }

    fn open_session(&mut self, request: &NewSessionRequest) -> Result<NewSessionResponse, RpcError> {
        if self.sessions.len() >= MAX_SESSIONS {
            let why = format!("this process keeps at most {MAX_SESSIONS} sessions");
            return Err(RpcError::invalid_request().data(json!(why)));
        }
        let workspace = Workspace::open(&request.cwd).map_err(|e| {
            RpcError::invalid_params().data(json!({ "cwd": request.cwd, "reason": e.to_string() }))
        })?;
        let id = SessionId::new(format!("session-{}", self.sessions.len() + 1));
        self.sessions.insert(id.clone(), Arc::new(Session::new(id.clone(), workspace)));
        Ok(NewSessionResponse::new(id).config_options(Settings::default().offered()))
    }

    fn set_option(
        &self,
        request: &SetSessionConfigOptionRequest,
    ) -> Result<SetSessionConfigOptionResponse, RpcError> {
        let session = self.sessions.get(&request.session_id);
        let session = session.ok_or_else(|| RpcError::session_not_found(request.session_id.clone()))?;
        session.change(|settings| {
            settings.set(request)?;
            Ok(SetSessionConfigOptionResponse::new(settings.offered()))
        })
    }

    fn begin_turn(&self, id: &Value, request: &PromptRequest) -> Result<(), RpcError> {
        let session = self
            .sessions
            .get(&request.session_id)
            .cloned()
            .ok_or_else(|| RpcError::session_not_found(request.session_id.clone()))?;
        let cancel = session.begin_turn(id, self.tasks.cancellation()).ok_or_else(|| {
            RpcError::invalid_request().data(json!("a turn is already running in this session"))
        })?;
        let turn = Turn {
            session: session.clone(),
            options: self.options.clone(),
            outbox: self.outbox.clone(),
            requests: self.requests.clone(),
            cancel,
            forms: self.forms,
            pause: self.options.chunk_pause,
            done: Done::default(),
            attachments: described(&request.prompt),
        };
        let (id, prompt) = (id.clone(), prompt_text(&request.prompt));
        let (outbox, crash) = (self.outbox.clone(), self.crash.clone());
        self.tasks.spawn("demo-agent-turn", async move {
            let answer = Box::pin(turn.perform(&prompt)).await;
            session.end_turn();
            match answer {
                // `run` reports a closed output.
                Answer::Response(answer) => drop(outbox.answer(&id, &answer).await),
                Answer::None => {}
                Answer::Crash => crash.cancel(),
            }
        });
        Ok(())
    }

    fn notified(&self, method: &str, params: Value) {
        match method {
            "session/cancel" => {
                let session = read_params::<CancelNotification>(params).ok();
                if let Some(session) = session.and_then(|n| self.sessions.get(&n.session_id)) {
                    session.cancel_turn();
                }
            }
            "$/cancel_request" => {
                let request = &params["requestId"];
                self.sessions.values().for_each(|session| session.cancel_request(request));
            }
            // Notifications are never answered; unknown ones are ignored.
            _ => {}
        }
    }
}

fn initialize() -> InitializeResponse {
    // One version is supported; a client that needs another finds it in the response.
    InitializeResponse::new(ProtocolVersion::V1)
        .agent_info(
            Implementation::new(crate::AGENT_NAME, env!("CARGO_PKG_VERSION"))
                .title("Demo agent (no model)".to_owned()),
        )
        .agent_capabilities(
            AgentCapabilities::new()
                .load_session(false)
                .prompt_capabilities(PromptCapabilities::new().embedded_context(true).image(true)),
        )
}

fn read_params<P: DeserializeOwned>(params: Value) -> Result<P, RpcError> {
    serde_json::from_value(params).map_err(|e| RpcError::invalid_params().data(json!(e.to_string())))
}

/// The text of a prompt; of links only the names. `show attachments` lists the rest.
fn prompt_text(blocks: &[ContentBlock]) -> String {
    let mut text = Vec::new();
    for block in blocks {
        match block {
            ContentBlock::Text(words) => text.push(words.text.clone()),
            ContentBlock::ResourceLink(link) => text.push(format!("(attached: {})", link.name)),
            _ => {}
        }
    }
    text.join("\n")
}
