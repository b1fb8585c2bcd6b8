//! Tombstones, floors and retention.

use std::time::Duration;

use foundry_store::{BodyHash, IdempotencyKey, Scope, Tombstone, WriteSet};

use crate::backends::{Fixture, ITEMS, item, number, scope};

fn leave(id: &str) -> WriteSet {
    let mut set = WriteSet::new();
    let rev = set.scope(scope());
    set.delete(&ITEMS, &[id.into()], &[]).tombstone(rev, "item", id);
    set
}

fn stone(key: &str, rev: i64) -> Tombstone {
    Tombstone { kind: "item".to_owned(), key: key.to_owned(), rev }
}

async fn keeps_the_newest_departure_of_each_entity(f: Fixture) {
    for id in ["a", "b"] {
        f.store.commit(item(id, "o", None)).await.unwrap();
        f.store.commit(leave(id)).await.unwrap();
    }
    f.store.commit(item("a", "o", None)).await.unwrap();
    f.store.commit(leave("a")).await.unwrap();
    let snapshot = f.store.snapshot().await.unwrap();
    let all = snapshot.tombstones_after(&scope(), None, 0, 10).await.unwrap();
    assert_eq!(all, [stone("b", 4), stone("a", 6)]);
    assert_eq!(snapshot.tombstones_after(&scope(), Some("item"), 4, 10).await.unwrap(), [stone("a", 6)]);
    assert!(snapshot.tombstones_after(&scope(), Some("other"), 0, 10).await.unwrap().is_empty());
    assert_eq!(snapshot.floor(&scope()).await.unwrap(), 0);
}

async fn raises_the_floor_to_what_it_forgets(f: Fixture) {
    for id in ["a", "b"] {
        f.store.commit(item(id, "o", None)).await.unwrap();
    }
    f.store.commit(leave("a")).await.unwrap();
    let now = f.store.now().await.unwrap();
    assert_eq!(f.store.sweep_tombstones(now.minus(Duration::from_secs(3600))).await.unwrap(), 0);
    assert_eq!(f.store.snapshot().await.unwrap().floor(&scope()).await.unwrap(), 0);
    assert_eq!(f.store.sweep_tombstones(now.plus(Duration::from_secs(1))).await.unwrap(), 1);
    f.time.clock.advance(Duration::from_secs(10));
    f.store.commit(leave("b")).await.unwrap();
    let snapshot = f.store.snapshot().await.unwrap();
    assert_eq!(snapshot.floor(&scope()).await.unwrap(), 3);
    assert_eq!(snapshot.tombstones_after(&scope(), None, 3, 10).await.unwrap(), [stone("b", 4)]);
    assert_eq!(snapshot.floor(&Scope::service("other")).await.unwrap(), 0);
}

async fn forgets_requests_whose_time_is_over(f: Fixture) {
    let now = f.store.now().await.unwrap();
    for i in 0..3_u64 {
        let mut set = item(&format!("i{i}"), "o", None);
        let key = IdempotencyKey {
            organization: String::new(),
            caller: "usr".to_owned(),
            method: "M",
            request_id: format!("r{i}"),
        };
        // The first has expired, the second has not, the third never does.
        let expires = [Some(now), Some(now.plus(Duration::from_secs(3600))), None];
        set.idempotency(key, BodyHash::of(b""), Vec::new(), expires[i as usize]);
        f.store.commit(set).await.unwrap();
    }
    assert_eq!(f.store.sweep_idempotency().await.unwrap(), 1);
    assert_eq!(number(&f.store, "SELECT count(*) AS n FROM store_idempotency").await, 2);
}

crate::on_every_backend! {
    keeps_the_newest_departure_of_each_entity,
    raises_the_floor_to_what_it_forgets,
    forgets_requests_whose_time_is_over,
}
