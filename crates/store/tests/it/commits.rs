//! Revisions, guards, and isolation between requests that share a commit.

use foundry_store::{CommitError, Guard, Store, Table, Value, WriteSet};
use futures::future::join_all;

use crate::backends::{Fixture, ITEMS, item, scope};

fn fallbacks(store: &Store) -> u64 {
    store.stats().one_by_one
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
    let stats = f.store.stats();
    assert!(stats.batches < stats.requests, "nothing shared a commit: {stats:?}");
    assert_eq!(stats.one_by_one, 0);
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
    assert_eq!(f.count().await, 41);
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
    assert_eq!((f.count().await, f.store.head(&scope()).await.unwrap()), (1, 1));
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
    assert_eq!(f.count().await, 10);
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
    assert_eq!(fallbacks(&f.store), 0);
}

/// All kinds of operations in one write set, alone and shared with others.
async fn runs_every_kind_of_operation_without_falling_back(f: Fixture) {
    let kinds = |i: i64| {
        let id = format!("k{i}");
        let mut set = item(&id, "o", None);
        set.guard(Guard::absent(&ITEMS, &[("id", id.as_str().into())]));
        set.guard(Guard::absent(&ITEMS, &[("owner", "nobody".into()), ("name", Value::Null)]));
        set.guard(Guard::count_below(&ITEMS, &[("owner", format!("own{i}").into())], 1, "items"));
        let key = [Value::from(id.as_str())];
        set.update(&ITEMS, &key, &[("size", 7.into()), ("name", Value::Null)], &[("body", Value::Null)]);
        set.update(&ITEMS, &key, &[("size", 8.into()), ("name", Value::Null)], &[("body", Value::Null)]);
        set.remove(&ITEMS, &[format!("absent{i}").into()]);
        set.insert(
            &ITEMS,
            vec![format!("x{i}").into(), "o".into(), Value::Null, Value::Null, Value::Null, 0.into()],
        );
        set.delete(&ITEMS, &[format!("x{i}").into()], &[("owner", "o".into()), ("name", Value::Null)]);
        let body = Value::from(vec![0_u8, 255, 1]);
        set.upsert(&ITEMS, vec![id.into(), "p".into(), format!("n{i}").into(), i.into(), body, 9.into()]);
        set
    };
    f.store.commit(kinds(0)).await.unwrap();
    for outcome in join_all((1..40).map(|i| f.store.commit(kinds(i)))).await {
        outcome.unwrap();
    }
    assert_eq!(fallbacks(&f.store), 0);
    let rows = f.store.query("SELECT * FROM items ORDER BY size", &[]).await.unwrap();
    assert_eq!(rows.len(), 40);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row.text("name").unwrap(), format!("n{i}"));
        assert_eq!(row.blob("body").unwrap(), &[0, 255, 1][..]);
        assert_eq!((row.text("owner").unwrap(), row.int("rev").unwrap()), ("p", 9));
    }
    let mut set = WriteSet::new();
    set.update_where(&ITEMS, &[("owner", "p".into())], &[("owner", "q".into())]);
    set.delete_where(&ITEMS, &[("size", 3.into())]);
    set.guard(Guard::exists(&ITEMS, &[("owner", "p".into())]));
    f.store.commit(set).await.unwrap();
    assert_eq!(fallbacks(&f.store), 0);
    let left = f.store.query("SELECT id FROM items WHERE owner = $1", &["q".into()]).await.unwrap();
    assert_eq!(left.len(), 39);
}

async fn an_upsert_leaves_what_is_fixed_in_a_row_that_exists(f: Fixture) {
    static OWNED: Table =
        Table::new("items", &["id", "owner", "name", "size", "body", "rev"], &["id"]).with_fixed(&["owner"]);
    for (owner, size) in [("o", 1), ("p", 2)] {
        let mut set = WriteSet::new();
        set.upsert(&OWNED, ["a".into(), owner.into(), Value::Null, size.into(), Value::Null, 0.into()]);
        f.store.commit(set).await.unwrap();
    }
    let rows = f.store.query("SELECT owner, size FROM items", &[]).await.unwrap();
    let found: Vec<_> = rows.iter().map(|r| (r.text("owner").unwrap(), r.int("size").unwrap())).collect();
    assert_eq!(found, [("o", 2)]);
}

async fn refuses_a_write_set_that_contradicts_its_table(f: Fixture) {
    let mut short = WriteSet::new();
    short.insert(&ITEMS, ["only".into(), "two".into()]);
    let mut rekeyed = WriteSet::new();
    rekeyed.update(&ITEMS, &["a".into()], &[("id", "b".into())], &[]);
    let twice = [("owner", "p".into()), ("size", 1.into()), ("owner", "q".into())];
    let (mut one, mut all) = (WriteSet::new(), WriteSet::new());
    one.update(&ITEMS, &["a".into()], &twice, &[]);
    all.update_where(&ITEMS, &[("size", 3.into())], &twice);
    let good = item("good", "o", None);
    let outcomes = join_all([short, rekeyed, one, all, good].map(|s| f.store.commit(s))).await;
    for refused in &outcomes[..4] {
        assert!(matches!(refused, Err(CommitError::Malformed(_))));
    }
    assert!(outcomes[4].is_ok());
}

async fn merges_write_sets_with_their_own_revisions(f: Fixture) {
    let mut stage = WriteSet::new();
    let first = stage.scope(foundry_store::Scope::service("flows"));
    stage.insert(&ITEMS, ["flow".into(), "o".into(), Value::Null, 1.into(), Value::Null, first.into()]);
    f.store.commit(item("before", "o", None)).await.unwrap();
    stage.merge(item("row", "o", None));
    let committed = f.store.commit(stage).await.unwrap();
    assert_eq!((committed.rev(first), committed.scope_rev(&scope())), (1, Some(2)));
    let rows = f.store.query("SELECT id, rev FROM items ORDER BY id", &[]).await.unwrap();
    let revs: Vec<_> = rows.iter().map(|r| (r.text("id").unwrap(), r.int("rev").unwrap())).collect();
    assert_eq!(revs, [("before", 1), ("flow", 1), ("row", 2)]);
}

async fn decides_anew_when_what_it_built_on_changed(f: Fixture) {
    f.store.commit(item("counter", "o", None)).await.unwrap();
    let increment = || {
        f.store.retry_on_conflict(|| async {
            let rows = f.store.query("SELECT size FROM items WHERE id = 'counter'", &[]).await?;
            let size = rows[0].int("size")?;
            let mut set = WriteSet::new();
            set.update(&ITEMS, &["counter".into()], &[("size", (size + 1).into())], &[("size", size.into())]);
            Ok((set, size + 1))
        })
    };
    let outcomes = join_all((0..4).map(|_| increment())).await;
    let mut sizes: Vec<i64> = outcomes.into_iter().map(|o| o.unwrap().1).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 3, 4, 5]);
}

async fn returns_the_rows_of_a_single_statement(f: Fixture) {
    for id in ["a", "b"] {
        f.store.commit(item(id, "o", None)).await.unwrap();
    }
    let claim = foundry_store::DialectSql {
        sqlite: "UPDATE items SET size = $1 WHERE id = (SELECT id FROM items WHERE size = 1 LIMIT 1) RETURNING id",
        postgres: "UPDATE items SET size = $1 WHERE id = \
                   (SELECT id FROM items WHERE size = 1 LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
    };
    let mut claimed = Vec::new();
    for _ in 0..3 {
        let rows = f.store.write(claim, &[2.into()]).await.unwrap();
        claimed.extend(rows.iter().map(|r| r.text("id").unwrap().to_owned()));
    }
    claimed.sort_unstable();
    assert_eq!(claimed, ["a", "b"]);
    assert!(
        f.store
            .write(foundry_store::DialectSql { sqlite: "nonsense", postgres: "nonsense" }, &[])
            .await
            .is_err()
    );
    f.store.commit(item("after", "o", None)).await.unwrap();
}

async fn hints_at_what_was_committed(f: Fixture) {
    let mut revision = f.store.subscribe(&scope());
    let mut topic = f.store.subscribe_topic("jobs");
    let mut set = item("a", "o", None);
    set.wake("jobs");
    f.store.commit(set).await.unwrap();
    assert_eq!((revision.changed().await, topic.changed().await), (1, 1));
}

crate::on_every_backend! {
    numbers_the_requests_of_a_scope_without_gaps,
    a_failed_request_takes_only_itself_down,
    writes_nothing_when_a_guard_does_not_hold,
    holds_a_limit_when_requests_share_a_commit,
    applies_requests_on_one_row_in_their_order,
    runs_every_kind_of_operation_without_falling_back,
    an_upsert_leaves_what_is_fixed_in_a_row_that_exists,
    refuses_a_write_set_that_contradicts_its_table,
    merges_write_sets_with_their_own_revisions,
    decides_anew_when_what_it_built_on_changed,
    returns_the_rows_of_a_single_statement,
    hints_at_what_was_committed,
}
