//! User choices that the agent's side has not confirmed yet. Views show them as if they were in effect.

use std::collections::BTreeMap;

use foundry_core::Timestamp;
use foundry_proto::common::v1::{AgentOptions, AgentSettings, Condition};
use serde::{Deserialize, Serialize};

/// The choices of users for a session, stored as JSON in the session's row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Settings that override the profile, chosen when the session was created.
    pub start: Start,
    /// Values chosen later, by option id.
    // Rows and older processes have this name.
    #[serde(rename = "wishes")]
    pub choices: BTreeMap<String, Choice>,
    /// Id of the form answered last.
    pub form: String,
}

/// The settings chosen at creation, before the agent exists. An empty field was not chosen.
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

impl Start {
    /// The wire form; none when nothing was chosen.
    pub fn to_proto(&self) -> Option<AgentSettings> {
        let Self { model, mode, effort } = self.clone();
        (*self != Self::default()).then_some(AgentSettings { model, mode, effort })
    }
}

/// A value chosen for an option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub value: String,
    /// When it was chosen.
    pub time: Timestamp,
    /// Why the agent's side rejected it, in UPPER_SNAKE_CASE; empty while it is being delivered.
    #[serde(default)]
    pub reason: String,
    /// The rejection as a sentence for people; empty while it is being delivered.
    #[serde(default)]
    pub message: String,
}

impl Asked {
    /// Overlays the choices on the options that the agent's side reports, and drops those that are settled.
    pub fn over(&mut self, shown: Option<&AgentOptions>) -> Option<AgentOptions> {
        let mut shown = shown?.clone();
        self.choices.retain(|id, choice| {
            let Some(option) = shown.options.iter_mut().find(|o| o.option_id == *id) else {
                // The option is gone or was cut from the list: nobody could see what became of the choice.
                return false;
            };
            let shows =
                option.wanted == choice.value || (option.wanted.is_empty() && option.value == choice.value);
            // Only the answer to its call ends a choice that is being delivered: this value may be of an earlier one.
            if shows && !choice.reason.is_empty() {
                return false;
            }
            option.wanted.clone_from(&choice.value);
            option.condition = Some(choice.condition());
            true
        });
        Some(shown)
    }
}

impl Choice {
    fn condition(&self) -> Condition {
        let since_time = Some(self.time.to_proto());
        if self.reason.is_empty() {
            return Condition {
                waiting_on: "delivery to the agent".to_owned(),
                since_time,
                ..Condition::default()
            };
        }
        Condition {
            reason: self.reason.clone(),
            message: self.message.clone(),
            since_time,
            next_action: "choose the value again".to_owned(),
            ..Condition::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::AgentOption;

    use super::*;

    fn shown(value: &str, wanted: &str) -> AgentOptions {
        let (option_id, value, wanted) = ("mode".to_owned(), value.to_owned(), wanted.to_owned());
        AgentOptions {
            options: vec![AgentOption { option_id, value, wanted, ..AgentOption::default() }],
            ..AgentOptions::default()
        }
    }

    fn asked(value: &str) -> Asked {
        let choice = Choice {
            value: value.to_owned(),
            time: Timestamp::from_micros(1),
            reason: String::new(),
            message: String::new(),
        };
        Asked { choices: [("mode".to_owned(), choice)].into(), ..Asked::default() }
    }

    #[test]
    fn a_wish_is_shown_until_its_answer_ends_it() {
        let mut asked = asked("plan");
        let over = asked.over(Some(&shown("ask", ""))).unwrap().options.remove(0);
        assert_eq!((over.value.as_str(), over.wanted.as_str()), ("ask", "plan"));
        assert!(over.condition.unwrap().reason.is_empty());
        let over = asked.over(Some(&shown("ask", "all"))).unwrap().options.remove(0);
        assert_eq!(over.wanted, "plan", "an older choice is still being made");
        // The reported value may be left from an earlier choice: the newer one is kept.
        for reported in [shown("ask", "plan"), shown("plan", "")] {
            asked.over(Some(&reported)).unwrap();
            assert_eq!(asked.choices["mode"].value, "plan");
        }
    }

    #[test]
    fn a_refused_wish_is_forgotten_once_the_agents_side_shows_it() {
        for reported in [shown("ask", "plan"), shown("plan", "")] {
            let mut asked = asked("plan");
            if let Some(choice) = asked.choices.get_mut("mode") {
                "SESSION_CLOSED".clone_into(&mut choice.reason);
            }
            assert_eq!(asked.over(Some(&reported)).unwrap(), reported);
            assert!(asked.choices.is_empty());
        }
    }
}
