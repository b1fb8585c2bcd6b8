//! Flows stored by an older version, in a database that is then migrated.
use std::sync::Arc;

use crate::common::{JOB, code};
use foundry_core::FlowId;
use foundry_flow::{Engine, MIGRATIONS, Options, Outcome, Status, find, retry};
use foundry_store::{DialectSql, Migrations, Store, StoreOptions, WriteSet};
use foundry_testkit::{PostgresDatabase, test_env};

static BEFORE: Migrations = Migrations { owner: "flow", steps: MIGRATIONS.steps.split_at(1).0 };

const COLUMNS: &str = "flow_id, kind, key, subject_id, user_id, traceparent, input, state, status, stage, reached, \
     unwinding, active, attempt, failures, step, epoch, lease_owner, due_time, ready_time, woken, signal_seen, \
     reason, message, cause_stage, cause_reason, cause_message, cancel_requested, started_time, \
     stage_started_time, status_time, last_progress_time, last_progress";

fn insert(id: &FlowId, status: &str, due: &str) -> DialectSql {
    let sql = |json: &str| -> &'static str {
        let values = format!(
            "'{id}', 'job', '{id}', 'e', '', '', {json}, {json}, '{status}', 'work', 'work', '', 1, 0, 1, 3, 2, '', \
             {due}, 1, 'retry', '', 'WAITING', 'DISK_FULL: no room', '', '', '', 0, 1, 1, 1, 1, ''"
        );
        format!("INSERT INTO flows ({COLUMNS}) VALUES ({values}) RETURNING flow_id").leak()
    };
    DialectSql { sqlite: sql("CAST('null' AS BLOB)"), postgres: sql("'null'::bytea") }
}

async fn goes_on_with_flows_of_before_classes(url: &str) {
    let time = test_env();
    let options = || StoreOptions { clock: Some(time.clock.clone()), ..StoreOptions::default() };
    let old = Store::connect(url, &[&BEFORE], &time.env, options()).await.unwrap();
    let [waiting, failed, retrying] = [(); 3].map(|()| FlowId::generate(&time.env));
    for (id, status, due) in
        [(&waiting, "waiting", "1"), (&failed, "failed", "NULL"), (&retrying, "ready", "1")]
    {
        old.write(insert(id, status, due), &[]).await.unwrap();
    }
    old.close().await;

    let store = Store::connect(url, &[&MIGRATIONS], &time.env, options()).await.unwrap();
    let before = find(&store, &failed).await.unwrap().unwrap();
    assert_eq!((before.class.as_str(), before.text().as_str()), ("", "DISK_FULL: no room"));
    let mut ws = WriteSet::new();
    retry(&mut ws, &failed);
    store.commit(ws).await.unwrap();
    let job = JOB.bind(&Arc::new(code(|_| Box::pin(async { Outcome::done() }))));
    let engine = Engine::new(store.clone(), time.env.clone(), vec![job], Options::default()).unwrap();
    assert_eq!(engine.run_until_idle().await.unwrap(), 3);
    for id in [waiting, failed, retrying] {
        assert_eq!(find(&store, &id).await.unwrap().unwrap().status, Status::Done);
    }
}

#[tokio::test]
async fn goes_on_with_flows_of_before_classes_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    goes_on_with_flows_of_before_classes(&format!("sqlite:{}", dir.path().join("flow.db").display())).await;
}

#[tokio::test]
async fn goes_on_with_flows_of_before_classes_on_postgresql() {
    goes_on_with_flows_of_before_classes(&PostgresDatabase::create().await.unwrap().url).await;
}
