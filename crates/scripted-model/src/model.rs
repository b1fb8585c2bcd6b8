//! The handle of a running model.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Tasks;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use crate::fault::Fault;
use crate::record::RecordedRequest;
use crate::script::Script;
use crate::serve;
use crate::state::{State, Times};

/// A model that runs in this process. It ends, with all its connections, when the handle is dropped.
pub struct ScriptedModel {
    state: Arc<State>,
    address: SocketAddr,
    tasks: Tasks,
}

impl ScriptedModel {
    /// Starts a model on a free port of 127.0.0.1. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When no port is available.
    pub async fn start() -> io::Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), None).await
    }

    /// Starts a model on an address, and writes each request that ended to a log, as a line of JSON.
    ///
    /// When the address is not available.
    /// When the address cannot be had.
    pub async fn start_on(address: SocketAddr, log: Option<File>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(log));
        let (tasks, _) = Tasks::new();
        tasks.spawn("scripted model", accept(listener, Arc::clone(&state), tasks.clone()));
        Ok(Self { state, address, tasks })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://HOST:PORT`, without a slash at its end. OpenAI's clients take it with `/v1` after it, Anthropic's
    /// and Gemini's as it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The settings and records of the requests with one key.
    pub fn key(&self, key: &str) -> Control<'_> {
        Control { state: &self.state, key: Some(key.to_owned()) }
    }

    /// The same for all keys; a setting for one key takes precedence.
    pub fn all(&self) -> Control<'_> {
        Control { state: &self.state, key: None }
    }

    /// Accepts these keys alone; requests with others get 401 in their provider's form.
    pub fn accept_only<'a>(&self, keys: impl IntoIterator<Item = &'a str>) {
        self.state.accept_only(Some(keys.into_iter().map(str::to_owned).collect()));
    }

    /// Waits until an answer has reached its step `hold NAME`.
    pub async fn held(&self, name: &str) {
        self.state.until(|state| state.is_held(name).then_some(())).await;
    }

    /// Releases answers that are, or will be, held under this name; for good, so each name is used once.
    pub fn release(&self, name: &str) {
        self.state.release(name);
    }

    /// Ends the model and waits until its connections are closed, at most 5 seconds.
    pub async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.tasks.cancellation().cancel();
    }
}

/// The settings and records of the requests of one key or of all.
pub struct Control<'a> {
    state: &'a State,
    key: Option<String>,
}

impl Control<'_> {
    /// Makes requests fail from now on, before any script is read.
    pub fn fail(&self, fault: Fault, times: Times) -> &Self {
        self.state.set(self.key.as_deref(), |behaviour| behaviour.fault = Some((fault, times)));
        self
    }

    /// Removes the fault.
    pub fn heal(&self) -> &Self {
        self.state.set(self.key.as_deref(), |behaviour| behaviour.fault = None);
        self
    }

    /// Sets the time between the words of a stream.
    pub fn pace(&self, interval: Duration) -> &Self {
        self.state.set(self.key.as_deref(), |behaviour| behaviour.pace = Some(interval));
        self
    }

    /// Sets the script for prompts that have none, also in requests without tools.
    pub fn script(&self, script: Script) -> &Self {
        self.state.set(self.key.as_deref(), |behaviour| behaviour.script = Some(script));
        self
    }

    /// Restricts the models to these: lists them, and answers 404 for any other.
    pub fn models<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> &Self {
        let names = names.into_iter().map(str::to_owned).collect();
        self.state.set(self.key.as_deref(), |behaviour| behaviour.models = Some(names));
        self
    }

    /// The requests so far, in the order of arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let mut requests = self.state.requests();
        requests.retain(|request| self.is_mine(request));
        requests
    }

    /// Waits for a request for which `wanted` is true. Each request is checked on every change: when it arrives, is
    /// answered and ends. There is no time limit.
    pub async fn request(&self, mut wanted: impl FnMut(&RecordedRequest) -> bool) -> RecordedRequest {
        self.state
            .until(|state| {
                state.requests().into_iter().find(|request| self.is_mine(request) && wanted(request))
            })
            .await
    }

    fn is_mine(&self, request: &RecordedRequest) -> bool {
        self.key.is_none() || request.key == self.key
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, tasks: Tasks) {
    let stopped = tasks.cancellation().clone();
    loop {
        tokio::select! {
            () = stopped.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => tasks.spawn("model connection", connection(stream, Arc::clone(&state), tasks.clone())),
                Err(e) => tracing::warn!(error = %e, "the scripted model could not accept a connection"),
            },
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, tasks: Tasks) {
    // Otherwise small events would be delayed.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| serve::answer(Arc::clone(&state), request));
    let server = auto::Builder::new(TokioExecutor::new());
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = tasks.cancellation().cancelled() => {}
        // An error here means that the client disconnected or the script cut the connection; both are recorded with the
        // request.
        _ = connection => {}
    }
}
