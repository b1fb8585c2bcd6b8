//! `kill -9` with real agents: of the mesh while an agent is being set up, and of a sandbox's processes during a turn.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use foundry_proto::common::v1::{NoticeKind, StageState, TurnEnd, TurnOutcome};
use foundry_scripted_model::{Script, Step};
use rustix::process::Signal;

use crate::agents::{Agent, Work, Workplace};
use crate::faults::Faults;
use crate::sandboxes;
use crate::stages::{assert_not_repeated, completed, stage};
use crate::story::{PATIENCE, await_task, get_task, patch, send, turn_ends, words};
use crate::transcript_summary::TranscriptSummary;

/// The process to kill. There is no separate recorder: the runtime records the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The outermost process of the sandbox.
    Sandbox,
    /// The runtime in it; its agent may outlive it by a few words.
    Runtime,
    /// The agent and its children.
    Agent,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sandbox => "sandbox",
            Self::Runtime => "runtime",
            Self::Agent => "agent",
        })
    }
}

/// How an interrupted turn and the one after it ended.
pub struct Cut {
    /// The end of the interrupted turn.
    pub end: TurnEnd,
    /// The end of the next turn.
    pub next: TurnEnd,
    /// Whether each model request of the next turn contains the agent's words from an earlier turn.
    pub remembers: bool,
    /// How often those earlier words appear in the transcript.
    pub occurrences: usize,
}

/// Kills a process while the model answers, then sends another message. `turns` have ended before, and the agent said
/// `remembered` in one of them.
///
/// # Panics
/// When a turn does not end, or a prompt or transcript entry is duplicated.
pub async fn kill_in_a_turn(
    place: &Workplace,
    work: &Work,
    turns: usize,
    victim: Victim,
    remembered: &str,
) -> Cut {
    let hold = format!("{victim}-{turns}");
    let script = Script::new([Step::Say("Wait.".to_owned()), Step::Hold(hold.clone())]);
    send(&place.caller, &work.session_id, &format!("Turn {turns}. {}", script.in_prompt())).await;
    let held = tokio::time::timeout(PATIENCE, place.model.held(&hold)).await;
    assert!(held.is_ok(), "{hold} is not reached");
    let sandbox = sandboxes::only(&place.caller, &work.task.task_id).await.sandbox_id;
    let old = sandboxes::runtime(&place.mesh, &sandbox);
    match victim {
        Victim::Sandbox => sandboxes::signal(&place.mesh, &sandbox, old.pid, Signal::KILL),
        Victim::Runtime => sandboxes::signal(&place.mesh, &sandbox, old.server, Signal::KILL),
        Victim::Agent => work.kill_agent(),
    }
    let (entries, _) = place.finish(work, turns + 1).await;
    place.model.release(&hold);
    let end = turn_ends(&entries).pop().expect("an end");

    let before = place.model.all().requests().len();
    let script = Script::new([Step::Say(format!("Here again after {hold}."))]);
    send(&place.caller, &work.session_id, &format!("Turn {}. {}", turns + 1, script.in_prompt())).await;
    let (entries, _) = place.finish(work, turns + 2).await;
    assert_once(&entries);
    let asked = place.model.all().requests().split_off(before);
    let mut asked = asked.into_iter().filter(|r| r.has_tools).peekable();
    let remembers = asked.peek().is_some() && asked.all(|r| r.holds(remembered));
    let occurrences = words(&entries).matches(remembered).count();
    let now = sandboxes::only(&place.caller, &work.task.task_id).await;
    assert_eq!(now.sandbox_id, sandbox, "another sandbox was made");
    let new = sandboxes::runtime(&place.mesh, &sandbox);
    assert_eq!(new == old, victim == Victim::Agent, "{victim}: {old:?} became {new:?}");
    Cut { end, next: turn_ends(&entries).pop().expect("an end"), remembers, occurrences }
}

fn assert_once(entries: &[foundry_proto::task::v1::TranscriptEntry]) {
    let times = TranscriptSummary::times_spoken(entries);
    assert!(times.values().all(|n| *n == 1), "a prompt stands more than once in the transcript: {times:?}");
}

/// A script with a visible effect: a second run would show in the file.
fn once(name: &str) -> Script {
    Script::new([Step::Run(format!("echo once >> {name}.txt")), Step::Say(format!("Done with {name}."))])
}

/// When to kill the mesh during the start of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At the beginning, before the agent has a process.
    Before,
    /// The agent runs, but its session does not exist yet.
    Within,
    /// The session exists.
    After,
}

/// Every moment, in order.
pub const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Within, Moment::After];

/// Kills the mesh at stages of tasks with this agent, and at moments of the agent's own start; every task must end as
/// if nothing had happened. Returns the workplace, and a task whose first turn has ended with `Done with first.`
///
/// # Panics
/// When one does not.
pub async fn created_under_crashes(
    agent: Agent,
    tools: &Path,
    stages: &[(&str, &str)],
    moments: &[Moment],
) -> (Workplace, Work) {
    let steered = tempfile::tempdir().expect("directory");
    let faults = Faults::none(steered.path());
    let mut place = Workplace::start_faulty(agent, tools, steered.path()).await;
    // Installs the packages, so that later stages last only as long as they are held.
    let first = place.begin(&once("first")).await;
    ends_as_if_nothing_had_happened(&place, &first, "first").await;
    while_stages_wait(&mut place, &faults, stages).await;
    for moment in moments {
        while_the_agent_starts(&mut place, *moment).await;
    }
    (place, first)
}

/// Crashes while one task waits in each stage, between the stage's effect and its record; the last stage is reached
/// first.
async fn while_stages_wait(place: &mut Workplace, faults: &Faults, stages: &[(&str, &str)]) {
    let mut waiting = Vec::new();
    for &(call, name) in stages.iter().rev() {
        faults.linger(call);
        let work = place.create(&once(call)).await;
        let running = |t: &_| stage(t, name).state() == StageState::Running;
        let at = await_task(&place.caller, &work.task.task_id, running).await;
        faults.lingers(call).await;
        let sandbox = sandboxes::only(&place.caller, &work.task.task_id).await.sandbox_id;
        let runtimes = sandboxes::runtimes(&place.mesh, &sandbox);
        waiting.push((call, name, work, sandbox, runtimes, completed(&at)));
    }
    place.mesh.crash_and_restart();
    for (_, name, work, ..) in &waiting {
        let again = |t: &_| stage(t, name).state() == StageState::Running && stage(t, name).attempts > 1;
        await_task(&place.caller, &work.task.task_id, again).await;
    }
    stages.iter().for_each(|(call, _)| faults.answer(call));
    for (call, _, work, sandbox, runtimes, before) in &waiting {
        ends_as_if_nothing_had_happened(place, work, call).await;
        assert_not_repeated(before, &get_task(&place.caller, &work.task.task_id).await);
        let now = sandboxes::only(&place.caller, &work.task.task_id).await;
        assert_eq!((&now.sandbox_id, now.runtime_instance), (sandbox, 1), "{call}: not adopted");
        let runtime = sandboxes::runtime(&place.mesh, sandbox);
        assert!(runtimes.iter().all(|r| *r == runtime), "{call}: a living runtime was replaced");
    }
}

/// Crashes at a moment of the agent's own start, which takes seconds and continues while the mesh is down.
async fn while_the_agent_starts(place: &mut Workplace, moment: Moment) {
    let name = format!("{moment:?}").to_lowercase();
    let work = place.create(&once(&name)).await;
    let id = &work.task.task_id;
    await_task(&place.caller, id, |t| stage(t, "session_creating").state() != StageState::Pending).await;
    let agent = match moment {
        Moment::Before => None,
        Moment::Within => Some(process(&work).await),
        Moment::After => {
            await_task(&place.caller, id, |t| stage(t, "ready").state() != StageState::Pending).await;
            Some(process(&work).await)
        }
    };
    place.mesh.crash_and_restart();
    ends_as_if_nothing_had_happened(place, &work, &name).await;
    if let Some(agent) = agent {
        assert!(work.processes().contains(&agent), "{name}: the agent {agent} was replaced");
    }
    assert_eq!(sandboxes::only(&place.caller, id).await.runtime_instance, 1, "{name}: not adopted");
}

/// Waits for the agent's first process.
async fn process(work: &Work) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(first) = work.processes().first() {
            return *first;
        }
        assert!(begun.elapsed() < PATIENCE, "the agent does not start");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn ends_as_if_nothing_had_happened(place: &Workplace, work: &Work, name: &str) {
    let (entries, _) = place.finish(work, 1).await;
    assert_once(&entries);
    let summary = TranscriptSummary::of(&entries);
    assert_eq!(summary.ends, [TurnOutcome::Completed], "{name}: {:?}", turn_ends(&entries));
    assert!(summary.words.contains(&format!("Done with {name}.")), "{name}: {}", summary.words);
    // Some agents also send events that the protocol does not define; those are unrelated to the crash.
    let notices: Vec<_> = summary.notices.iter().filter(|n| **n != NoticeKind::UnknownEvent).collect();
    assert!(notices.is_empty(), "{name}: {notices:?}");
    let caller = &place.caller;
    let taken_in =
        |t: &foundry_proto::task::v1::Task| t.changes.as_ref().is_some_and(|c| c.files_changed == 1);
    await_task(caller, &work.task.task_id, taken_in).await;
    let clone = place.origin.apply(&patch(caller, &work.task.task_id).await);
    let found = std::fs::read_to_string(clone.path().join(format!("{name}.txt"))).expect("the file");
    assert_eq!(found, "once\n", "{name}: an effect of the agent is lost or doubled");
}
