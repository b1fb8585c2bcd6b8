//! An owner of watches as real services are: a real hub over a real store, behind `WatchTask`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use foundry_core::{Env, Error, OrganizationId, Tasks};
use foundry_frame::Frame;
use foundry_proto::task::v1::WatchTaskRequest;
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_store::{Migration, Migrations, Row, Scope, Store, StoreOptions, Table, Value, WriteSet};
use foundry_watch::oracle::History;
use foundry_watch::{Change, Unrestricted};
use foundry_watch_hub::{Fingerprint, FrameStream, Hub, HubConfig, Source, TableView};
use futures::StreamExt as _;
use http::HeaderMap;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

const DDL: &str = "CREATE TABLE things (scope TEXT NOT NULL, key TEXT NOT NULL, content BLOB NOT NULL, \
    rev BIGINT NOT NULL, PRIMARY KEY (scope, key)); CREATE INDEX things_by_rev ON things (scope, rev);";
const MIGRATIONS: Migrations = Migrations {
    owner: "things",
    steps: &[Migration { version: 1, name: "things", sqlite: DDL, postgres: DDL }],
};
static THINGS: Table = Table::new("things", &["scope", "key", "content", "rev"], &["scope", "key"]);

/// The item of the owner's views.
#[derive(Clone, PartialEq, prost::Message)]
struct Thing {
    #[prost(bytes = "vec", tag = "1")]
    content: Vec<u8>,
}

struct Served {
    store: Store,
    hub: Hub,
    tasks: Tasks,
    _dir: Arc<tempfile::TempDir>,
}

/// The service; the process that serves can be replaced.
pub struct Owner {
    served: Mutex<Served>,
    env: Env,
    organization: OrganizationId,
    histories: Mutex<HashMap<String, History>>,
    /// How many watches were opened.
    pub opened: AtomicUsize,
    /// Bytes of frames that the gateway has taken.
    pub taken: Arc<AtomicUsize>,
    /// Whether new watches are refused as unavailable.
    pub is_away: AtomicBool,
    /// Whether new watches never get an answer.
    pub hangs: AtomicBool,
    /// Whether authorization requests are never answered.
    pub is_silent: AtomicBool,
    /// Holds authorization requests until it is cancelled.
    pub held: Mutex<Option<CancellationToken>>,
    /// Tasks that nobody may see, with the status that refuses them.
    pub refused: Mutex<HashMap<String, Status>>,
}

impl Owner {
    pub async fn start(env: &Env, organization: &OrganizationId) -> Self {
        Self {
            served: Mutex::new(Served::start(env).await),
            env: env.clone(),
            organization: organization.clone(),
            histories: Mutex::default(),
            opened: AtomicUsize::new(0),
            taken: Arc::default(),
            is_away: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            held: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// Writes things of a task in one commit; without content it deletes.
    pub async fn put(&self, task: &str, things: &[(&str, Option<&[u8]>)]) -> i64 {
        let mut set = WriteSet::new();
        let scope = Scope::service(task);
        let rev = set.scope(scope.clone());
        let scope = Value::from(scope.as_str());
        for (key, content) in things {
            match content {
                Some(content) => {
                    let row = [scope.clone(), (*key).into(), (*content).into(), rev.into()];
                    set.upsert(&THINGS, row);
                }
                None => {
                    set.remove(&THINGS, &[scope.clone(), (*key).into()]).tombstone(rev, "thing", key);
                }
            }
        }
        let store = self.served.lock().unwrap().store.clone();
        let rev = store.commit(set).await.unwrap().rev(rev);
        let changes = things.iter().map(|(key, content)| {
            let item = content.map(|c| Thing { content: c.to_vec() }.encode_to_vec().into());
            (format!("thing/{key}"), item)
        });
        let mut histories = self.histories.lock().unwrap();
        histories.entry(task.to_owned()).or_default().commit(rev, changes.collect::<Vec<_>>());
        rev
    }

    /// What was committed for a task.
    pub fn history(&self, task: &str) -> History {
        self.histories.lock().unwrap().get(task).cloned().unwrap_or_default()
    }

    /// Number of open watches that its hub serves.
    pub fn watches(&self) -> usize {
        self.served.lock().unwrap().hub.watches()
    }

    /// Number of snapshots sent and positions resumed.
    pub fn snapshots(&self) -> u64 {
        self.served.lock().unwrap().hub.metrics().snapshots
    }

    /// Kills the process; another one serves the same store.
    pub async fn cut(&self) {
        let tasks = self.next(None);
        tasks.shutdown(Duration::from_secs(5)).await;
    }

    /// Drains the process; another one serves the same store.
    pub async fn drain(&self) {
        let hub = self.served.lock().unwrap().hub.clone();
        let tasks = self.next(None);
        hub.drain(Duration::from_secs(1)).await;
        tasks.shutdown(Duration::from_secs(5)).await;
    }

    /// Loses the store; an empty one takes its place.
    pub async fn lose_everything(&self) {
        let empty = Served::start(&self.env).await;
        self.histories.lock().unwrap().clear();
        let tasks = self.next(Some(empty));
        tasks.shutdown(Duration::from_secs(5)).await;
    }

    /// Replaces the process; returns the tasks of the one before.
    fn next(&self, with: Option<Served>) -> Tasks {
        let mut served = self.served.lock().unwrap();
        let next = with.unwrap_or_else(|| Served::of(served.store.clone(), &self.env, served._dir.clone()));
        std::mem::replace(&mut *served, next).tasks
    }

    pub fn watch(&self, message: &[u8]) -> Result<FrameStream, Status> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let request = WatchTaskRequest::decode(message).unwrap();
        if let Some(status) = self.refused.lock().unwrap().get(&request.task_id) {
            return Err(status.clone());
        }
        let hub = self.served.lock().unwrap().hub.clone();
        let taken = Arc::clone(&self.taken);
        let count = move |frame: &Result<Frame, Status>| {
            let bytes = frame.as_ref().map_or(0, |frame| frame.body.len());
            taken.fetch_add(bytes, Ordering::SeqCst);
        };
        Ok(hub.watch(view(&request.task_id), request.options, Unrestricted)?.inspect(count).boxed())
    }

    /// Members see every task that is not refused; the task `absent` does not exist.
    pub async fn authorize(
        &self,
        headers: &HeaderMap,
        message: &[u8],
    ) -> Result<AuthorizeWatchResponse, Status> {
        if self.is_silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let held = self.held.lock().unwrap().clone();
        if let Some(held) = held {
            held.cancelled().await;
        }
        let AuthorizeWatchRequest { request, .. } = AuthorizeWatchRequest::decode(message).unwrap();
        let WatchTaskRequest { task_id, .. } = WatchTaskRequest::decode(request).unwrap();
        let absent = || Error::not_found("task", &task_id).into_status();
        if task_id == "absent" || !claims(headers).contains(self.organization.as_str()) {
            return Err(absent());
        }
        if let Some(status) = self.refused.lock().unwrap().get(&task_id) {
            return Err(status.clone());
        }
        Ok(AuthorizeWatchResponse {
            view: task_id.clone(),
            request: WatchTaskRequest { task_id, options: None }.encode_to_vec().into(),
            organization_id: self.organization.to_string(),
        })
    }
}

impl Served {
    async fn start(env: &Env) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let url = format!("sqlite:{}", dir.path().join("things.db").display());
        let store = Store::connect(&url, &[&MIGRATIONS], env, StoreOptions::default()).await.unwrap();
        Self::of(store, env, dir)
    }

    fn of(store: Store, env: &Env, dir: Arc<tempfile::TempDir>) -> Self {
        let tasks = Tasks::new().0;
        let config = HubConfig { server: "task".into(), ..HubConfig::default() };
        let hub = Hub::new(store.clone(), env.clone(), tasks.clone(), config);
        Self { store, hub, tasks, _dir: dir }
    }
}

fn view(task: &str) -> TableView {
    let scope = Scope::service(task);
    let sql = "SELECT key, content, rev FROM things WHERE scope = $1 AND rev > $2 ORDER BY rev LIMIT $3";
    let source = Source::new(sql, [Value::from(scope.as_str())], |row: &Row| {
        let thing = Thing { content: row.blob("content")?.to_vec() };
        Ok(Change::upsert(format!("thing/{}", row.text("key")?), row.int("rev")?, &thing))
    });
    TableView::new("WatchTask", scope, Fingerprint::new("WatchTask", 1))
        .source(source.tombstones("thing", "thing/"))
}

/// The claims of a request's token, unverified: the gateway has verified it.
pub fn claims(headers: &HeaderMap) -> String {
    let token = headers["authorization"].to_str().unwrap();
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
