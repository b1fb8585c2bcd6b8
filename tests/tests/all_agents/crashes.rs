//! `kill -9` of the mesh, of a sandbox's runtime and of its processes, at the stages of creation and during turns.

use std::path::Path;
use std::time::{Duration, Instant};

use foundry_proto::common::v1::TurnOutcome;
use foundry_scripted_model::Step;
use foundry_tests::agents::Agent;
use foundry_tests::killing::{MOMENTS, Victim, created_under_crashes, kill_in_a_turn};
use foundry_tests::stages::STAGES;
use foundry_tests::story::words;
use foundry_tests::transcript_summary::TranscriptSummary;

use super::Trial;

/// How long the mesh is down; the sandbox's forwarder holds new model calls that long.
const AWAY: Duration = Duration::from_secs(10);

/// The ten seconds are what is tested; there is no event to wait for instead.
#[allow(clippy::disallowed_methods)]
async fn ten_seconds() {
    tokio::time::sleep(AWAY).await;
}

impl Trial {
    /// The mesh is killed while the model streams, and restarted ten seconds later.
    pub(super) async fn streams_across_ten_seconds_without_the_mesh(&mut self) {
        let hold = format!("restart-{}", self.agent.name);
        let steps =
            [Step::Say("It begins. ".to_owned()), Step::Hold(hold.clone()), Step::Say("It ends.".to_owned())];
        self.say(steps).await;
        self.held(&hold).await;
        let begun = Instant::now();
        self.place.mesh.crash();
        self.place.model.release(&hold);
        ten_seconds().await;
        self.place.mesh.start_again();
        self.time("the mesh is away", begun);
        self.completes("turn cut by kill -9, after it", begun).await;
        let (entries, _) = self.place.finish(&self.work, self.turns).await;
        self.check(
            words(&entries).matches("It ends.").count() == 1,
            "the words after the cut are not there once",
        );
        let times = TranscriptSummary::times_spoken(&entries);
        self.check(times.values().all(|n| *n == 1), format!("prompts are doubled: {times:?}"));
        self.check(TranscriptSummary::of(&entries).ends.len() == self.turns, "a turn has more than one end");
    }

    /// Kills the outermost process of the sandbox, then the runtime in it, which records the agent's output.
    pub(super) async fn goes_on_when_its_sandbox_is_killed(&mut self) {
        for victim in [Victim::Sandbox, Victim::Runtime] {
            let begun = Instant::now();
            let cut = kill_in_a_turn(&self.place, &self.work, self.turns, victim, "PELICAN-731").await;
            self.turns += 2;
            self.time(&format!("kill -9 of the {victim}, next turn"), begun);
            self.check(cut.end.outcome() == TurnOutcome::Interrupted, format!("{victim}: {:?}", cut.end));
            self.check(
                cut.next.outcome() == TurnOutcome::Completed,
                format!("{victim}, after it: {:?}", cut.next),
            );
            self.check(
                cut.occurrences == 1,
                format!("{victim}: earlier words stand {} times in the transcript", cut.occurrences),
            );
            self.check(cut.remembers, format!("{victim}: what was said before is not in the next request"));
        }
        // Options chosen in the conversation still apply in the restarted agent.
        self.works_in_the_other_mode("mode-after-kill.txt").await;
        self.asks_the_other_model("model after the kill").await;
    }
}

pub(super) async fn at_every_stage(agent: Agent) {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    let begun = Instant::now();
    created_under_crashes(agent, &tools, &STAGES, &MOMENTS).await;
    println!("{:9} {:32} {:6.2} s", agent.name, "killed at every stage", begun.elapsed().as_secs_f64());
}
