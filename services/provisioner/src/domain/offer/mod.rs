//! What an agent offers in a conversation and reports about itself, what was chosen, and how the agent's updates
//! change both. All of it is bounded: an agent may send anything.

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

/// Longest id or value that can be chosen, in bytes. A longer one is not offered: cut, it would be a different value.
pub const MAX_VALUE: usize = 120;
/// Most options, choices of one option, and commands that are kept.
const MAX_OPTIONS: usize = 10;
const MAX_CHOICES: usize = 100;
const MAX_COMMANDS: usize = 80;

/// What is known of a conversation's options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offer {
    /// Whether the agent has sent its offer.
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
    /// Values of the profile or the start that the agent does not accept and the transcript mentions.
    pub passed_over: Vec<String>,
}

/// An option of the agent, such as its model or mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choosable {
    /// The agent's id of the option.
    pub id: String,
    /// The agent's label, for people.
    pub name: String,
    /// The agent's description, for people; may be empty.
    pub description: String,
    /// `model`, `mode`, `thought_level`, `model_config` or a category of the agent's own; empty when it gives none.
    pub category: String,
    /// The value in effect, as the agent last reported it.
    pub value: String,
    /// What can be chosen.
    pub choices: Vec<Choice>,
    /// Whether there are more choices than these.
    pub more: bool,
    /// Which request sets it.
    pub way: Way,
}

/// A value that an option can take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The value as the agent expects it, at most [`MAX_VALUE`] bytes.
    pub value: String,
    /// The agent's label, for people.
    pub name: String,
    /// The agent's description, for people; may be empty.
    pub description: String,
}

/// A slash command of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The name, without the slash.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Hint about the input that may follow it; empty when it takes none.
    pub hint: String,
}

/// How full the agent's context is, and what it has cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the context in use.
    pub used: i64,
    /// Size of the context in tokens.
    pub size: i64,
    /// Cost in millionths of `currency`.
    pub cost_micros: i64,
    /// ISO 4217 code; empty when the agent reports no cost.
    pub currency: String,
}

/// What was chosen over the profile when the session was created; empty = as the profile has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    pub model: String,
    pub mode: String,
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
    /// The value as the agent expects it.
    pub value: String,
    /// How far it is.
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
    /// Not in effect yet.
    Wanted,
    /// The agent has accepted it.
    Holds,
    /// The agent does not accept it, or did not answer.
    Refused {
        /// Why, in UPPER_SNAKE_CASE.
        reason: String,
        /// Why, for people.
        message: String,
    },
}

/// A message of the agent that changes the offer.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A new agent process runs: no choice is in effect in it yet.
    Started,
    /// The answer to the request that opened the session.
    Opened(Value),
    /// An update of this kind.
    Update {
        /// The kind of the update in the protocol, such as `config_option_update`.
        kind: String,
        /// The update, whole.
        value: Value,
    },
    /// The answer to a request that set an option.
    Set {
        option: String,
        value: String,
        /// The agent's answer; an error when it rejects the value.
        result: Result<Value, RpcError>,
    },
}

impl Offer {
    /// What can be chosen under this id.
    pub fn option(&self, id: &str) -> Option<&Choosable> {
        self.options.iter().find(|o| o.id == id)
    }

    /// The choices to apply in a new agent process, models first: other options may depend on the model.
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

    /// Marks a choice as refused.
    pub fn refuse(&mut self, id: &str, reason: &str, message: &str, now: Timestamp) {
        if let Some(chosen) = self.chosen.get_mut(id) {
            let message = head(message, 300).0.to_owned();
            chosen.state = ChoiceState::Refused { reason: reason.to_owned(), message };
            chosen.since = now;
        }
    }

    /// Applies a message of the agent. True when it settled a choice.
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

    /// Whether a session update of this kind concerns the offer.
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

    /// The usage in an update; none in one of another kind, or one that cannot be read.
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

    /// A mode or model that the agent switched to by itself. Agents with a config option for it report both.
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

    /// Config options arrive as a whole; older modes and models stay where no config option replaces them.
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

    /// Settles a choice that the agent answered without an error: it may have kept another value all the same.
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

    /// Follows what the agent changes by itself: its new value replaces the choice in effect, and a refused choice
    /// that it reaches after all counts as accepted. A choice that waits for its answer is left alone: what is shown
    /// may be the result of an earlier one. True when a refused choice was settled.
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

    /// What is carried over to a new agent process, which shares no state with this one.
    pub fn carried(&self, now: Timestamp) -> Self {
        let mut carried = Self { chosen: self.chosen.clone(), start: self.start.clone(), ..Self::default() };
        carried.started(now);
        carried
    }
}

#[cfg(test)]
mod tests;
