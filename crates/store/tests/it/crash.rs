//! Writes acknowledged before a `kill -9` are there afterwards.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use futures::future::join_all;

use crate::backends::{Fixture, item, open};

const URL: &str = "FOUNDRY_STORE_CRASH_URL";
const TEST: &str = "crash::writes_until_it_is_killed";

/// Not a test of its own: the child process that the tests below start and kill.
#[tokio::test]
async fn writes_until_it_is_killed() {
    let Ok(url) = std::env::var(URL) else { return };
    let round = std::process::id();
    let store = open(&url, &foundry_testkit::test_env()).await;
    let mut out = std::io::stdout();
    for i in 0.. {
        let batch = (0..8).map(|j| {
            let id = format!("{round}.{i}.{j}");
            let store = &store;
            async move { store.commit(item(&id, "o", None)).await.map(|_| id) }
        });
        for outcome in join_all(batch).await {
            writeln!(out, "acknowledged {}", outcome.unwrap()).unwrap();
        }
        out.flush().unwrap();
    }
}

async fn keeps_what_was_acknowledged_before_a_kill(f: Fixture) {
    f.store.close().await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(URL, &f.url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let wanted = acknowledged.len() + 50 + round * 37;
        for line in lines {
            acknowledged.extend(line.split_once("acknowledged ").map(|(_, id)| id.to_owned()));
            if acknowledged.len() == wanted {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= wanted);
    }
    let again = f.again().await;
    let rows = again.query("SELECT id FROM items", &[]).await.unwrap();
    let durable: std::collections::HashSet<&str> = rows.iter().map(|r| r.text("id").unwrap()).collect();
    // The last line may be incomplete, and is then no acknowledgement.
    let lost = acknowledged.iter().filter(|id| !durable.contains(id.as_str())).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}

crate::on_every_backend! { keeps_what_was_acknowledged_before_a_kill }
