//! Callers that go away: acknowledged writes stay, and nothing is left half done.

use std::collections::HashSet;
use std::time::Duration;

use foundry_store::DialectSql;
use futures::stream::{FuturesUnordered, StreamExt as _};

use crate::backends::{Fixture, item, number};

/// Of these, four of five go away within 2 ms.
const CALLERS: usize = 6_250;
const AT_ONCE: usize = 32;

async fn keeps_every_acknowledged_row_when_callers_go_away(f: Fixture) {
    let random = f.time.env.random.clone();
    let mut acknowledged = HashSet::new();
    let mut running = FuturesUnordered::new();
    for i in 0..CALLERS {
        let patient = i % 5 == 0;
        let patience = Duration::from_secs_f64(if patient { 60.0 } else { random.fraction() * 0.002 });
        let store = f.store.clone();
        running.push(async move {
            let id = format!("i{i}");
            // Commits, single statements and snapshots, each dropped within 2 ms.
            let outcome = tokio::time::timeout(patience, async {
                match i % 8 {
                    0 => {
                        const SQL: &str = "INSERT INTO items (id, owner, rev) VALUES ($1, 'o', 0)";
                        let sql = DialectSql { sqlite: SQL, postgres: SQL };
                        store.write(sql, &[id.as_str().into()]).await.map(drop).unwrap();
                    }
                    1 => {
                        let snapshot = store.snapshot().await.unwrap();
                        snapshot.query("SELECT count(*) AS n FROM items", &[]).await.unwrap();
                        store.commit(item(&id, "o", None)).await.map(drop).unwrap();
                    }
                    _ => store.commit(item(&id, "o", None)).await.map(drop).unwrap(),
                }
            });
            outcome.await.is_ok().then_some(id)
        });
        if running.len() >= AT_ONCE {
            acknowledged.extend(running.next().await.flatten());
        }
    }
    while let Some(id) = running.next().await {
        acknowledged.extend(id);
    }
    if f.is_postgres() {
        // Work still running will finish; a transaction left open would stay for ever.
        const OPEN: &str = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
                            AND state LIKE 'idle in transaction%'";
        let ended = async {
            while number(&f.store, OPEN).await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("no transaction stays open");
    }
    f.store.close().await;
    let again = f.again().await;
    let rows = again.query("SELECT id FROM items", &[]).await.unwrap();
    let durable: HashSet<String> = rows.iter().map(|r| r.text("id").unwrap().to_owned()).collect();
    let lost: Vec<_> = acknowledged.difference(&durable).collect();
    assert!(lost.is_empty(), "{} of {} lost", lost.len(), acknowledged.len());
    assert!(acknowledged.len() >= CALLERS / 5 && acknowledged.len() < CALLERS, "{}", acknowledged.len());
}

crate::on_every_backend! { keeps_every_acknowledged_row_when_callers_go_away }
