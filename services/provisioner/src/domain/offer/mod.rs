//! What an agent offers in a conversation and tells of itself, what was chosen of it, and how news of the agent change
//! it. All of it is bounded: an agent is free to send whatever it likes.

mod read;
mod show;

use std::collections::BTreeMap;

use foundry_core::Timestamp;
use foundry_proto::common::v1::AgentSettings;
use foundry_runtime_client::{MODE, MODEL, SetOption, Way};
use foundry_sandbox::acp::RpcError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::head;

/// Longest id or value that can be chosen, in bytes; a longer one is not offered, for a cut one would be another.
pub const MAX_VALUE: usize = 120;
/// Most options, choices of one option, and commands that are kept.
const MAX_OPTIONS: usize = 10;
const MAX_CHOICES: usize = 100;
const MAX_COMMANDS: usize = 80;

/// What is known of a conversation's options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offer {
    /// Whether the agent has said what it offers.
    pub known: bool,
    /// What can be chosen.
    pub options: Vec<Choosable>,
    /// The agent's commands.
    pub commands: Vec<Command>,
    /// Whether more was offered than is kept.
    pub cut: bool,
    /// The agent's title of the conversation.
    pub title: String,
    /// Its context and cost, as last shown.
    pub usage: Option<Usage>,
    /// What was chosen in the conversation, by option.
    pub chosen: BTreeMap<String, Chosen>,
    /// What was chosen over the profile when the session was created.
    pub start: Start,
    /// Values of the profile or the start that the agent does not take, and of which the transcript was told.
    pub passed_over: Vec<String>,
}

/// Something that can be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choosable {
    /// Its id.
    pub id: String,
    /// Its label.
    pub name: String,
    /// The agent's words about it.
    pub description: String,
    /// Its category.
    pub category: String,
    /// What holds.
    pub value: String,
    /// What can be chosen.
    pub choices: Vec<Choice>,
    /// Whether there are more choices than these.
    pub more: bool,
    /// How it is set.
    pub way: Way,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// It.
    pub value: String,
    /// Its label.
    pub name: String,
    /// The agent's words about it.
    pub description: String,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// What may follow.
    pub hint: String,
}

/// Context and cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens used.
    pub used: i64,
    /// Tokens at most.
    pub size: i64,
    /// Cost in millionths.
    pub cost_micros: i64,
    /// Its currency.
    pub currency: String,
}

/// What was chosen before the agent was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    /// The model.
    pub model: String,
    /// The mode.
    pub mode: String,
    /// The effort.
    pub effort: String,
}

impl From<AgentSettings> for Start {
    fn from(s: AgentSettings) -> Self {
        Self { model: s.model, mode: s.mode, effort: s.effort }
    }
}

/// What a person chose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// The value.
    pub value: String,
    /// What became of it.
    pub state: ChoiceState,
    /// The flow that carries it out.
    pub flow_id: String,
    /// Since when it is in this state.
    pub since: Timestamp,
}

/// What became of a choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChoiceState {
    /// It is to hold, and does not yet.
    Wanted,
    /// It holds.
    Holds,
    /// The agent does not take it.
    Refused {
        /// Why, in UPPER_SNAKE_CASE.
        reason: String,
        /// Why, for people.
        message: String,
    },
}

/// What an agent said that concerns the offer.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Another agent process runs: nothing that was chosen holds in it yet.
    Started,
    /// The answer to the request that opened the session.
    Opened(Value),
    /// An update of this kind.
    Update {
        /// The kind.
        kind: String,
        /// The update, whole.
        value: Value,
    },
    /// The answer to a request that set an option.
    Set {
        /// The option.
        option: String,
        /// The value.
        value: String,
        /// The answer.
        result: Result<Value, RpcError>,
    },
}

impl Offer {
    /// What can be chosen under this id.
    pub fn option(&self, id: &str) -> Option<&Choosable> {
        self.options.iter().find(|o| o.id == id)
    }

    /// What is to hold in a new agent process, models first: what else can be chosen may depend on them.
    pub fn to_apply(&self) -> Vec<(String, String)> {
        let wanted = |c: &&String| !matches!(self.chosen[*c].state, ChoiceState::Refused { .. });
        let mut all: Vec<_> = self.chosen.keys().filter(wanted).collect();
        all.sort_by_key(|id| match self.option(id).map(|o| o.category.as_str()) {
            Some("model") => 0,
            Some("model_config") => 1,
            _ => 2,
        });
        all.into_iter().map(|id| (id.clone(), self.chosen[id].value.clone())).collect()
    }

    /// The request that sets an option as it was chosen; none when it is not offered.
    pub fn request(&self, id: &str) -> Option<SetOption> {
        let (option, chosen) = self.option(id).zip(self.chosen.get(id))?;
        Some(SetOption { way: option.way, option: option.id.clone(), value: chosen.value.clone() })
    }

    /// Says that a choice is not taken.
    pub fn refuse(&mut self, id: &str, reason: &str, message: &str, now: Timestamp) {
        if let Some(chosen) = self.chosen.get_mut(id) {
            let message = head(message, 300).0.to_owned();
            chosen.state = ChoiceState::Refused { reason: reason.to_owned(), message };
            chosen.since = now;
        }
    }

    /// Takes in what the agent said. True when a choice came to its end by it.
    pub fn apply(&mut self, news: &News, now: Timestamp) -> bool {
        match news {
            News::Started => self.started(now),
            News::Opened(session) => {
                self.known = true;
                if let Some((options, cut)) = read::session(session) {
                    (self.options, self.cut) = (options, cut);
                }
                false
            }
            News::Update { kind, value } => {
                self.updated(kind, value);
                self.follow(now)
            }
            News::Set { option, value, result: Ok(answer) } => {
                if let Some((options, cut)) = read::config(answer) {
                    self.take_config(options, cut);
                } else if let Some(one) = self.options.iter_mut().find(|o| o.id == *option) {
                    one.value.clone_from(value);
                }
                self.settle(option, value, now)
            }
            News::Set { option, value, result: Err(e) } => {
                let ours = |c: &&Chosen| c.value == *value && c.state == ChoiceState::Wanted;
                if self.chosen.get(option).filter(ours).is_none() {
                    return false;
                }
                let reason = "OPTION_REFUSED";
                self.refuse(option, reason, &format!("the agent rejected it: {}", e.message), now);
                true
            }
        }
    }

    /// Whether the agent knows this update; anything else is no news for the offer.
    pub fn concerns(kind: &str) -> bool {
        matches!(
            kind,
            "available_commands_update"
                | "current_mode_update"
                | "current_model_update"
                | "config_option_update"
                | "session_info_update"
                | "usage_update"
        )
    }

    /// The usage of an update; none for another kind, or one that says nothing.
    pub fn usage_of(kind: &str, value: &Value) -> Option<Usage> {
        if kind == "usage_update" { read::usage(value) } else { None }
    }

    fn started(&mut self, now: Timestamp) -> bool {
        for chosen in self.chosen.values_mut().filter(|c| c.state == ChoiceState::Holds) {
            (chosen.state, chosen.since) = (ChoiceState::Wanted, now);
        }
        false
    }

    fn updated(&mut self, kind: &str, value: &Value) {
        let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|t| t.len() <= MAX_VALUE);
        match kind {
            "available_commands_update" => {
                if let Some((commands, cut)) = read::commands(value) {
                    self.commands = commands;
                    self.cut |= cut;
                }
            }
            "current_mode_update" => self.now(Way::Mode, MODE, text("currentModeId")),
            "current_model_update" => self.now(Way::Model, MODEL, text("currentModelId")),
            "config_option_update" => {
                if let Some((options, cut)) = read::config(value) {
                    self.take_config(options, cut);
                }
            }
            "session_info_update" => {
                if let Some(title) = read::title(value) {
                    self.title = title;
                }
            }
            _ => {}
        }
    }

    /// A mode or model that the agent went to by itself. Agents with a config option for it tell both.
    fn now(&mut self, way: Way, category: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        let found = self.options.iter().position(|o| o.way == way).or_else(|| {
            let fits = |o: &Choosable| o.category == category && o.choices.iter().any(|c| c.value == value);
            self.options.iter().position(fits)
        });
        if let Some(option) = found.and_then(|at| self.options.get_mut(at)) {
            value.clone_into(&mut option.value);
        }
    }

    /// Config options come whole; older modes and models stay beside them where none stands for them.
    fn take_config(&mut self, config: Vec<Choosable>, cut: bool) {
        let stands = |o: &Choosable| config.iter().any(|c| c.id == o.id || c.category == o.category);
        let mut options: Vec<Choosable> = self
            .options
            .iter()
            .filter(|o| matches!(o.way, Way::Mode | Way::Model) && !stands(o))
            .cloned()
            .collect();
        options.extend(config);
        self.cut |= cut || options.len() > MAX_OPTIONS;
        options.truncate(MAX_OPTIONS);
        self.options = options;
        self.known = true;
    }

    /// The agent has done what was asked; what it shows now says whether it did.
    fn settle(&mut self, id: &str, value: &str, now: Timestamp) -> bool {
        let shown = self.option(id).map(|o| o.value.clone()).unwrap_or_default();
        let Some(chosen) = self.chosen.get_mut(id) else { return false };
        if chosen.value != value || chosen.state != ChoiceState::Wanted {
            return false;
        }
        if shown == value {
            (chosen.state, chosen.since) = (ChoiceState::Holds, now);
        } else {
            let text = format!("the agent accepted it but kept {shown}");
            let reason = "OPTION_REFUSED";
            self.refuse(id, reason, &text, now);
        }
        self.follow(now);
        true
    }

    /// What the agent changes by itself becomes what was chosen, and what it comes to by itself is no longer refused. A
    /// choice that is on its way is left to its answer: what is shown may be of an earlier one.
    fn follow(&mut self, now: Timestamp) -> bool {
        let mut settled = false;
        for (id, chosen) in &mut self.chosen {
            let Some(option) = self.options.iter().find(|o| o.id == *id) else { continue };
            if chosen.state == ChoiceState::Holds && chosen.value != option.value {
                chosen.value.clone_from(&option.value);
            } else if matches!(chosen.state, ChoiceState::Refused { .. }) && chosen.value == option.value {
                (chosen.state, chosen.since) = (ChoiceState::Holds, now);
                settled = true;
            }
        }
        settled
    }

    /// What goes along with a session to another agent process that knows nothing of this one.
    pub fn carried(&self, now: Timestamp) -> Self {
        let mut carried = Self { chosen: self.chosen.clone(), start: self.start.clone(), ..Self::default() };
        carried.started(now);
        carried
    }
}

#[cfg(test)]
mod tests;
