//! The proofs that every flow must pass, generic over the flow and the database.
//!
//! A service describes a [`World`]: a fresh database, its bindings, and the external effects. Each proof runs the flow
//! once undisturbed, then again with a fault at every point of every stage, and compares the effects and the projected
//! state at the end.

mod script;
mod world;

use std::future::Future;
use std::time::Duration;

use foundry_core::Tasks;
use foundry_store::WriteSet;

use crate::lease::LEASE;
use crate::{Flow, Options, Point, Status};
use script::{Action, Freeze, Script};
pub use world::{End, World};
use world::{cancel, engine, finish, run, started, status, successor};

const POINTS: [Point; 3] = [Point::BeforeEffect, Point::AfterEffect, Point::AfterRecord];

/// Runs all proofs of a flow; `fresh` makes a new world each time.
///
/// # Panics
/// When a proof fails, with the point and stage in its message.
pub async fn prove<C, W, F, Fut>(flow: &'static Flow<C>, fresh: F)
where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    let expected = &Box::pin(undisturbed(&fresh)).await;
    Box::pin(resumes_after_a_crash_at_every_point(flow, &fresh, expected)).await;
    Box::pin(survives_every_stage_run_twice(flow, &fresh, expected)).await;
    Box::pin(ends_after_a_failure_at_every_stage(flow, &fresh, expected)).await;
    Box::pin(ends_after_a_cancel_at_every_point(flow, &fresh)).await;
    Box::pin(ends_a_flow_that_was_cancelled_between_two_processes(flow, &fresh)).await;
    Box::pin(a_frozen_owner_writes_nothing(flow, &fresh, expected)).await;
    Box::pin(a_late_owner_does_not_disturb_the_next(flow, &fresh, expected)).await;
    Box::pin(finishes_when_all_wake_ups_are_lost(&fresh, expected)).await;
}

/// The end of an undisturbed run, with which the proofs compare.
///
/// # Panics
/// When the flow does not end as done.
pub async fn undisturbed<W: World, F: Fn() -> Fut, Fut: Future<Output = W>>(fresh: &F) -> End {
    let world = fresh().await;
    let id = started(&world).await;
    let flow = finish(&world, &id, Options::default()).await;
    assert_eq!(flow.status, Status::Done, "undisturbed: {} {}", flow.reason, flow.message);
    End::of(&world, &id).await
}

/// Crash before the effect, after it, and after its record, at each stage: the next process resumes at that stage,
/// completed stages do not run again, and the end equals that of an undisturbed run.
///
/// # Panics
/// When the proof fails.
pub async fn resumes_after_a_crash_at_every_point<C, W, F, Fut>(
    flow: &'static Flow<C>,
    fresh: &F,
    expected: &End,
) where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    for stage in flow.stages {
        for point in POINTS {
            let what = format!("crash at {point:?} of {}", stage.name);
            let world = fresh().await;
            let id = started(&world).await;
            let crash = Script::once(point, stage.name, Action::Crash);
            run(&world, &id, &engine(&world, crash.options())).await;
            assert_eq!(crash.times_fired(), 1, "{what}: the stage was never reached");
            let after = Script::recording();
            run(&world, &id, &successor(&world, after.options()).await).await;
            if point == Point::AfterRecord {
                assert!(!crash.completed(stage.name) || after.runs(stage.name) == 0, "{what}: ran again");
            } else {
                assert_eq!(after.first_stage().as_deref(), Some(stage.name), "{what}: went on elsewhere");
            }
            assert_eq!(&End::of(&world, &id).await, expected, "{what}");
        }
    }
}

/// Every stage is run twice: its first result is lost with its process.
///
/// # Panics
/// When the proof fails.
pub async fn survives_every_stage_run_twice<C, W, F, Fut>(flow: &'static Flow<C>, fresh: &F, expected: &End)
where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    let world = fresh().await;
    let id = started(&world).await;
    let script = Script::at_each_stage(Point::AfterEffect, Action::Crash);
    run_through_crashes(&world, &id, &script).await;
    assert_eq!(script.times_fired(), flow.stages.len(), "a stage was never run");
    assert_eq!(&End::of(&world, &id).await, expected, "every stage run twice");
}

/// A terminal failure before and after each stage's effect: the flow ends as failed with its reason,
/// and can be retried to the undisturbed end.
///
/// # Panics
/// When the proof fails.
pub async fn ends_after_a_failure_at_every_stage<C, W, F, Fut>(
    flow: &'static Flow<C>,
    fresh: &F,
    expected: &End,
) where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    for stage in flow.stages {
        for point in [Point::BeforeEffect, Point::AfterEffect] {
            let what = format!("failure at {point:?} of {}", stage.name);
            let world = fresh().await;
            let id = started(&world).await;
            let script = Script::once(point, stage.name, Action::Fail);
            let end = finish(&world, &id, script.options()).await;
            assert_eq!(end.status, Status::Failed, "{what}");
            assert_eq!((end.stage.as_str(), end.reason.as_str()), (stage.name, "PLANTED_FAILURE"), "{what}");
            let mut ws = WriteSet::new();
            crate::retry(&mut ws, &id);
            assert!(world.store().commit(ws).await.is_ok(), "{what}: the retry was refused");
            finish(&world, &id, Options::default()).await;
            assert_eq!(&End::of(&world, &id).await, expected, "{what}, then retried");
        }
    }
}

/// A cancel at every point of every stage, and before the first: the flow ends, as cancelled unless it was complete
/// already.
///
/// # Panics
/// When the proof fails.
pub async fn ends_after_a_cancel_at_every_point<C, W, F, Fut>(flow: &'static Flow<C>, fresh: &F)
where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    for stage in flow.stages {
        for point in POINTS {
            let what = format!("cancel at {point:?} of {}", stage.name);
            let world = fresh().await;
            let id = started(&world).await;
            let script = Script::once(point, stage.name, Action::Cancel(world.store().clone()));
            let end = finish(&world, &id, script.options()).await;
            assert_eq!(script.times_fired(), 1, "{what}: the stage was never reached");
            let was_complete = script.status_when_fired() == Some(Status::Done);
            let ending = if was_complete { Status::Done } else { Status::Cancelled };
            assert_eq!(end.status, ending, "{what}: {} {}", end.reason, end.message);
        }
    }
    let world = fresh().await;
    let id = started(&world).await;
    cancel(world.store(), &id).await;
    assert_eq!(
        finish(&world, &id, Options::default()).await.status,
        Status::Cancelled,
        "cancel before start"
    );
}

/// A process dies in a stage, and a cancel comes while no worker runs the flow: the next process ends it.
///
/// # Panics
/// When the proof fails.
pub async fn ends_a_flow_that_was_cancelled_between_two_processes<C, W, F, Fut>(
    flow: &'static Flow<C>,
    fresh: &F,
) where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    for stage in flow.stages {
        let what = format!("cancelled after a crash in {}", stage.name);
        let world = fresh().await;
        let id = started(&world).await;
        let crash = Script::once(Point::AfterEffect, stage.name, Action::Crash);
        run(&world, &id, &engine(&world, crash.options())).await;
        assert_eq!(crash.times_fired(), 1, "{what}: the stage was never reached");
        cancel(world.store(), &id).await;
        run(&world, &id, &successor(&world, Options::default()).await).await;
        assert_eq!(status(&world, &id).await.status, Status::Cancelled, "{what}");
    }
}

/// An owner that stops in the middle of a stage and wakes up after another has finished the flow:
/// nothing it still does reaches the database.
///
/// # Panics
/// When the proof fails.
pub async fn a_frozen_owner_writes_nothing<C, W, F, Fut>(flow: &'static Flow<C>, fresh: &F, expected: &End)
where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    for stage in flow.stages {
        let what = format!("owner frozen in {}", stage.name);
        let world = fresh().await;
        let id = started(&world).await;
        let freeze = Freeze::default();
        let script = Script::once(Point::AfterEffect, stage.name, Action::Freeze(freeze.clone()));
        let frozen = engine(&world, script.options());
        let other = async {
            freeze.frozen().await;
            world.advance(LEASE + Duration::from_secs(1));
            let end = finish(&world, &id, Options::default()).await;
            let shown = world.shown().await;
            freeze.thaw();
            (end, shown)
        };
        let ((), (end, shown)) = futures::join!(run(&world, &id, &frozen), other);
        assert_eq!(&End::of(&world, &id).await, expected, "{what}");
        let late = status(&world, &id).await;
        assert_eq!(format!("{late:?}"), format!("{end:?}"), "{what}: the late owner wrote the flow");
        assert_eq!(world.shown().await, shown, "{what}: the late owner wrote the entity");
    }
}

/// An owner that wakes up late while the next owner is in the middle of the same stage: it writes
/// nothing, and the next owner is not disturbed.
///
/// # Panics
/// When the proof fails.
pub async fn a_late_owner_does_not_disturb_the_next<C, W, F, Fut>(
    flow: &'static Flow<C>,
    fresh: &F,
    expected: &End,
) where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    for stage in flow.stages {
        let what = format!("late owner of {}", stage.name);
        let world = fresh().await;
        let id = started(&world).await;
        let (late, next) = (Freeze::default(), Freeze::default());
        let at =
            |freeze: &Freeze| Script::once(Point::AfterEffect, stage.name, Action::Freeze(freeze.clone()));
        let (first, second) = (engine(&world, at(&late).options()), engine(&world, at(&next).options()));
        let wakes_late = async {
            loop {
                let idle = first.run_until_idle().await;
                assert!(idle.is_ok(), "{what}: {idle:?}");
                if late.is_thawed() {
                    return;
                }
                world.outside_acts().await;
                world.advance(Duration::from_secs(1));
            }
        };
        let lease_runs_out = async {
            late.frozen().await;
            world.advance(LEASE + Duration::from_secs(1));
        };
        let mut wakes_late = std::pin::pin!(wakes_late);
        tokio::select! {
            () = &mut wakes_late => panic!("{what}: the stage was never reached"),
            () = lease_runs_out => {}
        }
        let goes_on = async {
            next.frozen().await;
            let before = format!("{:?} {}", status(&world, &id).await, world.shown().await);
            late.thaw();
            wakes_late.await;
            let after = format!("{:?} {}", status(&world, &id).await, world.shown().await);
            assert_eq!(after, before, "{what}: wrote");
            next.thaw();
        };
        futures::join!(run(&world, &id, &second), goes_on);
        assert_eq!(&End::of(&world, &id).await, expected, "{what}");
    }
}

/// No wake-up arrives at all: the sweeper finds everything.
///
/// # Panics
/// When the proof fails.
pub async fn finishes_when_all_wake_ups_are_lost<W, F, Fut>(fresh: &F, expected: &End)
where
    W: World,
    F: Fn() -> Fut,
    Fut: Future<Output = W>,
{
    let world = fresh().await;
    let engine = engine(&world, Options { ignore_wake_ups: true, ..Options::default() });
    let (tasks, _failures) = Tasks::new();
    engine.start(&tasks);
    // The first sweep comes at once at the start: only a later one may find the flow.
    while engine.sweeps() == 0 {
        tokio::task::yield_now().await;
    }
    let id = started(&world).await;
    // Only polls while no stage runs count: a stage may wait for a process, in real time.
    let mut idle = 0;
    while idle < 10_000 && !status(&world, &id).await.status.is_finished() {
        if engine.active().is_empty() {
            idle += 1;
            world.outside_acts().await;
            world.advance(Duration::from_millis(200));
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(&End::of(&world, &id).await, expected, "all wake-ups lost");
    assert!(tasks.shutdown(Duration::from_secs(5)).await, "the engine's loops did not end");
}

/// One process after another, each crashing where the script demands it, until the flow has ended.
async fn run_through_crashes(world: &impl World, id: &foundry_core::FlowId, script: &Script) {
    for _ in 0..1_000 {
        run(world, id, &successor(world, script.options()).await).await;
        if status(world, id).await.status.is_finished() {
            return;
        }
    }
    panic!("the flow did not end: {:?}", status(world, id).await);
}
