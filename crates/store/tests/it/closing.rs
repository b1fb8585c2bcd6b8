//! A close under load: accepted work is finished, later work is refused.

use foundry_store::CommitError;
use futures::future::join_all;

use crate::backends::{Fixture, item};

async fn finishes_what_it_took_and_refuses_the_rest_when_it_closes(f: Fixture) {
    let commits = (0..400).map(|i| {
        let store = f.store.clone();
        async move {
            let id = format!("i{i}");
            let outcome = store.commit(item(&id, "o", None)).await;
            let read = store.query("SELECT count(*) AS n FROM items", &[]).await;
            let snapshot = store.snapshot().await.map(drop);
            (id, outcome, read.map(drop).and(snapshot))
        }
    });
    let closing = async {
        // After some were answered, and while others are queued.
        f.store.subscribe(&crate::backends::scope()).changed().await;
        f.store.close().await;
    };
    let (outcomes, ()) = futures::future::join(join_all(commits), closing).await;
    let again = f.again().await;
    let rows = again.query("SELECT id FROM items", &[]).await.unwrap();
    let durable: Vec<&str> = rows.iter().map(|r| r.text("id").unwrap()).collect();
    for (id, outcome, read) in &outcomes {
        match outcome {
            Ok(_) => assert!(durable.contains(&id.as_str()), "{id} was acknowledged and is gone"),
            Err(CommitError::Stopped) => assert!(!durable.contains(&id.as_str())),
            Err(e) => panic!("{e:?}"),
        }
        if let Err(e) = read {
            assert_eq!(e.reason(), "SHUTTING_DOWN", "{e:?}");
        }
    }
    assert!(matches!(f.store.commit(item("late", "o", None)).await, Err(CommitError::Stopped)));
    let late = f.store.query("SELECT 1 AS n", &[]).await.unwrap_err();
    assert_eq!((late.code(), late.reason()), (foundry_core::Code::Unavailable, "SHUTTING_DOWN"));
    assert_eq!(f.store.incarnation(), again.incarnation());
}

crate::on_every_backend! { finishes_what_it_took_and_refuses_the_rest_when_it_closes }
