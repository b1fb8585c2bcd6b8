//! Which events may be released, and what becomes of them.

use foundry_core::SessionId;
use foundry_proto::common::v1::{Notice, TranscriptPart, transcript_part::Body};
use foundry_proto::provisioner::v1 as p;
use foundry_store::WriteSet;

use super::release_agent_events;
use crate::domain::Session;
use crate::ops;
use crate::runtime::reclaim;
use crate::store::{events, sessions};
use crate::testing::Fixture;

/// A session with so many events.
async fn with_events(f: &Fixture, count: usize) -> Session {
    let sandbox = f.ensure().await;
    let session = f.made_ready(&f.session(&sandbox).await).await;
    let notice = Body::Notice(Notice { message: "something happened".into(), ..Notice::default() });
    let part = TranscriptPart { body: Some(notice), ..TranscriptPart::default() };
    let mut ws = WriteSet::new();
    let revs = sessions::revs(&mut ws, &session.organization_id, &session.session_id);
    let appended = events::append(&mut ws, &session, revs.session, f.env.env.clock.now(), vec![part; count]);
    sessions::update(&mut ws, &session, appended.columns().to_vec());
    f.shared.store.commit(ws).await.unwrap();
    f.again(&session).await
}

async fn close(f: &Fixture, session: &Session) -> Session {
    let request =
        p::CloseAgentSessionRequest { session_id: session.session_id.to_string(), ..Default::default() };
    ops::close_agent_session::close_agent_session(&f.shared, &f.task, request).await.unwrap();
    f.again(session).await
}

async fn release(f: &Fixture, id: &SessionId, stored_offset: i64) -> Result<(), String> {
    let request =
        p::ReleaseAgentEventsRequest { session_id: id.to_string(), stored_offset, ..Default::default() };
    let answer = release_agent_events(&f.shared, &f.task, request).await;
    answer.map(drop).map_err(|e| e.reason().to_owned())
}

async fn held(f: &Fixture, session: &Session) -> usize {
    events::newest(&f.shared.store, &session.session_id).await.unwrap().len()
}

#[tokio::test]
async fn deletes_the_events_of_a_closed_session_that_are_all_stored_elsewhere_and_no_other_ones() {
    let f = Fixture::new().await;
    let (released, other) = (with_events(&f, 1_200).await, with_events(&f, 3).await);
    let refused = Err("EVENTS_IN_USE".to_owned());
    assert_eq!(release(&f, &released.session_id, 1_200).await, refused, "it is not closed");
    let (released, other) = (close(&f, &released).await, close(&f, &other).await);
    assert_eq!(release(&f, &released.session_id, released.last_offset - 1).await, refused);
    assert_eq!(reclaim(&f.shared).await.unwrap(), 0);

    release(&f, &released.session_id, released.last_offset).await.unwrap();
    let before = f.shared.store.stats().statements;
    assert_eq!(reclaim(&f.shared).await.unwrap(), 1_200);
    let statements = f.shared.store.stats().statements - before;
    assert_eq!(statements, 6, "three chunks, two looks for sessions, and the session");
    assert_eq!((held(&f, &released).await, held(&f, &other).await), (0, 3));
    let after = f.again(&released).await;
    assert_eq!((after.stored_bytes, after.last_offset, after.rev), (0, released.last_offset, released.rev));

    // The same command again, as after a lost answer, has no effect.
    release(&f, &released.session_id, released.last_offset).await.unwrap();
    assert_eq!(reclaim(&f.shared).await.unwrap(), 0);
}
