//! A small real service to watch: coloured things in a temporary SQLite store.
pub mod script;

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_frame::{Frame, RawBody};
use foundry_proto::watch::v1::{Bookmark, Hello, Reset, ResetReason, SnapshotEnd, WatchOptions};
use foundry_store::{Migration, Migrations, Row, Scope, Store, StoreOptions, Table, Value, WriteSet};
use foundry_testkit::{MockClock, TestEnv, test_env};
use foundry_watch::oracle::History;
use foundry_watch::{Change, Unrestricted};
use foundry_watch_hub::{Fingerprint, FrameStream, Hub, HubConfig, Source, TableView};
use futures::StreamExt as _;
use prost::Message;

const DDL: &str = "CREATE TABLE things (scope TEXT NOT NULL, key TEXT NOT NULL, color TEXT NOT NULL, \
    content BLOB NOT NULL, rev BIGINT NOT NULL, PRIMARY KEY (scope, key)); \
    CREATE INDEX things_by_rev ON things (scope, rev);";
pub const MIGRATIONS: Migrations = Migrations {
    owner: "things",
    steps: &[Migration { version: 1, name: "things", sqlite: DDL, postgres: DDL }],
};
pub static THINGS: Table =
    Table::new("things", &["scope", "key", "color", "content", "rev"], &["scope", "key"]);

/// The item of the sample view.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Thing {
    #[prost(string, tag = "1")]
    pub color: String,
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

pub struct World {
    pub store: Store,
    pub env: Env,
    pub clock: Arc<MockClock>,
    pub tasks: Tasks,
    pub scope: Scope,
    url: String,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let TestEnv { env, clock } = test_env();
        Self::with_env(env, clock).await
    }

    pub async fn with_env(env: Env, clock: Arc<MockClock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("things.db").display());
        let store = Store::connect(&url, &[&MIGRATIONS], &env, StoreOptions::default()).await.unwrap();
        Self { store, env, clock, tasks: Tasks::new().0, scope: Scope::service("things"), url, _dir: dir }
    }

    /// Another process on the same database, whose hints do not reach ours.
    pub async fn other_store(&self) -> Store {
        Store::connect(&self.url, &[&MIGRATIONS], &self.env, StoreOptions::default()).await.unwrap()
    }

    pub fn hub(&self) -> Hub {
        self.hub_with(HubConfig { server: "test".into(), ..HubConfig::default() })
    }

    pub fn hub_with(&self, config: HubConfig) -> Hub {
        Hub::new(self.store.clone(), self.env.clone(), self.tasks.clone(), config)
    }

    /// All things, or those of one color.
    pub fn view(&self, color: Option<&'static str>) -> TableView {
        let fingerprint = Fingerprint::new("WatchThings", 1).filter("color", color.unwrap_or("*"));
        let sql =
            "SELECT key, color, content, rev FROM things WHERE scope = $1 AND rev > $2 ORDER BY rev LIMIT $3";
        let source =
            Source::new(sql, [Value::from(self.scope.as_str())], move |row: &Row| encode(row, color))
                .tombstones("thing", "thing/");
        TableView::new("WatchThings", self.scope.clone(), fingerprint).source(source)
    }

    /// Writes things in one commit; no colour means a deletion. Returns the revision.
    pub async fn put(&self, things: &[(&str, Option<&str>, &[u8])]) -> i64 {
        self.put_through(&self.store, things).await
    }

    pub async fn put_through(&self, store: &Store, things: &[(&str, Option<&str>, &[u8])]) -> i64 {
        let mut set = WriteSet::new();
        let rev = set.scope(self.scope.clone());
        let scope = Value::from(self.scope.as_str());
        for (key, color, content) in things {
            match color {
                Some(color) => {
                    let row = [scope.clone(), (*key).into(), (*color).into(), (*content).into(), rev.into()];
                    set.upsert(&THINGS, row);
                }
                None => {
                    set.remove(&THINGS, &[scope.clone(), (*key).into()]).tombstone(rev, "thing", key);
                }
            }
        }
        store.commit(set).await.unwrap().rev(rev)
    }

    pub fn watch(&self, hub: &Hub, resume: Option<(&str, i64)>) -> FrameStream {
        hub.watch(self.view(None), Some(options(resume)), Unrestricted).unwrap()
    }
}

fn encode(row: &Row, color: Option<&str>) -> foundry_core::Result<Change> {
    let key = format!("thing/{}", row.text("key")?);
    if color.is_some_and(|c| row.text("color").is_ok_and(|have| have != c)) {
        return Ok(Change::left_view(key, row.int("rev")?));
    }
    let thing = Thing { color: row.text("color")?.into(), content: row.blob("content")?.to_vec() };
    Ok(Change::upsert(key, row.int("rev")?, &thing))
}

/// Records a commit of [`World::put`] as a watcher of things of this colour must see it.
pub fn record(history: &mut History, rev: i64, things: &[(&str, Option<&str>, &[u8])], color: Option<&str>) {
    let item = |have: Option<&str>, content: &[u8]| {
        let have = have.filter(|have| color.is_none_or(|wanted| wanted == *have))?;
        Some(Thing { color: have.to_owned(), content: content.to_vec() }.encode_to_vec().into())
    };
    let changes = things.iter().map(|(key, have, content)| (format!("thing/{key}"), item(*have, content)));
    // A watcher of another colour gets the things that leave it, and nothing else.
    history.commit(rev, changes.collect::<Vec<_>>());
}

pub fn options(resume: Option<(&str, i64)>) -> WatchOptions {
    let (token, after_rev) = resume.unwrap_or(("", 0));
    WatchOptions { resume_token: token.to_owned(), after_rev, heartbeat: None }
}

/// The next frame; fails when none comes within 30 s.
pub async fn frame(stream: &mut FrameStream) -> (Frame, RawBody) {
    let next = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
    let frame = next.expect("no frame within 30 s").expect("the stream ended").expect("the stream failed");
    let body = frame.raw().unwrap().body.unwrap();
    (frame, body)
}

pub async fn hello(stream: &mut FrameStream) -> Hello {
    let RawBody::Hello(bytes) = frame(stream).await.1 else { panic!("no hello") };
    Hello::decode(bytes).unwrap()
}

pub fn bookmark(body: RawBody) -> Bookmark {
    let RawBody::Bookmark(bytes) = body else { panic!("no bookmark: {body:?}") };
    Bookmark::decode(bytes).unwrap()
}

pub fn snapshot_end(body: RawBody) -> SnapshotEnd {
    let RawBody::SnapshotEnd(bytes) = body else { panic!("no end of snapshot: {body:?}") };
    SnapshotEnd::decode(bytes).unwrap()
}

/// Reads a stream until it is caught up; the bookmark is the last frame returned.
pub async fn until_caught_up(stream: &mut FrameStream) -> Vec<RawBody> {
    let mut bodies = Vec::new();
    loop {
        let (_, body) = frame(stream).await;
        let done = matches!(&body, RawBody::Bookmark(b) if Bookmark::decode(b.clone()).unwrap().caught_up);
        bodies.push(body);
        if done {
            return bodies;
        }
    }
}

pub fn reset_reason(body: &RawBody) -> ResetReason {
    let RawBody::Reset(bytes) = body else { panic!("no reset: {body:?}") };
    Reset::decode(bytes.clone()).unwrap().reason()
}

/// The end of a stream: clean, or with a status.
pub async fn end(stream: &mut FrameStream) -> Result<(), tonic::Status> {
    let rest = async {
        while let Some(frame) = stream.next().await {
            frame?;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), rest).await.expect("no end within 30 s")
}

/// A stream that is caught up.
pub async fn caught_up(world: &World, hub: &Hub) -> FrameStream {
    let mut stream = world.watch(hub, None);
    until_caught_up(&mut stream).await;
    stream
}

/// Keys and versions of a delta or chunk, and whether each is gone.
pub fn changes(body: &RawBody) -> Vec<(String, i64, bool)> {
    let (RawBody::Delta(delta) | RawBody::SnapshotChunk(delta)) = body else {
        panic!("no changes: {body:?}")
    };
    let gone = |op: &Option<foundry_frame::RawOp>| matches!(op, Some(foundry_frame::RawOp::Tombstone(_)));
    delta.changes.iter().map(|c| (c.key.clone(), c.version, gone(&c.op))).collect()
}
