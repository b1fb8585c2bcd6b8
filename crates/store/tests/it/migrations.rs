//! A schema that was migrated step by step equals a fresh one.

use foundry_store::{Migrations, Store, StoreOptions};

use crate::backends::{Fixture, STEPS, item, open};

const SQLITE: &str =
    "SELECT type || ' ' || name AS name, coalesce(sql, '') AS text FROM sqlite_schema ORDER BY 1";
const POSTGRES: &str = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable AS name, \
         coalesce(column_default, '') AS text FROM information_schema.columns WHERE table_schema = 'public' \
     UNION ALL SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public' \
     UNION ALL SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint \
         WHERE connamespace = 'public'::regnamespace ORDER BY 1";

async fn schema(f: &Fixture, store: &Store) -> Vec<(String, String)> {
    let rows = store.query(if f.is_postgres() { POSTGRES } else { SQLITE }, &[]).await.unwrap();
    rows.iter().map(|r| (r.text("name").unwrap().to_owned(), r.text("text").unwrap().to_owned())).collect()
}

async fn a_migrated_schema_equals_a_fresh_one(f: Fixture) {
    let other =
        if f.is_postgres() { crate::backends::postgres_url().await } else { format!("{}.old", f.url) };
    static FIRST: Migrations = Migrations { owner: "suite", steps: STEPS.split_at(1).0 };
    let options = StoreOptions::default();
    let old = Store::connect(&other, &[&FIRST], &f.time.env, options).await.unwrap();
    assert_ne!(schema(&f, &old).await, schema(&f, &f.store).await);
    old.commit(item("kept", "o", None)).await.unwrap();
    let incarnation = old.incarnation().to_owned();
    old.close().await;
    let migrated = open(&other, &f.time).await;
    assert_eq!(schema(&f, &migrated).await, schema(&f, &f.store).await);
    assert_eq!(migrated.query("SELECT id FROM items", &[]).await.unwrap().len(), 1);
    assert_eq!(migrated.incarnation(), incarnation);
    assert_eq!(incarnation.len(), 32);
}

async fn an_older_binary_runs_beside_a_newer_schema(f: Fixture) {
    static FIRST: Migrations = Migrations { owner: "suite", steps: STEPS.split_at(1).0 };
    let older = Store::connect(&f.url, &[&FIRST], &f.time.env, StoreOptions::default()).await.unwrap();
    older.commit(item("a", "o", None)).await.unwrap();
    assert_eq!(f.count().await, 1);
}

crate::on_every_backend! {
    a_migrated_schema_equals_a_fresh_one,
    an_older_binary_runs_beside_a_newer_schema,
}
