//! Transitions whose writes the service derives from its own rows.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Error, FlowId};
use foundry_flow::{
    Binding, Derived, Flow, FlowStatus, Found, NewFlow, Outcome, Projection, Retry, Stage, Status, enqueue,
    newest_signal, signal,
};
use foundry_store::{Guard, Store, WriteSet};

use crate::common::{Bench, Code, ENTITIES, code, project};

on_both_databases! {
    derives_again_when_another_writer_came_between,
    projects_the_status_alone_when_every_derivation_conflicts,
    runs_a_stage_again_when_what_it_found_cannot_be_recorded,
    records_what_an_attempt_found_last_with_its_end,
    a_flow_is_not_woken_by_a_signal_that_it_has_seen,
    a_flow_that_is_inserted_waiting_runs_when_it_is_signalled,
    a_flow_that_is_inserted_waiting_runs_at_the_end_of_its_wait,
    shows_that_a_brief_stage_begins_only_if_it_lasts,
}

/// A job whose stage is expected to end at once.
static BRIEF: Flow<Code> = Flow::new(
    "brief",
    &[Stage::new("work", Duration::from_secs(60), Retry::DEFAULT, |code: &Arc<Code>, ctx| code(ctx))],
)
.brief();

/// Derives the entity's row; `conflicts` times with a guard that does not hold.
struct Deriving {
    store: Store,
    conflicts: AtomicU32,
    derived: Arc<AtomicU32>,
    seen: bool,
}

#[async_trait]
impl Projection for Deriving {
    fn project(&self, flow: &FlowStatus) -> WriteSet {
        project(flow)
    }

    async fn derive(&self, flow: &FlowStatus, found: Option<&Found>) -> Result<Option<Derived>, Error> {
        self.derived.fetch_add(1, Ordering::SeqCst);
        let mut flow = flow.clone();
        if let Some(found) = found.and_then(|found| found.downcast_ref::<String>()) {
            flow.reason.clone_from(found);
        }
        let mut write = project(&flow);
        let left = self.conflicts.load(Ordering::SeqCst);
        if left > 0 {
            self.conflicts.store(left - 1, Ordering::SeqCst);
            write.guard(Guard::exists(&ENTITIES, &[("entity_id", "another".into())]));
        }
        let seen = match (&flow.wait_key, self.seen) {
            (Some(key), true) => newest_signal(&self.store, key).await?,
            _ => String::new(),
        };
        Ok(Some(Derived { write, seen, held: Box::new(()) }))
    }
}

/// A brief job with this code, and how often its transitions were derived.
fn deriving<F>(bench: &Bench, conflicts: u32, seen: bool, of: F) -> (Binding, Arc<AtomicU32>)
where
    F: for<'a> Fn(&'a foundry_flow::StageContext) -> futures::future::BoxFuture<'a, Outcome>
        + Send
        + Sync
        + 'static,
{
    let derived = Arc::new(AtomicU32::new(0));
    let projection = Deriving {
        store: bench.store.clone(),
        conflicts: AtomicU32::new(conflicts),
        derived: Arc::clone(&derived),
        seen,
    };
    (BRIEF.bind(&Arc::new(code(of))).projection(projection), derived)
}

async fn reason(bench: &Bench, entity: &str) -> String {
    let rows = bench.store.query("SELECT reason FROM entities WHERE entity_id = $1", &[entity.into()]).await;
    rows.unwrap()[0].text("reason").unwrap().to_owned()
}

async fn derives_again_when_another_writer_came_between(bench: Bench) {
    let (flow, derived) = deriving(&bench, 3, false, |_| Box::pin(async { Outcome::done() }));
    let id = bench.start(&BRIEF, "e1").await;
    bench.engine(vec![flow]).run_until_idle().await.unwrap();
    let end = bench.flow(&id).await;
    assert_eq!((end.status, end.failures, derived.load(Ordering::SeqCst)), (Status::Done, 0, 4));
    assert_eq!(bench.entity("e1").await, ("work".to_owned(), "done".to_owned()));
}

async fn projects_the_status_alone_when_every_derivation_conflicts(bench: Bench) {
    let (flow, _) = deriving(&bench, u32::MAX, false, |_| Box::pin(async { Outcome::done() }));
    let id = bench.start(&BRIEF, "e1").await;
    bench.engine(vec![flow]).run_until_idle().await.unwrap();
    let end = bench.flow(&id).await;
    assert_eq!((end.status, end.failures), (Status::Done, 0));
    assert_eq!(bench.entity("e1").await, ("work".to_owned(), "done".to_owned()));
}

async fn runs_a_stage_again_when_what_it_found_cannot_be_recorded(bench: Bench) {
    let (flow, _) = deriving(&bench, 8, false, |ctx| {
        ctx.found("FOUND".to_owned());
        Box::pin(async { Outcome::done() })
    });
    let id = bench.start(&BRIEF, "e1").await;
    let engine = bench.engine(vec![flow]);
    engine.run_until_idle().await.unwrap();
    let refused = bench.flow(&id).await;
    assert_eq!((refused.status, refused.reason.as_str()), (Status::Ready, "WRITE_CONFLICT"));
    bench.advance(Duration::from_secs(1));
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Done);
    assert_eq!(reason(&bench, "e1").await, "FOUND");
}

async fn records_what_an_attempt_found_last_with_its_end(bench: Bench) {
    let (flow, derived) = deriving(&bench, 0, false, |ctx| {
        ctx.found("OLD".to_owned());
        ctx.found("FOUND".to_owned());
        Box::pin(async { Outcome::done() })
    });
    bench.start(&BRIEF, "e1").await;
    bench.engine(vec![flow]).run_until_idle().await.unwrap();
    assert_eq!(reason(&bench, "e1").await, "FOUND");
    assert_eq!(derived.load(Ordering::SeqCst), 1);
}

async fn a_flow_is_not_woken_by_a_signal_that_it_has_seen(bench: Bench) {
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let (flow, _) = deriving(&bench, 0, true, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::wait("answer", "for the answer") })
    });
    bench.commit(|ws| signal(ws, bench.env(), "answer")).await;
    let id = bench.start(&BRIEF, "e1").await;
    let engine = bench.engine(vec![flow]);
    engine.run_until_idle().await.unwrap();
    assert_eq!((bench.flow(&id).await.status, runs.load(Ordering::SeqCst)), (Status::Waiting, 1));
    bench.commit(|ws| signal(ws, bench.env(), "answer")).await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

/// A flow that is inserted waiting for "answer" for a minute, and how often its stage ran.
async fn inserted_waiting(bench: &Bench) -> (FlowId, Binding, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let (flow, _) = deriving(bench, 0, false, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::done() })
    });
    let id = FlowId::generate(bench.env());
    bench
        .commit(|ws| {
            ws.insert(&ENTITIES, ["e1".into(), "".into(), "queued".into(), 0.into(), "".into(), "".into()]);
            let new = NewFlow::new(&BRIEF, id.clone(), "e1", "e1");
            enqueue(ws, new.waiting_for("answer", "for the answer", Duration::from_secs(60)));
        })
        .await;
    (id, flow, runs)
}

async fn a_flow_that_is_inserted_waiting_runs_when_it_is_signalled(bench: Bench) {
    let (id, flow, runs) = inserted_waiting(&bench).await;
    let engine = bench.engine(vec![flow]);
    engine.run_until_idle().await.unwrap();
    let waits = bench.flow(&id).await;
    assert_eq!((waits.status, waits.text().as_str()), (Status::Waiting, "for the answer"));
    assert_eq!((waits.wait_key.as_deref(), runs.load(Ordering::SeqCst)), (Some("answer"), 0));
    bench.commit(|ws| signal(ws, bench.env(), "answer")).await;
    engine.run_until_idle().await.unwrap();
    assert_eq!((bench.flow(&id).await.status, runs.load(Ordering::SeqCst)), (Status::Done, 1));
}

async fn a_flow_that_is_inserted_waiting_runs_at_the_end_of_its_wait(bench: Bench) {
    let (id, flow, _) = inserted_waiting(&bench).await;
    let engine = bench.engine(vec![flow]);
    bench.advance(Duration::from_secs(59));
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Waiting);
    bench.advance(Duration::from_secs(2));
    engine.run_until_idle().await.unwrap();
    assert_eq!(bench.flow(&id).await.status, Status::Done);
}

async fn shows_that_a_brief_stage_begins_only_if_it_lasts(bench: Bench) {
    let (begun, released) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (begins, waits) = (Arc::clone(&begun), Arc::clone(&released));
    let (flow, _) = deriving(&bench, 0, false, move |_| {
        let (begins, waits) = (Arc::clone(&begins), Arc::clone(&waits));
        Box::pin(async move {
            begins.notify_one();
            waits.notified().await;
            Outcome::done()
        })
    });
    bench.start(&BRIEF, "e1").await;
    let engine = bench.engine(vec![flow]);
    let running = async { engine.run_until_idle().await.unwrap() };
    let looking = async {
        begun.notified().await;
        assert_eq!(bench.entity("e1").await.1, "queued");
        // The time limit of the attempt, and the time after which it is shown.
        bench.time.clock.wait_for_sleepers(2).await;
        bench.advance(Duration::from_millis(200));
        let shown = async {
            while bench.entity("e1").await.1 != "running" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), shown).await.unwrap();
        released.notify_one();
    };
    tokio::join!(running, looking);
    assert_eq!(bench.entity("e1").await.1, "done");
}
