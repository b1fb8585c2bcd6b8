//! A repeated request gets its first answer.

use std::time::Duration;

use foundry_core::PageRequest;
use foundry_store::{AuditRecord, BodyHash, CommitError, IdempotencyKey, WriteSet};
use futures::future::join_all;

use crate::backends::{Fixture, item};

fn key(request_id: &str) -> IdempotencyKey {
    IdempotencyKey {
        organization: "org".to_owned(),
        caller: "usr".to_owned(),
        method: "CreateItem",
        request_id: request_id.to_owned(),
    }
}

fn request(f: &Fixture, id: &str, request_id: &str, body: &[u8]) -> WriteSet {
    let mut set = item(id, "o", None);
    set.audit(AuditRecord {
        organization_id: "org".into(),
        action: "item.create".into(),
        ..AuditRecord::default()
    });
    let expires = f.time.env.clock.now().plus(Duration::from_secs(60));
    set.idempotency(key(request_id), BodyHash::of(body), id.as_bytes().to_vec(), Some(expires));
    set
}

async fn answers_a_repeated_request_as_the_first_time(f: Fixture) {
    assert_eq!(f.store.replay(&key("r"), BodyHash::of(b"body")).await.unwrap(), None);
    f.store.commit(request(&f, "first", "r", b"body")).await.unwrap();
    let replay = f.store.replay(&key("r"), BodyHash::of(b"body")).await.unwrap().unwrap();
    assert_eq!((&replay.response[..], replay.rev), (&b"first"[..], 1));
    match f.store.commit(request(&f, "second", "r", b"body")).await {
        Err(CommitError::Replayed { response, rev }) => assert_eq!((&response[..], rev), (&b"first"[..], 1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(f.count().await, 1);
}

async fn refuses_a_request_id_with_another_body(f: Fixture) {
    f.store.commit(request(&f, "first", "r", b"body")).await.unwrap();
    let error = f.store.replay(&key("r"), BodyHash::of(b"other")).await.unwrap_err();
    assert_eq!(error.reason(), "REQUEST_ID_REUSED");
    let error = f.store.commit(request(&f, "second", "r", b"other")).await.unwrap_err();
    assert!(matches!(error, CommitError::IdempotencyMismatch));
    assert_eq!(foundry_core::Error::from(error).reason(), "REQUEST_ID_REUSED");
}

async fn commits_one_of_many_equal_requests_at_once(f: Fixture) {
    let other = f.again().await;
    let stores = [&f.store, &other];
    let attempts = (0..30).map(|i| {
        stores[i % if f.is_postgres() { 2 } else { 1 }].commit(request(&f, &format!("i{i}"), "r", b"body"))
    });
    let outcomes = join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    let answers: Vec<_> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .map(|e| match e {
            CommitError::Replayed { response, .. } => response,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(answers.windows(2).all(|w| w[0] == w[1]));
    assert_eq!(f.count().await, 1);
}

async fn does_not_protect_an_empty_request_id(f: Fixture) {
    for id in ["a", "b"] {
        f.store.commit(request(&f, id, "", b"body")).await.unwrap();
    }
    assert_eq!(f.store.replay(&key(""), BodyHash::of(b"body")).await.unwrap(), None);
}

async fn lists_what_was_done_newest_first(f: Fixture) {
    for i in 0..5 {
        let mut set = request(&f, &format!("i{i}"), "", b"");
        set.audit(AuditRecord {
            organization_id: "org".into(),
            subject: format!("i{i}"),
            detail_json: "{}".into(),
            ..AuditRecord::default()
        });
        f.store.commit(set).await.unwrap();
    }
    let mut page = PageRequest { size: 3, after: None };
    let mut seen = Vec::new();
    loop {
        let (entries, next) = f.store.list_audit("org", &page).await.unwrap();
        assert!(entries.len() <= 3);
        seen.extend(entries.into_iter().map(|e| (e.rev, e.ordinal)));
        match next {
            Some(token) => page.after = Some(token),
            None => break,
        }
    }
    let expected: Vec<(i64, i64)> = (1..=5).rev().flat_map(|rev| [(rev, 2), (rev, 1)]).collect();
    assert_eq!(seen, expected);
    assert!(f.store.list_audit("other", &PageRequest { size: 3, after: None }).await.unwrap().0.is_empty());
}

crate::on_every_backend! {
    answers_a_repeated_request_as_the_first_time,
    refuses_a_request_id_with_another_body,
    commits_one_of_many_equal_requests_at_once,
    does_not_protect_an_empty_request_id,
    lists_what_was_done_newest_first,
}
