//! What a database cannot store: more than its disk holds, and NUL characters in a text.

use foundry_core::{Code, Error};
use foundry_store::{CommitError, DialectSql, Fault, Guard, Scope, Storage, Value, WriteSet};
use foundry_testkit::{FULL_DISK, ROOMY_DISK};
use tempfile::TempDir;

use crate::backends::{Fixture, ITEMS, item, number, open, scope, sqlite};

async fn limit(f: &Fixture, (sqlite, postgres): (&'static str, &'static str)) {
    f.store.write(DialectSql { sqlite, postgres }, &[]).await.unwrap();
}

fn disk(f: &Fixture) -> Storage {
    *f.store.storage().borrow()
}

fn large() -> WriteSet {
    let mut set = WriteSet::new();
    let rev = set.scope(scope());
    let body = Value::from(vec![7_u8; 200_000]);
    set.insert(&ITEMS, ["large".into(), "o".into(), Value::Null, 1.into(), body, rev.into()]);
    set
}

async fn a_full_disk_is_a_typed_failure_until_there_is_room_again(f: Fixture) {
    f.store.commit(item("small", "o", None)).await.unwrap();
    assert_eq!(disk(&f), Storage::Writable);
    limit(&f, FULL_DISK).await;
    let error = f.store.commit(large()).await.unwrap_err();
    assert!(matches!(error, CommitError::Database { fault: Fault::Full, .. }), "{error:?}");
    let error = Error::from(error);
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, "STORAGE_FULL"));
    assert_eq!(disk(&f), Storage::Full);
    // What needs no room can be written, which says nothing about the rest.
    f.store.commit(item("smaller", "o", None)).await.unwrap();
    assert_eq!(f.store.probe().await.unwrap_err().reason(), "STORAGE_FULL");
    assert_eq!((disk(&f), f.count().await), (Storage::Full, 2));
    limit(&f, ROOMY_DISK).await;
    f.store.probe().await.unwrap();
    assert_eq!(disk(&f), Storage::Writable);
    let committed = f.store.commit(large()).await.unwrap();
    assert_eq!((committed.scope_rev(&scope()), f.count().await), (Some(3), 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_writes_to_the_database_what_only_its_log_holds() {
    let (f, directory) = (sqlite().await, TempDir::new().unwrap());
    f.store.commit(item("held-by-the-log", "o", None)).await.unwrap();
    // The files as a process leaves them that ended after a failed sync.
    let (from, left) = (f.url.strip_prefix("sqlite:").unwrap(), directory.path().join("left.db"));
    for end in ["", "-wal"] {
        std::fs::copy(format!("{from}{end}"), format!("{}{end}", left.display())).unwrap();
    }
    let holds = || std::fs::read(&left).unwrap().windows(15).any(|bytes| bytes == b"held-by-the-log");
    assert!(!holds(), "the log alone holds it");
    let store = open(&format!("sqlite:{}", left.display()), &f.time).await;
    assert!(holds());
    assert_eq!(number(&store, "SELECT count(*) AS n FROM items").await, 1);
}

async fn a_nul_character_is_replaced_and_what_it_names_is_found(f: Fixture) {
    let other = Scope::other("agent", "a\0b");
    let mut set = item("a\0b", "o", None);
    set.scope(other.clone());
    f.store.commit(set).await.unwrap();
    const BY_ID: &str = "SELECT id FROM items WHERE id = $1";
    let found = f.store.query(BY_ID, &["a\0b".into()]).await.unwrap();
    assert_eq!(found[0].text("id").unwrap(), "a\u{FFFD}b");
    let snapshot = f.store.snapshot().await.unwrap();
    assert_eq!(snapshot.query(BY_ID, &["a\0b".into()]).await.unwrap(), found);
    drop(snapshot);
    assert_eq!(f.store.head(&Scope::other("agent", "a\0b")).await.unwrap(), 1);
    let mut set = WriteSet::new();
    set.guard(Guard::exists(&ITEMS, &[("id", "a\0b".into())]));
    set.update(&ITEMS, &["a\0b".into()], &[("owner", "\0".into())], &[]);
    f.store.commit(set).await.unwrap();
    const TAKE: &str = "UPDATE items SET size = 9 WHERE owner = $1 RETURNING id";
    let taken = f.store.write(DialectSql { sqlite: TAKE, postgres: TAKE }, &["\0".into()]).await.unwrap();
    assert_eq!(taken, found);
}

async fn data_that_the_database_refuses_fails_its_own_request(f: Fixture) {
    let mut set = WriteSet::new();
    let rev = set.scope(scope());
    set.insert(&ITEMS, ["a".into(), Value::Null, Value::Null, 1.into(), Value::Null, rev.into()]);
    let (refused, fine) = tokio::join!(f.store.commit(set), f.store.commit(item("b", "o", None)));
    let refused = refused.unwrap_err();
    assert!(matches!(refused, CommitError::Database { fault: Fault::Permanent, .. }), "{refused:?}");
    fine.unwrap();
    assert_eq!(disk(&f), Storage::Writable);
}

crate::on_every_backend! {
    a_full_disk_is_a_typed_failure_until_there_is_room_again,
    a_nul_character_is_replaced_and_what_it_names_is_found,
    data_that_the_database_refuses_fails_its_own_request,
}
