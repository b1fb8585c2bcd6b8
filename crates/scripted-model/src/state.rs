//! The state shared by the server and the handle.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;

use crate::fault::Fault;
use crate::record::{Outcome, RecordedRequest};
use crate::script::Script;
use crate::usage::Usage;

/// How long a fault that was set through the handle applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Every request fails until the fault is removed.
    Always,
    /// This many requests with tools fail; titles and summaries, which agents request at the same time, neither fail
    /// nor count.
    Next(u32),
}

/// The settings for one key, or for all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) fault: Option<(Fault, Times)>,
    pub(crate) pace: Option<Duration>,
    pub(crate) script: Option<Script>,
    pub(crate) models: Option<Vec<String>>,
}

#[derive(Default)]
struct Inner {
    /// The key `None` applies to all keys.
    behaviours: HashMap<Option<String>, Behaviour>,
    keys: Option<HashSet<String>>,
    requests: Vec<RecordedRequest>,
    /// How many requests each failing step has failed.
    failed: HashMap<u64, u32>,
    released: HashSet<String>,
    held: HashSet<String>,
    log: Option<File>,
}

pub(crate) struct State {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    started: Instant,
}

impl State {
    pub(crate) fn new(log: Option<File>) -> Self {
        let inner = Inner { log, ..Inner::default() };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(0), started: Instant::now() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        foundry_core::lock(&self.inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Waits until `look` returns a value; it is called again after every change.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            // The sender is part of `self` and outlives the wait.
            let _ = changes.changed().await;
        }
    }

    pub(crate) fn set(&self, key: Option<&str>, change: impl FnOnce(&mut Behaviour)) {
        change(self.inner().behaviours.entry(key.map(str::to_owned)).or_default());
    }

    pub(crate) fn accept_only(&self, keys: Option<HashSet<String>>) {
        self.inner().keys = keys;
    }

    /// The settings for this key, and for those not set, the settings for all keys.
    pub(crate) fn behaviour(&self, key: Option<&str>) -> Behaviour {
        let inner = self.inner();
        let own =
            key.and_then(|key| inner.behaviours.get(&Some(key.to_owned()))).cloned().unwrap_or_default();
        let all = inner.behaviours.get(&None).cloned().unwrap_or_default();
        Behaviour {
            fault: own.fault.or(all.fault),
            pace: own.pace.or(all.pace),
            script: own.script.or(all.script),
            models: own.models.or(all.models),
        }
    }

    /// The fault from the handle for this request; a counted one is decremented.
    pub(crate) fn take_fault(&self, key: Option<&str>, has_tools: bool) -> Option<Fault> {
        let mut inner = self.inner();
        if let Some(keys) = &inner.keys
            && !key.is_some_and(|key| keys.contains(key))
        {
            return Some(Fault::KeyRefused);
        }
        for key in [key.map(str::to_owned), None] {
            let Some(behaviour) = inner.behaviours.get_mut(&key) else { continue };
            match behaviour.fault {
                Some((fault, Times::Always)) => return Some(fault),
                Some((fault, Times::Next(left))) if has_tools && left > 0 => {
                    behaviour.fault = (left > 1).then_some((fault, Times::Next(left - 1)));
                    return Some(fault);
                }
                _ => {}
            }
        }
        None
    }

    /// Whether a step of a script that fails `times` times must still fail; counts the failure if so.
    pub(crate) fn still_fails(&self, step: u64, times: Option<u32>) -> bool {
        let Some(times) = times else { return true };
        let mut inner = self.inner();
        let failed = inner.failed.entry(step).or_default();
        let fails = *failed < times;
        *failed += u32::from(fails);
        fails
    }

    /// Records a request and returns its number.
    pub(crate) fn arrived(&self, mut request: RecordedRequest) -> usize {
        let number = {
            let mut inner = self.inner();
            request.number = inner.requests.len();
            inner.requests.push(request);
            inner.requests.len() - 1
        };
        self.notify();
        number
    }

    pub(crate) fn answering(&self, number: usize, status: u16, usage: Option<Usage>) {
        if let Some(request) = self.inner().requests.get_mut(number) {
            request.status = Some(status);
            request.usage = usage;
        }
        self.notify();
    }

    pub(crate) fn ended(&self, number: usize, outcome: Outcome) {
        {
            let mut inner = self.inner();
            let inner = &mut *inner;
            let Some(request) = inner.requests.get_mut(number) else { return };
            request.outcome = outcome;
            if let Some(log) = &mut inner.log {
                let line = log_line(request, self.started);
                // The log is for a person who follows a run; the model works without it.
                let _ = writeln!(log, "{line}");
            }
        }
        self.notify();
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.inner().requests.clone()
    }

    pub(crate) async fn hold(&self, name: &str) {
        self.inner().held.insert(name.to_owned());
        self.notify();
        self.until(|state| state.inner().released.contains(name).then_some(())).await;
    }

    pub(crate) fn is_held(&self, name: &str) -> bool {
        self.inner().held.contains(name)
    }

    pub(crate) fn release(&self, name: &str) {
        self.inner().released.insert(name.to_owned());
        self.notify();
    }
}

fn log_line(request: &RecordedRequest, started: Instant) -> serde_json::Value {
    let since = |at: Instant| at.saturating_duration_since(started).as_millis();
    let outcome = match request.outcome {
        Outcome::Open => "open",
        Outcome::Answered(_) => "answered",
        Outcome::ClientGone(_) => "client gone",
        Outcome::Cut(_) => "cut",
    };
    json!({
        "number": request.number, "arrived_ms": since(request.arrived), "ended_ms": request.ended().map(since),
        "method": request.method.as_str(), "path": request.path, "query": request.query, "key": request.key, "model": request.model,
        "bytes": request.bytes.len(), "has_tools": request.has_tools, "status": request.status, "outcome": outcome,
        "body": &*request.body,
    })
}

/// Ensures that a request's end is recorded, also when the client disconnects.
pub(crate) struct Open {
    pub(crate) state: std::sync::Arc<State>,
    pub(crate) number: usize,
    ended: bool,
}

impl Open {
    pub(crate) fn new(state: std::sync::Arc<State>, number: usize) -> Self {
        Self { state, number, ended: false }
    }

    pub(crate) fn answered(mut self) {
        self.end(Outcome::Answered(Instant::now()));
    }

    pub(crate) fn cut(mut self) {
        self.end(Outcome::Cut(Instant::now()));
    }

    fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.ended, true) {
            self.state.ended(self.number, outcome);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end(Outcome::ClientGone(Instant::now()));
    }
}
