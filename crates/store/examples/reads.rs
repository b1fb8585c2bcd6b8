//! What a read of a store on SQLite costs in process, without gRPC: its median and its processor time.
//! `cargo run --release -p foundry-store --example reads`

use std::sync::Arc;
use std::time::{Duration, Instant};

use foundry_core::Env;
use foundry_store::{Migration, Migrations, Store, StoreOptions, Table, Value, WriteSet};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

static ITEMS: Table = Table::new("items", &["id", "owner", "name", "size", "body"], &["id"]);
const DDL: &str = "CREATE TABLE items (id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, \
                   size BIGINT NOT NULL, body BLOB NOT NULL); CREATE INDEX items_by_owner ON items (owner, id)";
const MIGRATIONS: Migrations = Migrations {
    owner: "example",
    steps: &[Migration { version: 1, name: "items", sqlite: DDL, postgres: DDL }],
};
const BY_KEY: &str = "SELECT id, owner, name, size, body FROM items WHERE id = $1";
const PAGE: &str = "SELECT id, owner, name, size, body FROM items WHERE owner = $1 ORDER BY id LIMIT 50";
const ALL: &str = "SELECT id, owner, name, size, body FROM items ORDER BY id";
const ROWS: usize = 1_000;

#[derive(Clone, Copy)]
enum Kind {
    Key,
    Page,
    All,
    /// Four reads by key in one snapshot.
    Snapshot,
}

#[tokio::main]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let url = format!("sqlite:{}", directory.path().join("reads.db").display());
    let store = Store::connect(&url, &[&MIGRATIONS], &Env::system(), StoreOptions::default()).await?;
    fill(&store).await?;
    println!("{:<34} {:>10} {:>12} {:>10}", "", "p50 (us)", "CPU (us)", "per s");
    for (name, kind, callers, each) in [
        ("by key, 1 caller", Kind::Key, 1, 100_000),
        ("by key, 64 callers", Kind::Key, 64, 2_000),
        ("page of 50 rows, 1 caller", Kind::Page, 1, 10_000),
        ("snapshot of 4 reads, 1 caller", Kind::Snapshot, 1, 20_000),
        ("1,000 rows of 1 KiB, 1 caller", Kind::All, 1, 500),
    ] {
        // The first run warms the caches.
        run(&store, kind, callers, each / 10).await?;
        let (median, cpu, rate) = run(&store, kind, callers, each).await?;
        println!("{name:<34} {median:>10.1} {cpu:>12.1} {rate:>10.0}");
    }
    store.close().await;
    Ok(())
}

async fn fill(store: &Store) -> Result<()> {
    let mut set = WriteSet::new();
    for i in 0..ROWS {
        let row: [Value; 5] =
            [id(i), format!("o{}", i % 10).into(), "a name".into(), 1.into(), vec![7_u8; 1024].into()];
        set.insert(&ITEMS, row);
    }
    store.commit(set).await?;
    Ok(())
}

fn id(i: usize) -> Value {
    format!("item_{i:08}").into()
}

/// Median and processor time per operation in microseconds, and operations per second.
async fn run(store: &Store, kind: Kind, callers: usize, each: usize) -> Result<(f64, f64, f64)> {
    let store = Arc::new(store.clone());
    let (began, used) = (Instant::now(), cpu()?);
    let mut running = JoinSet::new();
    for caller in 0..callers {
        let store = Arc::clone(&store);
        running.spawn(async move {
            let mut times = Vec::with_capacity(each);
            for i in 0..each {
                let at = Instant::now();
                once(&store, kind, (caller * 7919 + i * 31) % ROWS).await?;
                times.push(at.elapsed());
            }
            Result::Ok(times)
        });
    }
    let mut times = Vec::with_capacity(callers * each);
    while let Some(ended) = running.join_next().await {
        times.extend(ended??);
    }
    let (took, used) = (began.elapsed(), cpu()? - used);
    times.sort_unstable();
    let count = times.len() as f64;
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok((micros(median), micros(used) / count, count / took.as_secs_f64()))
}

async fn once(store: &Store, kind: Kind, i: usize) -> Result<()> {
    match kind {
        Kind::Key => drop(store.query(BY_KEY, &[id(i)]).await?),
        Kind::Page => drop(store.query(PAGE, &[format!("o{}", i % 10).into()]).await?),
        Kind::All => drop(store.query(ALL, &[]).await?),
        Kind::Snapshot => {
            let snapshot = store.snapshot().await?;
            for j in 0..4 {
                snapshot.query(BY_KEY, &[id((i + j) % ROWS)]).await?;
            }
        }
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Processor time of this process, in user and kernel mode; the kernel counts in ticks of 10 ms.
fn cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may contain spaces; utime and stime are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').ok_or("no stat line")?.1.split_whitespace();
    let mut ticks = 0;
    for field in fields.skip(11).take(2) {
        ticks += field.parse::<u32>()?;
    }
    Ok(Duration::from_millis(10) * ticks)
}
