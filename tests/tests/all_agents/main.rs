//! All five agents of the catalogue through the whole mesh, on the scripted model: `make test-agents`. The first run
//! downloads them, about 1.4 GB on disk, so it is not part of `make test`, which covers one of them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test, helpers included
#![allow(clippy::print_stdout)] // the printed times are part of the result

mod choices;
mod crashes;
mod mcp;
mod refusals;

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use foundry_proto::common::v1::{TurnEnd, TurnOutcome};
use foundry_proto::provisioner::v1::PutAttachmentRequest;
use foundry_proto::task::v1::{SendMessageRequest, Session, SessionState, StopTurnRequest};
use foundry_scripted_model::{Fault, RecordedRequest, Script, Step, Times};
use foundry_tests::agents::{
    Agent, CLAUDE, CODEX, GEMINI, OPENCODE, QWEN, Work, Workplace, files_with, processes_with,
};
use foundry_tests::story::{PATIENCE, await_session, await_task, patch, send, turn_ends, words};
use refusals::refusals;

/// A fault's condition must show within five seconds. If the agent was asked to give up, the turn must end within
/// another five, which is the time that an agent gets to obey.
const SEEN: Duration = Duration::from_secs(5);
const ENDED: Duration = Duration::from_secs(10);

/// A chessboard of 32 by 32 pixels, a PNG in base64.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAOUlEQVR42mPQtgrFim7mG2FFpKpnGLVg1IIhYAG1DMKlftSCUQuGggWjRcWoBaMWjNYHoxaMWgBEABb3aD2q9vvuAAAAAElFTkSuQmCC";

/// An agent at work, and the checks that have failed so far; later steps still run.
struct Trial {
    agent: Agent,
    place: Workplace,
    work: Work,
    turns: usize,
    wrong: Vec<String>,
}

impl Trial {
    fn check(&mut self, holds: bool, what: impl std::fmt::Display) {
        if !holds {
            println!("{:9} WRONG: {what}", self.agent.name);
            self.wrong.push(what.to_string());
        }
    }

    /// Panics if any check has failed.
    fn is_right(&self) {
        let (wrong, log) = (self.wrong.join("\n"), self.place.mesh.log_tail());
        assert!(self.wrong.is_empty(), "{}:\n{wrong}\n{log}", self.agent.name);
    }

    fn time(&self, step: &str, begun: Instant) -> Duration {
        let took = begun.elapsed();
        println!("{:9} {step:32} {:6.2} s", self.agent.name, took.as_secs_f64());
        took
    }

    async fn say(&mut self, steps: impl IntoIterator<Item = Step>) {
        let words = format!("Turn {}. {}", self.turns, Script::new(steps).in_prompt());
        self.tell(&words).await;
    }

    async fn tell(&mut self, words: &str) {
        self.turns += 1;
        send(&self.place.caller, &self.work.session_id, words).await;
    }

    /// The end of the turn; each permission request is allowed once.
    async fn ends(&mut self) -> TurnEnd {
        let (entries, _) = self.place.finish(&self.work, self.turns).await;
        turn_ends(&entries).pop().unwrap()
    }

    async fn completes(&mut self, step: &str, begun: Instant) {
        let end = self.ends().await;
        self.time(step, begun);
        self.check(end.outcome() == TurnOutcome::Completed, format!("{step}: {end:?}"));
    }

    /// The agent writes, runs and asks; its patch is handed over, and its key appears nowhere.
    async fn works(agent: Agent) -> Self {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
        let begun = Instant::now();
        let place = Workplace::start(agent, &tools).await;
        println!("{:9} {:32} {:6.2} s", agent.name, "mesh", begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let script = Script::new([
            Step::Write { file: "written.txt".to_owned(), text: "by the agent\n".to_owned() },
            Step::Ask("cp written.txt copied.txt".to_owned()),
            Step::Say("All is done.".to_owned()),
        ]);
        let work = place.begin(&script).await;
        let mut trial = Self { agent, place, work, turns: 1, wrong: Vec::new() };
        trial.time("sandbox and session", begun);
        let (entries, asked) = trial.place.finish(&trial.work, 1).await;
        trial.time("first turn, from creation", begun);
        let end = turn_ends(&entries).pop().unwrap();
        trial.check(end.outcome() == TurnOutcome::Completed, format!("first turn: {end:?}"));
        trial.check(asked > 0, format!("asked {asked} times for permission"));
        trial.check(words(&entries).contains("All is done."), words(&entries));
        trial
    }

    async fn hands_over(&mut self) {
        let begun = Instant::now();
        let (caller, id) = (&self.place.caller, &self.work.task.task_id);
        await_task(caller, id, |t| t.changes.as_ref().is_some_and(|c| c.files_changed == 2)).await;
        let clone = self.place.origin.apply(&patch(caller, id).await);
        self.time("patch, after the turn", begun);
        for file in ["written.txt", "copied.txt"] {
            let text = std::fs::read_to_string(clone.path().join(file)).unwrap_or_default();
            self.check(text == "by the agent\n", format!("{file} holds {text:?}"));
        }
    }

    fn keeps_the_key_outside(&mut self) {
        let secrets = self.place.secrets();
        self.check(!self.work.processes().is_empty(), "the agent's environment is out of sight");
        let processes = processes_with(&secrets);
        self.check(processes.is_empty(), format!("the key is in processes {processes:?}"));
        let (found, _) = files_with(self.place.mesh.dir(), &secrets);
        self.check(found.is_empty(), format!("the key is in {found:?}"));
        let token = format!("{}.", self.work.session_id);
        let held = |r: &RecordedRequest| {
            format!("{:?} {:?}", r.headers, r.query).contains(&token)
                || !r.key.as_ref().is_some_and(|key| self.place.keys.contains(key))
        };
        let wrong: Vec<_> =
            self.place.model.all().requests().into_iter().filter(held).map(|r| r.path).collect();
        self.check(wrong.is_empty(), format!("with a token or without the key: {wrong:?}"));
    }

    /// A picture that a user attaches must be in the model's request.
    async fn is_given_an_image(&mut self) {
        let picture = BASE64_STANDARD.decode(PICTURE).unwrap();
        let put = PutAttachmentRequest {
            organization_id: self.place.caller.organization_id.clone(),
            name: "board.png".to_owned(),
            content: picture.clone().into(),
            ..PutAttachmentRequest::default()
        };
        let stored = self.place.caller.attachments().put_attachment(put).await.unwrap().into_inner();
        let before = self.place.model.all().requests().len();
        let script = Script::new([Step::Say("A chessboard.".to_owned())]);
        let begun = Instant::now();
        self.turns += 1;
        let request = SendMessageRequest {
            session_id: self.work.session_id.clone(),
            text: format!("Turn {}. What is this? {}", self.turns, script.in_prompt()),
            attachment_ids: vec![stored.attachment.unwrap().attachment_id],
            ..SendMessageRequest::default()
        };
        self.place.caller.task().send_message(request).await.unwrap();
        self.completes("image", begun).await;
        let requests = self.place.model.all().requests().split_off(before);
        let images: Vec<_> = requests.iter().flat_map(RecordedRequest::images).collect();
        let kinds: Vec<_> = images.iter().map(|(kind, bytes)| (kind.as_str(), bytes.len())).collect();
        // Some agents re-encode pictures.
        self.check(!images.is_empty(), "no request to the model holds a picture");
        let same = images.iter().any(|(kind, bytes)| kind == "image/png" && *bytes == picture);
        println!("{:9} picture in the request, the same: {same}, {kinds:?}", self.agent.name);
    }

    async fn is_stopped(&mut self) {
        let hold = format!("stop-{}", self.agent.name);
        self.say([Step::Say("Wait.".to_owned()), Step::Hold(hold.clone()), Step::Say("No.".to_owned())])
            .await;
        self.held(&hold).await;
        let begun = Instant::now();
        let request = StopTurnRequest { request_id: String::new(), session_id: self.work.session_id.clone() };
        self.place.caller.task().stop_turn(request).await.unwrap();
        let end = self.ends().await;
        let took = self.time("stop", begun);
        self.place.model.release(&hold);
        self.check(end.outcome() == TurnOutcome::Cancelled, format!("stop: {end:?}"));
        self.check(took < SEEN, format!("the stop took {took:?}"));
    }

    /// The profile gets another model, which applies from the agent's next start on; then the agent is killed during a
    /// turn.
    async fn goes_on_with_its_memory_and_another_model_when_killed(&mut self) {
        self.place.choose_model("scripted-2").await;
        let hold = format!("kill-{}", self.agent.name);
        self.say([Step::Say("I keep that in mind: PELICAN-731.".to_owned())]).await;
        self.ends().await;
        self.say([Step::Say("Wait.".to_owned()), Step::Hold(hold.clone())]).await;
        self.held(&hold).await;
        self.work.kill_agent();
        let begun = Instant::now();
        let end = self.ends().await;
        self.time("end of the turn by a kill", begun);
        self.place.model.release(&hold);
        self.check(end.reason == "AGENT_EXITED", format!("kill: {end:?}"));
        let before = self.place.model.all().requests().len();
        let begun = Instant::now();
        self.say([Step::Say("Here again.".to_owned())]).await;
        self.completes("turn after the kill", begun).await;
        let requests = self.place.model.all().requests().split_off(before);
        let requests: Vec<_> = requests.into_iter().filter(|r| r.has_tools).collect();
        let remembers = requests.iter().all(|r| r.holds("PELICAN-731"));
        self.check(
            remembers && !requests.is_empty(),
            "the request after the kill does not hold the earlier words",
        );
        let models: Vec<_> = requests.iter().filter_map(|r| r.model.clone()).collect();
        let all = models.iter().all(|m| m.ends_with("scripted-2"));
        self.check(all && !models.is_empty(), format!("after the kill, asked of the models {models:?}"));
    }

    async fn session(&self) -> Session {
        await_session(&self.place.caller, &self.work.session_id, |_| true).await
    }

    /// Whether a file of this name exists in the sandbox's work tree.
    fn is_in_the_work_tree(&self, name: &str) -> bool {
        let mut left = vec![self.place.mesh.data().join("provisioner/sandboxes")];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_name() == name {
                    return true;
                }
                left.extend(entry.file_type().is_ok_and(|t| t.is_dir()).then(|| entry.path()));
            }
        }
        false
    }

    async fn held(&self, name: &str) {
        let held = tokio::time::timeout(PATIENCE, self.place.model.held(name)).await;
        assert!(held.is_ok(), "{name} is not reached\n{}", self.wrong.join("\n"));
    }

    /// The provider answers with a fault. Checks the session's condition, and how the turn ends; `ends` = the fault
    /// ends it.
    async fn meets(&mut self, fault: Fault, reason: &str, ends: bool) {
        self.place.model.all().fail(fault, Times::Always);
        let begun = Instant::now();
        self.say([Step::Say("Never said.".to_owned())]).await;
        let seen =
            |s: &foundry_proto::task::v1::Session| s.condition.as_ref().is_some_and(|c| c.reason == reason);
        let (caller, id) = (self.place.caller.clone(), self.work.session_id.clone());
        let waited = tokio::time::timeout(ENDED, await_session(&caller, &id, seen)).await;
        let took = self.time(&format!("{fault}: {reason}"), begun);
        self.check(waited.is_ok() && took < SEEN, format!("{fault}: no condition {reason} within {took:?}"));
        if !ends {
            self.place.model.all().heal();
            let begun = Instant::now();
            let end = self.ends().await;
            if end.outcome() == TurnOutcome::Completed {
                self.time(&format!("{fault}: goes on when it is over"), begun);
                return;
            }
            // Some agents do not retry after an answer that had begun: then the turn ends with the fault's reason.
            self.time(&format!("{fault}: gives up"), begun);
            self.check(end.reason == reason, format!("{fault}: gives up with {end:?}"));
            self.say([Step::Say("Better.".to_owned())]).await;
            self.completes(&format!("{fault}: the next turn"), begun).await;
            return;
        }
        let end = self.ends().await;
        let took = self.time(&format!("{fault}: end of the turn"), begun);
        let (outcome, why) = (end.outcome(), end.reason.as_str());
        self.check(outcome == TurnOutcome::Error && why == reason, format!("{fault}: {end:?}"));
        self.check(took < ENDED, format!("{fault}: the turn ended after {took:?}"));
        self.place.model.all().heal();
        if let Fault::Limited { .. } = fault {
            // Until the quota resets, nothing is sent with the old key.
            self.place.change_key().await;
        }
        let resting = |s: &foundry_proto::task::v1::Session| s.state() != SessionState::Running;
        let session = await_session(&self.place.caller, &self.work.session_id, resting).await;
        let condition = session.condition.unwrap_or_default();
        self.check(condition.reason == reason, format!("{fault}: at rest, the condition is {condition:?}"));
        let begun = Instant::now();
        self.say([Step::Say("Better.".to_owned())]).await;
        self.completes(&format!("{fault}: the next turn"), begun).await;
    }
}

async fn everything(agent: Agent) {
    let all = Instant::now();
    let mut trial = Trial::works(agent).await;
    trial.hands_over().await;
    trial.keeps_the_key_outside();
    trial.is_given_an_image().await;
    trial.is_stopped().await;
    trial.goes_on_with_its_memory_and_another_model_when_killed().await;
    trial.meets(Fault::KeyInvalid, "MODEL_KEY_REFUSED", true).await;
    let hour = Some(Duration::from_secs(3600));
    trial.meets(Fault::Limited { retry_after: hour }, "MODEL_QUOTA", true).await;
    trial.meets(Fault::UnknownModel, "MODEL_UNKNOWN", true).await;
    trial.meets(Fault::Failing { status: 500 }, "MODEL_FAILING", false).await;
    trial.takes_another_model_and_another_mode().await;
    trial.streams_across_ten_seconds_without_the_mesh().await;
    trial.goes_on_when_its_sandbox_is_killed().await;
    trial.keeps_the_key_outside();
    trial.time("all", all);
    trial.is_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_does_all_that_an_agent_must() {
    everything(CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_does_all_that_an_agent_must() {
    everything(CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_does_all_that_an_agent_must() {
    everything(OPENCODE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_does_all_that_an_agent_must() {
    everything(GEMINI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qwen_does_all_that_an_agent_must() {
    everything(QWEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_shows_what_its_provider_refuses() {
    refusals(CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_shows_what_its_provider_refuses() {
    refusals(CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_shows_what_its_provider_refuses() {
    refusals(OPENCODE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_shows_what_its_provider_refuses() {
    refusals(GEMINI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qwen_shows_what_its_provider_refuses() {
    refusals(QWEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_calls_a_tool_of_an_mcp_server() {
    mcp::calls_a_tool(CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_calls_a_tool_of_an_mcp_server() {
    mcp::calls_a_tool(CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_calls_a_tool_of_an_mcp_server() {
    mcp::calls_a_tool(OPENCODE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_calls_a_tool_of_an_mcp_server() {
    mcp::calls_a_tool(GEMINI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qwen_calls_a_tool_of_an_mcp_server() {
    mcp::calls_a_tool(QWEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_is_made_ready_while_the_mesh_is_killed_at_every_stage() {
    crashes::at_every_stage(CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_is_made_ready_while_the_mesh_is_killed_at_every_stage() {
    crashes::at_every_stage(CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_is_made_ready_while_the_mesh_is_killed_at_every_stage() {
    crashes::at_every_stage(OPENCODE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_is_made_ready_while_the_mesh_is_killed_at_every_stage() {
    crashes::at_every_stage(GEMINI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qwen_is_made_ready_while_the_mesh_is_killed_at_every_stage() {
    crashes::at_every_stage(QWEN).await;
}
