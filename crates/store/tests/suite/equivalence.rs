//! Requests that share a commit come to what they would have come to one after the other.

use foundry_core::Random;
use foundry_store::{CommitError, Guard, Value, WriteSet};
use foundry_testkit::SeededRandom;
use futures::future::join_all;

use crate::backends::{Fixture, ITEMS, number, open, scope};

struct Dice(SeededRandom);

impl Dice {
    fn roll(&self, sides: u8) -> i64 {
        let mut byte = [0];
        self.0.fill(&mut byte);
        i64::from(byte[0] % sides)
    }

    fn id(&self) -> Value {
        format!("i{}", self.roll(6)).into()
    }

    fn owner(&self) -> Value {
        format!("o{}", self.roll(3)).into()
    }

    /// One to three operations and up to one guard on a handful of rows.
    fn write_set(&self) -> WriteSet {
        let mut set = WriteSet::new();
        let rev = set.scope(scope());
        match self.roll(5) {
            0 => drop(set.guard(Guard::exists(&ITEMS, &[("id", self.id())]).tagged("exists"))),
            1 => drop(
                set.guard(Guard::absent(&ITEMS, &[("owner", self.owner()), ("size", self.roll(4).into())])),
            ),
            2 => drop(set.guard(Guard::count_below(&ITEMS, &[("owner", self.owner())], 3, "items"))),
            _ => {}
        }
        for _ in 0..=self.roll(3) {
            let (id, owner, size) = (self.id(), self.owner(), Value::Int(self.roll(4)));
            let row = || [id.clone(), owner.clone(), Value::Null, size.clone(), Value::Null, rev.into()];
            match self.roll(8) {
                0 | 1 => set.insert(&ITEMS, row()),
                2 => set.upsert(&ITEMS, row()),
                3 => set.update(&ITEMS, &[id], &[("size", size), ("rev", rev.into())], &[]),
                4 => set.update(&ITEMS, &[id], &[("owner", owner)], &[("size", size)]),
                5 => set.delete(&ITEMS, &[id], &[("owner", owner)]),
                6 => set.remove(&ITEMS, &[id]),
                _ => set.update_where(&ITEMS, &[("owner", owner)], &[("size", size)]),
            };
        }
        set
    }
}

fn summary(outcome: Result<i64, CommitError>) -> String {
    outcome.map_or_else(|e| format!("{e}"), |rev| format!("rev {rev}"))
}

async fn a_batch_equals_its_requests_one_after_the_other(f: Fixture) {
    let other =
        if f.is_postgres() { crate::backends::postgres_url().await } else { format!("{}.other", f.url) };
    let alone = open(&other, &f.time).await;
    const ROWS: &str = "SELECT id, owner, size, rev FROM items ORDER BY id";
    for seed in 0..40 {
        let dice = Dice(SeededRandom::new(seed));
        let sets: Vec<WriteSet> = (0..30).map(|_| dice.write_set()).collect();
        let together = join_all(sets.iter().map(|s| f.store.commit(s.clone()))).await;
        for (i, (set, shared)) in sets.into_iter().zip(together).enumerate() {
            let rev = |c: foundry_store::Committed| c.scope_rev(&scope()).unwrap();
            let single = summary(alone.commit(set.clone()).await.map(rev));
            assert_eq!(summary(shared.map(rev)), single, "seed {seed}, request {i}: {set:#?}");
        }
        let (a, b) = (f.store.query(ROWS, &[]).await.unwrap(), alone.query(ROWS, &[]).await.unwrap());
        assert_eq!(a, b, "seed {seed}");
    }
    let stats = f.store.stats();
    assert!(stats.batches * 2 < stats.requests, "hardly anything shared a commit: {stats:?}");
    assert!(number(&f.store, "SELECT count(*) AS n FROM items").await > 0);
}

crate::on_every_backend! { a_batch_equals_its_requests_one_after_the_other }
