//! Readers that continue from the last revision they saw never skip a row.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{join, join_all};

use crate::backends::{Fixture, item, scope};

const WRITERS: usize = 8;
const EACH: usize = 60;

async fn a_reader_never_skips_a_revision(f: Fixture) {
    // Only PostgreSQL lets several processes write to one database.
    let stores = if f.is_postgres() {
        vec![f.store.clone(), f.again().await, f.again().await]
    } else {
        vec![f.store.clone()]
    };
    let done = AtomicBool::new(false);
    let writers = join_all((0..WRITERS).map(|w| {
        let store = &stores[w % stores.len()];
        async move {
            for i in 0..EACH {
                store.commit(item(&format!("{w}.{i}"), "o", None)).await.unwrap();
            }
        }
    }));
    let writing = async {
        writers.await;
        done.store(true, Ordering::SeqCst);
    };
    let reading = async {
        let mut seen = Vec::new();
        loop {
            let last = done.load(Ordering::SeqCst);
            let after = seen.last().copied().unwrap_or(0);
            let rows = f
                .store
                .query("SELECT rev FROM items WHERE rev > $1 ORDER BY rev", &[after.into()])
                .await
                .unwrap();
            seen.extend(rows.iter().map(|r| r.int("rev").unwrap()));
            if last {
                return seen;
            }
        }
    };
    let ((), seen) = join(writing, reading).await;
    let all = i64::try_from(WRITERS * EACH).unwrap();
    assert_eq!(seen, (1..=all).collect::<Vec<_>>());
    assert_eq!(f.store.head(&scope()).await.unwrap(), all);
}

crate::on_every_backend! { a_reader_never_skips_a_revision }
