//! PostgreSQL with several writers, as with replicas of a service.

use foundry_store::{CommitError, DialectSql, Guard, Scope, Value, WriteSet};
use futures::future::join_all;

use crate::backends::{ITEMS, item, postgres};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_a_limit_across_processes_that_share_no_scope() {
    let f = postgres().await;
    let stores = [f.store.clone(), f.again().await, f.again().await];
    let commits = (0..60).map(|i| {
        let mut set = WriteSet::new();
        let rev = set.scope(Scope::other("process", &(i % 3).to_string()));
        set.guard(Guard::count_below(&ITEMS, &[("owner", "o".into())], 7, "items"));
        set.insert(
            &ITEMS,
            vec![format!("i{i}").into(), "o".into(), Value::Null, 1.into(), Value::Null, rev.into()],
        );
        stores[i % 3].commit(set)
    });
    let outcomes = join_all(commits).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 7);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(CommitError::LimitReached { .. }))));
    assert_eq!(f.count().await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resolves_deadlocks_between_processes_without_an_error() {
    let f = postgres().await;
    let stores = [f.store.clone(), f.again().await];
    for id in ["a", "b"] {
        f.store.commit(item(id, "o", None)).await.unwrap();
    }
    // The two lock the same rows in opposite order, with no scope in common.
    let commits = (0..100).map(|i| {
        let mut set = WriteSet::new();
        let order = if i % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
        for id in order {
            set.update(&ITEMS, &[id.into()], &[("size", (i as i64).into())], &[]);
        }
        stores[i % 2].commit(set)
    });
    for outcome in join_all(commits).await {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_on_after_the_server_cut_its_connections() {
    let f = postgres().await;
    let other = f.again().await;
    const CUT: &str = "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for i in 0..10 {
        f.store.commit(item(&format!("i{i}"), "o", None)).await.unwrap();
        f.store.query("SELECT 1 AS n", &[]).await.unwrap();
        assert!(
            other.write(DialectSql { sqlite: CUT, postgres: CUT }, &[]).await.unwrap()[0].int("n").unwrap()
                > 0
        );
    }
    assert_eq!(f.count().await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lets_nothing_pass_a_gate_that_another_process_has_closed() {
    let f = postgres().await;
    let other = f.again().await;
    f.store.commit(item("gate", "gate", None)).await.unwrap();
    for round in 1..60_i64 {
        let passing = (0..6).map(|i| {
            let mut set = WriteSet::new();
            set.guard(Guard::exists(&ITEMS, &[("id", "gate".into()), ("size", round.into())]));
            let id = format!("{round}.{i}");
            let row = vec![id.into(), "o".into(), Value::Null, round.into(), Value::Null, 0.into()];
            set.insert(&ITEMS, row);
            let store = f.store.clone();
            async move {
                for _ in 0..i {
                    tokio::task::yield_now().await;
                }
                store.commit(set).await.is_ok()
            }
        });
        let closing = async {
            let mut set = WriteSet::new();
            let (key, now) = (["gate".into()], [("size", round.into())]);
            set.update(&ITEMS, &key, &[("size", (round + 1).into())], &now);
            other.commit(set).await.unwrap();
            let sql = "SELECT count(*) AS n FROM items WHERE owner = 'o' AND size = $1";
            other.query(sql, &[round.into()]).await.unwrap()[0].int("n").unwrap()
        };
        let (passed, seen_at_closing) = futures::future::join(join_all(passing), closing).await;
        let passed = passed.into_iter().filter(|p| *p).count();
        assert_eq!(i64::try_from(passed).unwrap(), seen_at_closing, "round {round}");
    }
}
