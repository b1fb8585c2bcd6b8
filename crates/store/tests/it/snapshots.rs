//! A snapshot always sees the same state, whatever is committed and however it is dropped.

use futures::FutureExt as _;

use crate::backends::{Fixture, item, number, scope};

async fn sees_one_moment_whatever_is_committed_meanwhile(f: Fixture) {
    f.store.commit(item("before", "o", None)).await.unwrap();
    let snapshot = f.store.snapshot().await.unwrap();
    f.store.commit(item("after", "o", None)).await.unwrap();
    assert_eq!(snapshot.head(&scope()).await.unwrap(), 1);
    let rows = snapshot.query("SELECT id FROM items", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.text("id").unwrap()).collect::<Vec<_>>(), ["before"]);
    assert_eq!(f.store.snapshot().await.unwrap().head(&scope()).await.unwrap(), 2);
}

async fn refuses_to_write(f: Fixture) {
    let snapshot = f.store.snapshot().await.unwrap();
    assert!(snapshot.query("DELETE FROM items", &[]).await.is_err());
    assert!(f.store.snapshot().await.unwrap().head(&scope()).await.is_ok());
}

async fn gives_its_connection_back_however_it_is_dropped(f: Fixture) {
    f.store.commit(item("a", "o", None)).await.unwrap();
    for i in 0..200 {
        // Polled a few times, then dropped at any point.
        let mut reading = Box::pin(async {
            let snapshot = f.store.snapshot().await.unwrap();
            snapshot.query("SELECT * FROM items", &[]).await.unwrap();
            snapshot.head(&scope()).await.unwrap()
        });
        for _ in 0..i % 7 {
            if reading.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // There are few readers: if any had been lost, this would time out. And none may be in an old transaction.
    for n in 2..20 {
        f.store.commit(item(&format!("b{n}"), "o", None)).await.unwrap();
        assert_eq!(number(&f.store, "SELECT count(*) AS n FROM items").await, n);
    }
}

crate::on_every_backend! {
    sees_one_moment_whatever_is_committed_meanwhile,
    refuses_to_write,
    gives_its_connection_back_however_it_is_dropped,
}
