//! Answers of a model provider, one by one: the condition, the end of the turn, and a waiting message. Runs in a mesh
//! of its own with a short limit for silence.

use std::path::Path;
use std::time::{Duration, Instant};

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{NoticeKind, TurnOutcome};
use foundry_proto::task::v1::{ResumeQueueRequest, Session, SessionState};
use foundry_scripted_model::{Fault, Script, Step, Times};
use foundry_tests::agents::{Agent, Workplace};
use foundry_tests::story::{await_session, transcript, turn_ends};

use super::{ENDED, SEEN, Trial};

impl Trial {
    async fn for_refusals(agent: Agent) -> Self {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
        let place = Workplace::start_with(agent, &tools, &["provisioner.model_silence=3s"]).await;
        let work = place.begin(&Script::new([Step::Say("Here.".to_owned())])).await;
        let mut trial = Self { agent, place, work, turns: 1, wrong: Vec::new() };
        let end = trial.ends().await;
        trial.check(end.outcome() == TurnOutcome::Completed, format!("first turn: {end:?}"));
        trial
    }

    async fn shows(&mut self, cell: &str, wanted: impl Fn(&Session) -> bool) -> bool {
        let begun = Instant::now();
        let (caller, id) = (self.place.caller.clone(), self.work.session_id.clone());
        let seen = tokio::time::timeout(ENDED, await_session(&caller, &id, wanted)).await.is_ok();
        let took = self.time(cell, begun);
        self.check(seen && took < SEEN, format!("{cell}: not seen within {took:?}"));
        seen
    }

    /// 429 with 2 s: a notice, and the agent continues by itself.
    async fn waits_two_seconds(&mut self) {
        let cell = "429 2s: goes on by itself";
        let before = self.notices().await;
        self.place
            .model
            .all()
            .fail(Fault::Limited { retry_after: Some(Duration::from_secs(2)) }, Times::Next(1));
        let begun = Instant::now();
        self.say([Step::Say("After two seconds.".to_owned())]).await;
        self.completes(cell, begun).await;
        self.place.model.all().heal();
        let after = self.notices().await;
        self.check(after == before + 1, format!("{cell}: {before} notices before, {after} after"));
    }

    async fn notices(&self) -> usize {
        let entries = transcript(&self.place.caller, &self.work.session_id).await;
        let bodies = entries.iter().filter_map(|e| e.part.as_ref()?.body.as_ref());
        bodies.filter(|b| matches!(b, Body::Notice(n) if n.kind() == NoticeKind::ModelWait)).count()
    }

    /// 429 with an hour: the turn ends; a queued message shows the time, and is sent by itself when there is another
    /// key.
    async fn waits_an_hour(&mut self) {
        let hour = Fault::Limited { retry_after: Some(Duration::from_secs(3600)) };
        self.place.model.all().fail(hour, Times::Always);
        self.say([Step::Say("Never said.".to_owned())]).await;
        self.say([Step::Say("Once there is a quota.".to_owned())]).await;
        let quota = |s: &Session| s.condition.as_ref().is_some_and(|c| c.reason == "MODEL_QUOTA");
        self.shows("429 1h: MODEL_QUOTA", quota).await;
        let (entries, _) = self.place.finish(&self.work, self.turns - 1).await;
        let end = turn_ends(&entries).pop().unwrap();
        self.check(
            end.outcome() == TurnOutcome::Error && end.reason == "MODEL_QUOTA",
            format!("429 1h: {end:?}"),
        );
        let waits = |s: &Session| {
            s.state() == SessionState::Running
                && s.queue_length == 0
                && s.condition
                    .as_ref()
                    .is_some_and(|c| c.reason == "MODEL_QUOTA" && c.next_attempt_time.is_some())
        };
        self.shows("429 1h: the next message waits", waits).await;
        let asked = self.place.model.all().requests().len();
        self.place.model.all().heal();
        let begun = Instant::now();
        let quiet =
            tokio::time::timeout(Duration::from_secs(3), self.place.finish(&self.work, self.turns)).await;
        let now = self.place.model.all().requests().len();
        self.check(
            quiet.is_err() && now == asked,
            format!("429 1h: {asked} requests became {now} before the time"),
        );
        self.place.change_key().await;
        self.completes("429 1h: goes by itself with another key", begun).await;
    }

    /// 429 without a time: the condition shows; when the agent gives up, the queue waits for a person.
    async fn waits_for_a_person(&mut self) {
        self.place.model.all().fail(Fault::Limited { retry_after: None }, Times::Always);
        let begun = Instant::now();
        self.say([Step::Say("Never said.".to_owned())]).await;
        self.say([Step::Say("When a person says so.".to_owned())]).await;
        let quota = |s: &Session| s.condition.as_ref().is_some_and(|c| c.reason == "MODEL_QUOTA");
        self.shows("429: MODEL_QUOTA", quota).await;
        let ended = self.place.finish(&self.work, self.turns - 1);
        let Ok((entries, _)) = tokio::time::timeout(Duration::from_secs(30), ended).await else {
            // This agent keeps retrying: its turn does not end before the quota is back.
            self.time("429: goes on trying", begun);
            self.place.model.all().heal();
            self.completes("429: both messages, once it is over", begun).await;
            return;
        };
        self.time("429: gives up", begun);
        let end = turn_ends(&entries).pop().unwrap();
        self.check(end.reason == "MODEL_QUOTA" && end.next_attempt_time.is_none(), format!("429: {end:?}"));
        let session = self.session().await;
        self.check(
            session.queue_held && session.queue_length == 1,
            format!("429: the queue is not held: {session:?}"),
        );
        self.place.model.all().heal();
        let request =
            ResumeQueueRequest { request_id: String::new(), session_id: self.work.session_id.clone() };
        self.place.caller.task().resume_queue(request).await.unwrap();
        self.completes("429: the queue, resumed", begun).await;
    }
}

pub(super) async fn refusals(agent: Agent) {
    let all = Instant::now();
    let mut trial = Trial::for_refusals(agent).await;
    trial.meets(Fault::KeyRefused, "MODEL_KEY_REFUSED", true).await;
    trial.waits_two_seconds().await;
    trial.waits_an_hour().await;
    trial.waits_for_a_person().await;
    trial.meets(Fault::Failing { status: 500 }, "MODEL_FAILING", false).await;
    trial.meets(Fault::Failing { status: 529 }, "MODEL_FAILING", false).await;
    trial.meets(Fault::Silent, "MODEL_SILENT", false).await;
    trial.meets(Fault::Cut, "MODEL_FAILING", false).await;
    trial.meets(Fault::UnknownModel, "MODEL_UNKNOWN", true).await;
    trial.time("all refusals", all);
    trial.is_right();
}
