//! Reads: their parameters, the values they return, and where they run.

use std::error::Error as _;

use bytes::Bytes;
use foundry_core::Code;
use foundry_store::{DialectSql, Row, Store, StoreOptions, Value, WriteSet};
use foundry_testkit::test_env;

use crate::backends::{Fixture, ITEMS, MIGRATIONS, item, scope, sqlite};

fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|r| r.text("id").unwrap()).collect()
}

async fn binds_parameters_by_their_numbers(f: Fixture) {
    f.store.commit(item("a", "x", None)).await.unwrap();
    f.store.commit(item("b", "y", Some("b"))).await.unwrap();
    const REVERSED: &str = "SELECT id FROM items WHERE owner = $2 AND id = $1";
    const REPEATED: &str = "SELECT id FROM items WHERE owner = $2 OR (name = $1 AND id = $1) ORDER BY id";
    const MANY: &str =
        "SELECT id FROM items WHERE id IN ($11, $10, $9, $8, $7, $6, $5, $4, $3, $2) AND owner = $1";
    let many: Vec<Value> = ["x", "2", "3", "4", "5", "6", "7", "8", "9", "b", "a"].map(Value::from).into();
    let snapshot = f.store.snapshot().await.unwrap();
    // The second time with the prepared statements of the first.
    for _ in 0..2 {
        let reversed = f.store.query(REVERSED, &["a".into(), "x".into()]).await.unwrap();
        assert_eq!(ids(&reversed), ["a"]);
        assert!(f.store.query(REVERSED, &["x".into(), "a".into()]).await.unwrap().is_empty());
        let repeated = snapshot.query(REPEATED, &["b".into(), "x".into()]).await.unwrap();
        assert_eq!(ids(&repeated), ["a", "b"]);
        assert_eq!(ids(&f.store.query(MANY, &many).await.unwrap()), ["a"]);
    }
}

async fn returns_what_was_written(f: Fixture) {
    let all: Bytes = (0..=255_u8).collect::<Vec<_>>().into();
    let rows = [
        ["a".into(), "".into(), Value::Null, i64::MIN.into(), Value::Blob(all), 0.into()],
        ["b".into(), "é😀'\\\n".into(), "n".into(), i64::MAX.into(), Value::Blob(Bytes::new()), 1.into()],
        ["c".into(), "o".into(), Value::Null, Value::Null, Value::Null, (-1).into()],
    ];
    let mut set = WriteSet::new();
    for row in &rows {
        set.insert(&ITEMS, row.clone());
    }
    f.store.commit(set).await.unwrap();
    let snapshot = f.store.snapshot().await.unwrap();
    const ALL: &str = "SELECT id, owner, name, size, body, rev FROM items ORDER BY id";
    const ONE: &str = "SELECT id, owner, name, size, body, rev FROM items WHERE id = $1 AND owner = $2";
    let columns = ["id", "owner", "name", "size", "body", "rev"];
    let read = f.store.query(ALL, &[]).await.unwrap();
    assert_eq!(snapshot.query(ALL, &[]).await.unwrap(), read);
    for (row, read) in rows.iter().zip(&read) {
        assert_eq!(columns.map(|c| read.get(c).unwrap().clone()), *row);
        let found = f.store.query(ONE, &row[..2]).await.unwrap();
        assert_eq!(found, std::slice::from_ref(read));
    }
}

async fn a_long_read_sees_the_state_of_its_snapshot(f: Fixture) {
    let mut set = WriteSet::new();
    let rev = set.scope(scope());
    for i in 0..40 {
        let id = format!("i{i}");
        set.insert(&ITEMS, [id.into(), "o".into(), Value::Null, 1.into(), Value::Null, rev.into()]);
    }
    f.store.commit(set).await.unwrap();
    let snapshot = f.store.snapshot().await.unwrap();
    f.store.commit(item("late", "o", None)).await.unwrap();
    const LONG: &str = "SELECT count(*) AS n FROM items a, items b, items c";
    assert_eq!(snapshot.query(LONG, &[]).await.unwrap()[0].int("n").unwrap(), 40 * 40 * 40);
    assert_eq!(snapshot.head(&scope()).await.unwrap(), 1);
    assert_eq!(f.store.stats().long_reads, u64::from(!f.is_postgres()));
    assert_eq!(f.store.query(LONG, &[]).await.unwrap()[0].int("n").unwrap(), 41 * 41 * 41);
}

async fn names_the_type_that_no_column_has(f: Fixture) {
    let error = f.store.query("SELECT CAST(1.5 AS REAL) AS x", &[]).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("type REAL") || cause.contains("type FLOAT4"), "{cause}");
}

crate::on_every_backend! {
    binds_parameters_by_their_numbers,
    returns_what_was_written,
    a_long_read_sees_the_state_of_its_snapshot,
    names_the_type_that_no_column_has,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_two_libraries_read_the_same_values() {
    let f = sqlite().await;
    f.store.commit(item("a", "x", None)).await.unwrap();
    f.store.commit(item("b", "é", Some("b"))).await.unwrap();
    const SQL: &str = "SELECT items.*, 1 = 1 AS yes, x'' AS empty, '' AS none, x'00ff' AS bytes, \
                       CAST(x'5bff5d' AS TEXT) AS damaged, -9223372036854775808 AS least FROM items ORDER BY id";
    let read = f.store.query(SQL, &[]).await.unwrap();
    // The writing connection is one of sqlx.
    assert_eq!(f.store.write(DialectSql { sqlite: SQL, postgres: SQL }, &[]).await.unwrap(), read);
    assert_eq!(read[0].get("damaged").unwrap(), &Value::Blob(Bytes::from_static(&[0x5b, 0xff, 0x5d])));
}

#[tokio::test]
async fn a_url_with_parameters_is_refused() {
    let f = sqlite().await;
    let url = format!("{}?cache=shared", f.url);
    let opened = Store::connect(&url, &[&MIGRATIONS], &f.time.env, StoreOptions::default()).await;
    assert_eq!(opened.err().unwrap().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_sqlite_url_may_ask_for_what_is_done_anyway_and_a_refusal_names_what_is_allowed() {
    let (directory, time) = (tempfile::tempdir().unwrap(), test_env());
    let connect = async |parameters: &str| {
        let url = format!("sqlite:{}?{parameters}", directory.path().join("x.db").display());
        Store::connect(&url, &[], &time.env, StoreOptions::default()).await.map(|_| ())
    };
    for harmless in ["mode=rwc", "cache=private&mode=rwc", "immutable=0"] {
        connect(harmless).await.unwrap();
    }
    for other in ["mode=ro", "mode=memory", "mode=rwc&cache=shared", "immutable=1", "vfs=unix-none", ""] {
        let refused = connect(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{other}");
        let text = refused.to_string();
        assert!(text.contains("only mode=rwc, cache=private, immutable=0 are allowed"), "{other}: {text}");
    }
}
