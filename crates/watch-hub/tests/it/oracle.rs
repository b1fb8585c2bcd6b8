//! The oracle accepts the frames of a hub, and detects every kind of injected fault.
use std::collections::BTreeMap;

use crate::support::*;
use foundry_core::{Env, Result};
use foundry_frame::{Frame, RawBody, RawDelta, RawFrame};
use foundry_store::{Scope, Snapshot};
use foundry_watch::Unrestricted;
use foundry_watch::oracle::{ClientLog, Fault, History, Property, StreamLog, check};
use foundry_watch_hub::{Changes, Fingerprint, FrameStream, TableView, View};
use futures::StreamExt as _;
use prost::Message as _;

/// Commits of several rows, with deletions, and what a client on `view` receives of them.
async fn watched(view: impl Fn(&World) -> Box<dyn View>) -> (History, Vec<ClientLog>) {
    let world = World::with_env(Env::system(), Default::default()).await;
    let hub = world.hub();
    let mut history = History::default();
    let mut stream = hub.watch(Planted(view(&world)), None, Unrestricted).unwrap();
    let mut log = StreamLog::default();
    read_until(&mut stream, &mut log, 0).await;
    for i in 0..30_u8 {
        let (a, b) = (format!("k{}", i % 5), format!("m{}", i % 3));
        let color = if i % 7 == 6 { None } else { Some("red") };
        let rows = [(a.as_str(), color, &[i][..]), (b.as_str(), Some("red"), &[i, i][..])];
        // Two commits in one transaction of the database: one hint for both.
        let (x, y) = (format!("x{}", i % 4), format!("y{}", i % 4));
        let (first, second) = ([(x.as_str(), Some("red"), &[i][..])], [(y.as_str(), color, &[i][..])]);
        let revs = futures::join!(world.put(&first), world.put(&rows), world.put(&second));
        record(&mut history, revs.0, &first, None);
        record(&mut history, revs.1, &rows, None);
        record(&mut history, revs.2, &second, None);
        let last = revs.0.max(revs.1).max(revs.2);
        // Now and then several more commits pile up before the client reads.
        if (i % 4 == 3 || i == 29) && !read_until(&mut stream, &mut log, last).await {
            break;
        }
    }
    let client = ClientLog { name: "c".into(), streams: vec![log], cut_short: false };
    (history, vec![client])
}

/// Reads until a revision is shown; false when a faulty server never reaches it.
async fn read_until(stream: &mut FrameStream, log: &mut StreamLog, rev: i64) -> bool {
    loop {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), stream.next()).await;
        let Ok(Some(Ok(frame))) = next else { return false };
        let reached = match frame.raw().unwrap().body.unwrap() {
            RawBody::Delta(delta) if !delta.more => delta.to_rev >= rev.max(1),
            RawBody::Bookmark(b) => bookmark(RawBody::Bookmark(b)).rev >= rev,
            _ => false,
        };
        log.frames.push(frame);
        if reached {
            return true;
        }
    }
}

struct Planted(Box<dyn View>);

#[async_trait::async_trait]
impl View for Planted {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn scope(&self) -> &Scope {
        self.0.scope()
    }
    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }
    async fn changes_after(&self, snapshot: &Snapshot, after: i64, limit: u32) -> Result<Changes> {
        self.0.changes_after(snapshot, after, limit).await
    }
}

/// A view that modifies each page it reads.
struct Faulty {
    view: TableView,
    fault: fn(&mut Changes, i64),
}

#[async_trait::async_trait]
impl View for Faulty {
    fn name(&self) -> &'static str {
        "Faulty"
    }
    fn scope(&self) -> &Scope {
        self.view.scope()
    }
    fn fingerprint(&self) -> Fingerprint {
        self.view.fingerprint()
    }
    async fn changes_after(&self, snapshot: &Snapshot, after: i64, limit: u32) -> Result<Changes> {
        let mut page = self.view.changes_after(snapshot, after, limit).await?;
        let head = snapshot.head(self.view.scope()).await?;
        (self.fault)(&mut page, head);
        Ok(page)
    }
}

fn properties(faults: &[Fault]) -> BTreeMap<Property, usize> {
    let mut found = BTreeMap::new();
    for fault in faults {
        *found.entry(fault.property).or_default() += 1;
    }
    found
}

#[tokio::test]
async fn accepts_what_a_hub_sends() {
    let (history, clients) = watched(|world| Box::new(world.view(None))).await;
    let summary = check(&history, &clients).unwrap_or_else(|faults| panic!("{}", faults[0]));
    assert!(summary.changes > 30 && summary.snapshots == 1 && summary.bookmarks > 0, "{summary:?}");
}

#[tokio::test]
async fn goes_red_when_a_server_delivers_what_the_hint_says_instead_of_what_changed() {
    let hint_only = |page: &mut Changes, head: i64| page.changes.retain(|c| c.version == head);
    let (history, clients) =
        watched(|world| Box::new(Faulty { view: world.view(None), fault: hint_only })).await;
    let faults = check(&history, &clients).unwrap_err();
    assert!(properties(&faults).contains_key(&Property::Reliable), "{faults:?}");
}

#[tokio::test]
async fn goes_red_when_a_server_skips_a_row_of_a_commit() {
    let skip = |page: &mut Changes, _| {
        if page.changes.len() > 1 {
            page.changes.pop();
        }
    };
    let (history, clients) = watched(|world| Box::new(Faulty { view: world.view(None), fault: skip })).await;
    let faults = check(&history, &clients).unwrap_err();
    assert!(properties(&faults).contains_key(&Property::Reliable), "{faults:?}");
}

#[tokio::test]
async fn goes_red_when_a_server_forgets_deletions() {
    let forget = |page: &mut Changes, _| page.changes.retain(|c| c.op != foundry_watch::Op::Deleted);
    let (history, clients) =
        watched(|world| Box::new(Faulty { view: world.view(None), fault: forget })).await;
    let faults = check(&history, &clients).unwrap_err();
    assert!(properties(&faults).contains_key(&Property::Reliable), "{faults:?}");
}

#[tokio::test]
async fn goes_red_when_a_filter_is_not_applied() {
    let world = World::with_env(Env::system(), Default::default()).await;
    let hub = world.hub();
    let mut stream = hub.watch(world.view(None), None, Unrestricted).unwrap();
    let (mut history, mut log) = (History::default(), StreamLog::default());
    read_until(&mut stream, &mut log, 0).await;
    let rows = [("a", Some("blue"), &b"1"[..])];
    let rev = world.put(&rows).await;
    record(&mut history, rev, &rows, Some("red"));
    read_until(&mut stream, &mut log, rev).await;
    let client = ClientLog { name: "c".into(), streams: vec![log], cut_short: false };
    let faults = check(&history, &[client]).unwrap_err();
    assert!(properties(&faults).contains_key(&Property::Filtered), "{faults:?}");
}

/// Rewrites the frames of a correct log; with `mend`, numbers and positions are corrected afterwards.
fn rewrite(clients: &mut [ClientLog], mend: bool, change: impl FnOnce(&mut Vec<RawFrame>)) {
    let log = &mut clients[0].streams[0];
    let mut raw: Vec<RawFrame> = log.frames.iter().map(|f| f.raw().unwrap()).collect();
    change(&mut raw);
    let mut at = 0;
    for (frame, seq) in raw.iter_mut().zip(1..) {
        if mend {
            (frame.seq, frame.from_rev) = (seq, at);
        }
        at = match frame.body.as_ref().unwrap() {
            RawBody::Delta(delta) => delta.to_rev,
            RawBody::SnapshotEnd(end) => snapshot_end(RawBody::SnapshotEnd(end.clone())).rev,
            RawBody::Bookmark(b) => bookmark(RawBody::Bookmark(b.clone())).rev,
            _ => at,
        };
    }
    log.frames = raw.iter().map(|raw| Frame::decode(raw.encode_to_vec().as_slice()).unwrap()).collect();
}

fn deltas(frames: &mut [RawFrame]) -> Vec<(usize, RawDelta)> {
    let delta = |(i, f): (usize, &RawFrame)| match &f.body {
        Some(RawBody::Delta(delta)) => Some((i, delta.clone())),
        _ => None,
    };
    frames.iter().enumerate().filter_map(delta).collect()
}

type Tamper = fn(&mut Vec<RawFrame>);

#[tokio::test]
async fn goes_red_on_every_kind_of_tampered_log() {
    let (history, good) = watched(|world| Box::new(world.view(None))).await;
    let planted: [(Property, bool, Tamper); 7] = [
        (Property::Enveloped, false, |frames| drop(frames.remove(4))),
        (Property::Reliable, true, |frames| drop(frames.remove(4))),
        (Property::Unique, true, |frames| {
            let (i, delta) = deltas(frames)[1].clone();
            let again = RawFrame { body: Some(RawBody::Delta(delta)), ..frames[i].clone() };
            frames.insert(i + 1, again);
        }),
        (Property::Ordered, true, |frames| {
            let (i, mut delta) = deltas(frames).into_iter().find(|(_, d)| d.changes.len() > 2).unwrap();
            delta.changes.reverse();
            frames[i].body = Some(RawBody::Delta(delta));
        }),
        // A commit of two rows, cut in two.
        (Property::Atomic, true, |frames| {
            let (i, mut delta) = deltas(frames)[0].clone();
            let rest = RawDelta { changes: delta.changes.split_off(1), ..delta.clone() };
            frames[i].body = Some(RawBody::Delta(delta));
            let second = RawFrame { body: Some(RawBody::Delta(rest)), ..frames[i].clone() };
            frames.insert(i + 1, second);
        }),
        (Property::Bookmarkable, true, |frames| {
            let (i, delta) = deltas(frames)[0].clone();
            let early = foundry_proto::watch::v1::Bookmark {
                rev: delta.to_rev + 2,
                caught_up: true,
                resume_token: "t".into(),
            };
            let early = RawBody::Bookmark(early.encode_to_vec().into());
            frames.insert(i + 1, RawFrame { body: Some(early), ..frames[i].clone() });
        }),
        (Property::Final, true, |frames| drop(frames.pop())),
    ];
    for (property, mend, tamper) in planted {
        let mut clients = good.clone();
        rewrite(&mut clients, mend, tamper);
        let faults = check(&history, &clients).expect_err("an oracle that misses this is none");
        assert!(properties(&faults).contains_key(&property), "{property:?} not among {faults:?}");
    }
    check(&history, &good).unwrap_or_else(|faults| panic!("{}", faults[0]));
}

#[tokio::test]
async fn goes_red_on_data_after_a_revocation_and_on_a_resume_from_elsewhere() {
    let (history, good) = watched(|world| Box::new(world.view(None))).await;
    let mut clients = good.clone();
    clients[0].streams[0].revoked_after = Some(3);
    let faults = check(&history, &clients).unwrap_err();
    assert!(properties(&faults).contains_key(&Property::Revoked), "{faults:?}");

    let mut clients = good;
    clients[0].streams[0].resumed_at = Some(4);
    let faults = check(&history, &clients).unwrap_err();
    assert!(properties(&faults).contains_key(&Property::Resumable), "{faults:?}");
}
