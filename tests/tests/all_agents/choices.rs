//! Another model and another mode in a running conversation, as far as the agent offers them.

use std::time::Instant;

use foundry_proto::common::v1::{AgentOption, TurnOutcome};
use foundry_proto::task::v1::{Session, SetSessionOptionRequest};
use foundry_scripted_model::{Script, Step};
use foundry_tests::story::{await_session, turn_ends};
use foundry_tests::transcript_summary::TranscriptSummary;
use serde_json::json;

use super::Trial;

/// The option of a category, with its current value and a pending one.
fn option<'s>(session: &'s Session, category: &str) -> Option<&'s AgentOption> {
    session.options.as_ref()?.options.iter().find(|o| o.category == category)
}

impl Trial {
    pub(super) async fn takes_another_model_and_another_mode(&mut self) {
        let session = self.session().await;
        for option in session.options.iter().flat_map(|o| &o.options) {
            let values: Vec<_> = option.choices.iter().map(|c| c.value.as_str()).collect();
            let (name, id, value) = (self.agent.name, &option.option_id, &option.value);
            println!("{name:9} offers {id} ({}): {value} of {values:?}", option.category);
        }
        self.is_refused_what_is_not_offered(&session).await;
        self.takes("mode", self.agent.other_mode).await;
        self.works_in_the_other_mode("other-mode.txt").await;
        self.takes("model", self.agent.other_model.0).await;
        self.asks_the_other_model("turn with another model").await;
    }

    /// A value that is not among the choices, and an option that does not exist, are refused without asking the agent.
    async fn is_refused_what_is_not_offered(&mut self, session: &Session) {
        let set = async |option: &str| {
            let answer = self.place.caller.task().set_session_option(self.request(option, "no-such")).await;
            answer.err().map(|status| (status.code(), status.message().to_owned()))
        };
        let model = option(session, "model").map(|o| o.option_id.clone()).unwrap_or_default();
        let (value, unknown) = (set(&model).await, set("no-such-option").await);
        let code = |of: &Option<(tonic::Code, String)>| of.as_ref().map(|(code, _)| *code);
        self.check(code(&value) == Some(tonic::Code::InvalidArgument), format!("no such model: {value:?}"));
        self.check(
            code(&unknown) == Some(tonic::Code::FailedPrecondition),
            format!("no such option: {unknown:?}"),
        );
    }

    fn request(&self, option: &str, value: &str) -> SetSessionOptionRequest {
        SetSessionOptionRequest {
            session_id: self.work.session_id.clone(),
            option_id: option.to_owned(),
            value: value.to_owned(),
            ..SetSessionOptionRequest::default()
        }
    }

    async fn takes(&mut self, category: &'static str, value: &'static str) {
        let session = self.session().await;
        let Some(found) = option(&session, category).cloned() else {
            self.check(false, format!("offers no {category}"));
            return;
        };
        self.check(found.value != value, format!("{category}: {value} holds already"));
        let begun = Instant::now();
        let request = self.request(&found.option_id, value);
        if let Err(status) = self.place.caller.task().set_session_option(request).await {
            self.check(false, format!("{category} {value}: {status}"));
            return;
        }
        let settled = |s: &Session| {
            option(s, category)
                .is_some_and(|o| o.condition.is_some() || (o.value == value && o.wanted.is_empty()))
        };
        let session = await_session(&self.place.caller, &self.work.session_id, settled).await;
        self.time(&format!("{category} {value}"), begun);
        let refused =
            option(&session, category).and_then(|o| o.condition.clone()).filter(|c| !c.reason.is_empty());
        self.check(refused.is_none(), format!("{category} {value}: {refused:?}"));
    }

    /// A mode that asks less must not ask; a mode that only reads must not write.
    pub(super) async fn works_in_the_other_mode(&mut self, file: &str) {
        let (mode, begun) = (self.agent.other_mode, Instant::now());
        let text = "unasked\n".to_owned();
        // Without this restriction to the edit tool, the model would use the shell, for which the agent asks.
        let edit = json!({ "filePath": format!("/workspace/{file}"), "content": text });
        let mut steps = vec![match self.agent.read_only {
            true => Step::Tool { name: "write".to_owned(), args: edit },
            false => Step::Write { file: file.to_owned(), text },
        }];
        if !matches!(mode, "acceptEdits" | "plan") {
            // The excluded modes only concern edits.
            steps.push(Step::Ask(format!("cp {file} copy-{file}")));
        }
        self.say(steps.into_iter().chain([Step::Say("So it is.".to_owned())])).await;
        let (entries, asked) = self.place.finish(&self.work, self.turns).await;
        let end = turn_ends(&entries).pop().unwrap();
        self.time(&format!("turn in mode {mode}"), begun);
        self.check(end.outcome() == TurnOutcome::Completed, format!("mode {mode}: {end:?}"));
        self.check(asked == 0, format!("mode {mode}: asked {asked} times"));
        let written = self.is_in_the_work_tree(file);
        let tools = || format!("{:?}", TranscriptSummary::of(&entries).tools);
        self.check(written != self.agent.read_only, format!("mode {mode}: written {written}, {}", tools()));
        let shown = option(&self.session().await, "mode").map(|o| o.value.clone());
        self.check(shown.as_deref() == Some(mode), format!("mode {mode}: shows {shown:?}"));
    }

    pub(super) async fn asks_the_other_model(&mut self, step: &str) {
        let before = self.place.model.all().requests().len();
        let begun = Instant::now();
        let script = Script::new([Step::Say("By another model.".to_owned())]);
        self.tell(&format!("Turn {}. {}", self.turns, script.in_prompt())).await;
        self.completes(step, begun).await;
        let requests = self.place.model.all().requests().split_off(before);
        let models: Vec<_> =
            requests.into_iter().filter(|r| r.has_tools).map(|r| r.model.unwrap_or_default()).collect();
        let wanted = self.agent.other_model.1;
        self.check(
            !models.is_empty() && models.iter().all(|m| m == wanted),
            format!("{step}: {models:?} were asked, not {wanted}"),
        );
    }
}
