//! A watchable store of entities, used by both fakes.

use std::path::Path;

use foundry_core::{Env, Tasks};
use foundry_proto::watch::v1::WatchOptions;
use foundry_store::{Migration, Migrations, Scope, Store, StoreOptions, Table, WriteSet};
use foundry_watch::{Change, Op, Unrestricted};
use foundry_watch_hub::{Fingerprint, FrameStream, Hub, HubConfig, Source, TableView};
use prost::Message;

const DDL: &str = "CREATE TABLE items (scope TEXT NOT NULL, key TEXT NOT NULL, ordinal BIGINT NOT NULL, \
    rev BIGINT NOT NULL, item BLOB NOT NULL, PRIMARY KEY (scope, key)); CREATE INDEX items_by_rev ON items (scope, rev);";
const MIGRATIONS: Migrations = Migrations {
    owner: "items",
    steps: &[Migration { version: 1, name: "items", sqlite: DDL, postgres: DDL }],
};
static ITEMS: Table = Table::new("items", &["scope", "key", "ordinal", "rev", "item"], &["scope", "key"]);

#[derive(Clone)]
pub struct Items {
    store: Store,
    hub: Hub,
}

impl Items {
    pub async fn new(env: &Env, dir: &Path, name: &str) -> Self {
        let url = format!("sqlite:{}", dir.join(format!("{name}.db")).display());
        let store = Store::connect(&url, &[&MIGRATIONS], env, StoreOptions::default()).await.unwrap();
        let hub = Hub::new(store.clone(), env.clone(), Tasks::new().0, HubConfig::default());
        Self { store, hub }
    }

    /// Writes entities of one scope in one commit; returns the revision.
    pub async fn put<M: Message>(&self, scope: &str, items: &[(String, i64, M)]) -> i64 {
        let mut ws = WriteSet::new();
        let rev = ws.scope(Scope::other("fake", scope));
        for (key, ordinal, item) in items {
            let row = [scope.into(), key.into(), (*ordinal).into(), rev.into(), item.encode_to_vec().into()];
            ws.upsert(&ITEMS, row);
        }
        self.store.commit(ws).await.unwrap().rev(rev)
    }

    /// Deletes an entity.
    pub async fn delete(&self, scope: &str, key: &str) {
        let mut ws = WriteSet::new();
        let rev = ws.scope(Scope::other("fake", scope));
        ws.remove(&ITEMS, &[scope.into(), key.into()]);
        ws.tombstone(rev, "item", key);
        self.store.commit(ws).await.unwrap();
    }

    pub fn watch(&self, scope: &str, after: i64, options: Option<WatchOptions>) -> FrameStream {
        let fingerprint =
            Fingerprint::new("Fake", 1).filter("scope", scope).filter("after", &after.to_string());
        let sql = "SELECT key, rev, item FROM items WHERE scope = $1 AND (ordinal = 0 OR ordinal > $2) AND rev > $3 \
             ORDER BY rev LIMIT $4";
        let source = Source::new(sql, [scope.into(), after.into()], |row| {
            Ok(Change {
                key: row.text("key")?.into(),
                version: row.int("rev")?,
                op: Op::Upsert(row.blob("item")?),
            })
        });
        let view = TableView::new("Fake", Scope::other("fake", scope), fingerprint)
            .source(source.tombstones("item", ""));
        self.hub.watch(view, options, Unrestricted).unwrap()
    }
}
