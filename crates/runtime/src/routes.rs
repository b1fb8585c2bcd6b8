//! Which handler answers which method and path.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_sandbox::AcpId;
use foundry_sandbox::tap::MAX_MESSAGE;
use foundry_sandbox::wire::{Delivered, Greeting, LOG_LENGTH_HEADER, Start, TerminalStarted};
use http::header::{AUTHORIZATION, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::agents::AllAgents;
use crate::auth::Callers;
use crate::error::{Failure, Kind};
use crate::exec::Commands;
use crate::files::Files;
use crate::listing::processes;
use crate::logs::{Logs, MAX_STRETCH};
use crate::program::Places;
use crate::reply::{self, Body, full, raw};
use crate::terminals::Terminals;

/// Largest body of a request of JSON, in bytes.
const MAX_JSON: usize = 4 << 20;
/// Largest hello, in bytes; it is not authenticated.
const MAX_GREETING: usize = 1 << 10;

/// Largest input to a terminal, in bytes.
const MAX_INPUT: usize = 64 << 10;
/// Header with the offset of the first byte of a terminal's output.
const OFFSET_HEADER: &str = "x-offset";
/// Header with the exit code of a terminal's command; absent while it runs.
const ENDED_HEADER: &str = "x-ended";

/// The state behind all routes.
pub(crate) struct Runtime {
    pub env: Env,
    pub start: Start,
    pub callers: Callers,
    pub agents: Arc<AllAgents>,
    pub logs: Arc<Logs>,
    pub commands: Commands,
    pub files: Files,
    pub terminals: Terminals,
    pub places: Places,
}

/// Body of `POST /v1/terminals/{id}/size`.
#[derive(serde::Deserialize)]
struct ScreenSize {
    rows: u16,
    cols: u16,
}

type Answer = Result<Response<Body>, Failure>;

impl Runtime {
    /// Builds the state; starts nothing.
    pub fn new(start: Start, env: Env, places: Places, tasks: &Tasks) -> Self {
        let logs = Arc::new(Logs::new(places.home.clone()));
        let roots = [places.home.clone(), PathBuf::from("/tmp")].into_iter().chain(start.directories.clone());
        let (sandbox, instance) = (start.sandbox.clone(), start.instance.clone());
        Self {
            callers: Callers::new(start.key.clone(), instance.clone()),
            files: Files::new(roots.collect(), env.clone()),
            commands: Commands::new(places.clone(), tasks.clone()),
            terminals: Terminals::new(places.clone(), tasks.clone()),
            places: places.clone(),
            agents: Arc::new(AllAgents::new(sandbox, instance, places, Arc::clone(&logs), tasks.clone())),
            logs,
            start,
            env,
        }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.route(request).await.unwrap_or_else(Response::from)
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        let query = Query::of(head.uri.query());
        if let (&Method::POST, ["v1", "hello"]) = (&head.method, path.as_slice()) {
            let greeting: Greeting = reply::read_json(body, MAX_GREETING).await?;
            return ok(&self.callers.greet(&self.env, &greeting.nonce)?);
        }
        self.callers.check(head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes))?;
        match (head.method.as_str(), path.as_slice()) {
            ("GET", ["v1", "health"]) => {
                let (instance, sandbox) = (&self.start.instance, &self.start.sandbox);
                ok(&json!({ "status": "ok", "instance": instance, "sandbox": sandbox }))
            }
            ("GET", ["v1", "agents"]) => ok(&self.agents.list()),
            ("PUT", ["v1", "agents", acp]) => {
                let acp = acp_id(acp)?;
                ok(&self.agents.start(acp, reply::read_json(body, MAX_JSON).await?).await?)
            }
            ("DELETE", ["v1", "agents", acp]) => {
                self.agents.end(acp_id(acp)?).await?;
                ok(&json!({}))
            }
            ("POST", ["v1", "agents", acp, "messages"]) => {
                let acp = acp_id(acp)?;
                let message = reply::read(body, MAX_MESSAGE).await?;
                ok(&Delivered { outcome: self.agents.pass_on(&acp, &message)? })
            }
            ("GET", ["v1", "logs", acp]) => self.log(acp_id(acp)?, &query).await,
            ("POST", ["v1", "exec"]) => {
                ok(&self.commands.run(reply::read_json(body, MAX_JSON).await?).await?)
            }
            ("GET", ["v1", "processes"]) => self.processes().await,
            ("GET", ["v1", "files"]) => {
                Ok(raw(self.files.read(&query.path()?, query.number("max")?.unwrap_or(u64::MAX)).await?))
            }
            ("PUT", ["v1", "files"]) => {
                let (path, mode) = (query.path()?, query.mode()?);
                if query.has("model_url") {
                    let text = reply::read(body, MAX_JSON).await?;
                    self.files.put(&path, mode, &self.places.with_model_url(&text)?)?;
                } else {
                    self.files.write(&path, mode, body).await?;
                }
                ok(&json!({}))
            }
            (_, ["v1", "terminals", rest @ ..]) => self.terminal(&head, rest, &query, body).await,
            _ => Err(no_route(&head)),
        }
    }

    async fn terminal(&self, head: &Parts, path: &[&str], query: &Query, body: Incoming) -> Answer {
        match (head.method.as_str(), path) {
            ("POST", []) => {
                let terminal = self.terminals.start(&reply::read_json(body, MAX_JSON).await?)?;
                ok(&TerminalStarted { terminal })
            }
            ("GET", [name, "output"]) => {
                let wait = Duration::from_millis(query.number("wait_ms")?.unwrap_or(0));
                let offset = query.number("offset")?.unwrap_or(0);
                let stretch = self.terminals.output(name, offset, wait).await?;
                let mut response = raw(full(stretch.bytes));
                response.headers_mut().insert(OFFSET_HEADER, HeaderValue::from(stretch.offset));
                if let Some(code) = stretch.ended {
                    response.headers_mut().insert(ENDED_HEADER, HeaderValue::from(code));
                }
                Ok(response)
            }
            ("POST", [name, "input"]) => {
                self.terminals.input(name, &reply::read(body, MAX_INPUT).await?).await?;
                ok(&json!({}))
            }
            ("POST", [name, "size"]) => {
                let ScreenSize { rows, cols } = reply::read_json(body, MAX_JSON).await?;
                self.terminals.resize(name, rows, cols).await?;
                ok(&json!({}))
            }
            ("DELETE", [name]) => {
                self.terminals.close(name).await?;
                ok(&json!({}))
            }
            _ => Err(no_route(head)),
        }
    }

    async fn log(&self, acp: AcpId, query: &Query) -> Answer {
        let max = query.number("max")?.unwrap_or(MAX_STRETCH);
        let wait = Duration::from_millis(query.number("wait_ms")?.unwrap_or(0));
        let stretch = self.logs.read(&acp, query.number("offset")?.unwrap_or(0), max, wait).await?;
        let mut response = raw(full(stretch.bytes));
        response.headers_mut().insert(LOG_LENGTH_HEADER, HeaderValue::from(stretch.length));
        Ok(response)
    }

    async fn processes(&self) -> Answer {
        let (sandbox, isolated) = (self.start.sandbox.clone(), self.start.isolated);
        let listed = tokio::task::spawn_blocking(move || processes(&sandbox, isolated)).await;
        ok(&listed.map_err(|e| Failure::io("listing processes", e))?)
    }
}

fn ok(value: &impl serde::Serialize) -> Answer {
    Ok(reply::json(StatusCode::OK, value))
}

fn no_route(head: &Parts) -> Failure {
    Failure::new(Kind::NotFound, format!("no route {} {}", head.method, head.uri.path()))
}

fn acp_id(text: &str) -> Result<AcpId, Failure> {
    text.parse()
        .map_err(|_| Failure::invalid("the conversation's name must be 1 to 64 characters: a-z, 0-9, _ or -"))
}

/// The query of a request.
struct Query(HashMap<String, String>);

impl Query {
    fn of(query: Option<&str>) -> Self {
        Self(url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Failure::invalid(format!("{name} must be a number")))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn path(&self) -> Result<PathBuf, Failure> {
        let path = self.0.get("path").map(PathBuf::from).filter(|p| p.is_absolute());
        path.ok_or_else(|| Failure::invalid("path must be given, and absolute"))
    }

    /// Permissions in octal digits, by default 0600.
    fn mode(&self) -> Result<u32, Failure> {
        let Some(text) = self.0.get("mode") else { return Ok(0o600) };
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| Failure::invalid("mode must be octal digits up to 0777"))
    }
}
