//! The revision that an answer carries.

use std::sync::atomic::{AtomicBool, Ordering};

use foundry_proto::provisioner::v1 as p;

use super::*;
use crate::store::sandboxes;
use crate::testing::Fixture;

#[tokio::test]
async fn an_answer_without_a_change_tells_no_revision_that_came_after_what_it_shows() {
    let f = Fixture::new().await;
    let id = f.ensure().await.sandbox_id;
    let request = f.wanted();
    let command = Command::new(&f.shared, &f.task, &f.organization, "EnsureSandbox", "", &request).unwrap();
    let decided = AtomicBool::new(false);
    let answer: p::EnsureSandboxResponse = command
        .run(|| async {
            let seen = f.sandbox(id.as_str()).await;
            if !decided.swap(true, Ordering::Relaxed) {
                // Its flow goes on between the read and the answer.
                let mut ws = WriteSet::new();
                sandboxes::update(&mut ws, &seen, vec![("state", "ready".into())]);
                f.shared.store.commit(ws).await.unwrap();
            }
            Ok((WriteSet::new(), p::EnsureSandboxResponse { sandbox: Some(seen.to_proto()), rev: 0 }))
        })
        .await
        .unwrap();
    let now = f.sandbox(id.as_str()).await;
    let shown = answer.sandbox.unwrap();
    // A client that keeps the newest revision it has seen would otherwise drop the change as known.
    assert!(
        answer.rev < now.rev || shown == now.to_proto(),
        "{:?} is told as of {}",
        shown.state(),
        answer.rev
    );
}
