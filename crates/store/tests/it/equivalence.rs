//! Requests that share a commit have the same results as one after the other.

use foundry_core::Random;
use foundry_store::{CommitError, Committed, Guard, Value, WriteSet};
use foundry_testkit::SeededRandom;
use futures::future::join_all;

use crate::backends::{Fixture, ITEMS, open, postgres_url, scope};

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

fn summary(outcome: Result<Committed, CommitError>) -> String {
    outcome.map_or_else(|e| format!("{e}"), |c| format!("rev {:?}", c.scope_rev(&scope())))
}

async fn a_batch_equals_its_requests_one_after_the_other(f: Fixture) {
    let url = if f.is_postgres() { postgres_url().await } else { format!("{}.other", f.url) };
    let alone = open(&url, &f.time).await;
    for seed in 0..80 {
        let dice = Dice(SeededRandom::new(seed));
        let mut sets = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..40 {
            let set = dice.write_set();
            let outcome = alone.commit(set.clone()).await;
            // In every other round nothing fails, so that nothing must run one by one.
            if outcome.is_ok() || seed % 2 == 0 {
                sets.push(set);
                expected.push(summary(outcome));
            }
        }
        let before = f.store.stats();
        let together = join_all(sets.iter().map(|s| f.store.commit(s.clone()))).await;
        for (i, (outcome, expected)) in together.into_iter().zip(expected).enumerate() {
            assert_eq!(summary(outcome), expected, "seed {seed}, request {i}: {:#?}", sets[i]);
        }
        let stats = f.store.stats();
        assert!(stats.batches - before.batches < stats.requests - before.requests, "nothing shared a commit");
        if seed % 2 == 1 {
            assert_eq!(stats.one_by_one, before.one_by_one, "seed {seed}");
        }
        const ROWS: &str = "SELECT id, owner, size, rev FROM items ORDER BY id";
        let (a, b) = (f.store.query(ROWS, &[]).await.unwrap(), alone.query(ROWS, &[]).await.unwrap());
        assert_eq!(a, b, "seed {seed}");
    }
}

crate::on_every_backend! { a_batch_equals_its_requests_one_after_the_other }
