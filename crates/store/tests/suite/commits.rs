//! Revisions, guards, and that requests which share a commit do not harm each other.

use foundry_store::{CommitError, Guard, Scope, Value, WriteSet};
use futures::future::join_all;

use crate::backends::{Fixture, ITEMS};

fn scope() -> Scope {
    Scope::service("items")
}

fn item(id: &str, owner: &str, name: Option<&str>) -> WriteSet {
    let mut set = WriteSet::new();
    let rev = set.scope(scope());
    set.insert(&ITEMS, [id.into(), owner.into(), name.into(), 1.into(), Value::Null, rev.into()]);
    set
}

async fn count(f: &Fixture) -> i64 {
    f.store.query("SELECT count(*) AS n FROM items", &[]).await.unwrap()[0].int("n").unwrap()
}

async fn numbers_the_requests_of_a_scope_without_gaps(f: Fixture) {
    let sets = (0..200).map(|i| f.store.commit(item(&format!("i{i}"), "o", None)));
    let mut revs: Vec<i64> =
        join_all(sets).await.into_iter().map(|c| c.unwrap().scope_rev(&scope()).unwrap()).collect();
    revs.sort_unstable();
    assert_eq!(revs, (1..=200).collect::<Vec<i64>>());
    assert_eq!(f.store.head(&scope()).await.unwrap(), 200);
    let rows = f.store.query("SELECT rev FROM items ORDER BY rev", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.int("rev").unwrap()).collect::<Vec<_>>(), revs);
}

async fn a_failed_request_takes_only_itself_down(f: Fixture) {
    f.store.commit(item("taken", "o", Some("n"))).await.unwrap();
    let sets = (0..50).map(|i| match i % 10 {
        3 => item("taken", "o", None),
        7 => item(&format!("i{i}"), "o", Some("n")),
        _ => item(&format!("i{i}"), "o", None),
    });
    let outcomes = join_all(sets.map(|s| f.store.commit(s))).await;
    for (i, outcome) in outcomes.iter().enumerate() {
        match i % 10 {
            3 | 7 => assert!(matches!(outcome, Err(CommitError::Conflict { table: "items", .. })), "{i}"),
            _ => assert!(outcome.is_ok(), "{i}: {outcome:?}"),
        }
    }
    assert_eq!(count(&f).await, 41);
    assert_eq!(f.store.head(&scope()).await.unwrap(), 41);
}

async fn writes_nothing_when_a_guard_does_not_hold(f: Fixture) {
    f.store.commit(item("a", "o", None)).await.unwrap();
    let mut set = item("b", "o", None);
    set.guard(Guard::exists(&ITEMS, &[("id", "a".into()), ("size", 2.into())]).tagged("size"));
    let error = f.store.commit(set).await.unwrap_err();
    assert!(matches!(error, CommitError::GuardFailed { tag: Some("size"), table: "items" }), "{error}");
    let mut set = item("b", "o", None);
    set.guard(Guard::absent(&ITEMS, &[("owner", "o".into()), ("body", Value::Null)]));
    assert!(matches!(f.store.commit(set).await, Err(CommitError::GuardFailed { .. })));
    let mut set = WriteSet::new();
    set.update(&ITEMS, &["a".into()], &[("size", 5.into())], &[("size", 9.into())]);
    assert!(matches!(f.store.commit(set).await, Err(CommitError::GuardFailed { .. })));
    assert_eq!((count(&f).await, f.store.head(&scope()).await.unwrap()), (1, 1));
}

async fn holds_a_limit_when_requests_share_a_commit(f: Fixture) {
    let sets = (0..40).map(|i| {
        let owner = if i % 2 == 0 { "even" } else { "odd" };
        let mut set = item(&format!("i{i}"), owner, None);
        set.guard(Guard::count_below(&ITEMS, &[("owner", owner.into())], 5, "items"));
        f.store.commit(set)
    });
    let outcomes = join_all(sets).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 10);
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(_) | Err(CommitError::LimitReached { name: "items", limit: 5, .. })));
    }
    assert_eq!(count(&f).await, 10);
}

async fn applies_requests_on_one_row_in_their_order(f: Fixture) {
    f.store.commit(item("hot", "o", None)).await.unwrap();
    let sets = (1..100_i64).map(|i| {
        let mut set = WriteSet::new();
        let rev = set.scope(scope());
        let set_to = [("size", Value::Int(i + 1)), ("rev", rev.into())];
        set.update(&ITEMS, &["hot".into()], &set_to, &[("size", i.into())]);
        f.store.commit(set)
    });
    for outcome in join_all(sets).await {
        outcome.unwrap();
    }
    let row = &f.store.query("SELECT size, rev FROM items", &[]).await.unwrap()[0];
    assert_eq!((row.int("size").unwrap(), row.int("rev").unwrap()), (100, 100));
}

crate::on_every_backend! {
    numbers_the_requests_of_a_scope_without_gaps,
    a_failed_request_takes_only_itself_down,
    writes_nothing_when_a_guard_does_not_hold,
    holds_a_limit_when_requests_share_a_commit,
    applies_requests_on_one_row_in_their_order,
}
