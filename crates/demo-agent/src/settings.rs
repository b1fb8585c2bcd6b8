//! The settings of a session, and the agent's commands. Every setting has a visible effect.

use agent_client_protocol::v1::schema::{
    AvailableCommand, AvailableCommandInput, AvailableCommandsUpdate, Error as RpcError, SessionConfigOption,
    SessionConfigOptionCategory, SessionConfigOptionValue, SessionConfigSelectOption,
    SetSessionConfigOptionRequest, UnstructuredCommandInput,
};
use serde_json::json;

const MODES: &[(&str, &str, &str)] = &[
    ("usual", "Usual", "acts without asking"),
    ("careful", "Careful", "asks before it edits a file or runs a command"),
];
const MODELS: &[(&str, &str, &str)] = &[
    ("demo", "Demo", "no model"),
    ("demo-loud", "Demo, loud", "answers in uppercase"),
    (LOCKED, "Demo, locked", "cannot be selected: the agent rejects it"),
];
const EFFORTS: &[(&str, &str, &str)] =
    &[("usual", "Usual", "thinks once"), ("high", "High", "thinks twice before it starts")];
/// The model that is offered and refused.
const LOCKED: &str = "demo-locked";

/// The settings of a session.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    mode: &'static str,
    model: &'static str,
    effort: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: "usual", model: "demo", effort: "usual" }
    }
}

impl Settings {
    /// Whether it asks before it changes something.
    pub(crate) fn is_careful(&self) -> bool {
        self.mode == "careful"
    }

    /// Whether it answers in capitals.
    pub(crate) fn is_loud(&self) -> bool {
        self.model == "demo-loud"
    }

    /// Whether it sends a second thought before it begins.
    pub(crate) fn thinks_twice(&self) -> bool {
        self.effort == "high"
    }

    /// All settings as text.
    pub(crate) fn in_words(&self) -> String {
        format!("My mode is {}, my model {}, my effort {}.", self.mode, self.model, self.effort)
    }

    /// Switches the mode; false if there is no such mode.
    pub(crate) fn switch(&mut self, mode: &str) -> bool {
        let found = MODES.iter().find(|(value, _, _)| value.eq_ignore_ascii_case(mode));
        found.inspect(|(value, _, _)| self.mode = value).is_some()
    }

    /// Applies the client's choice of a config option.
    pub(crate) fn set(&mut self, request: &SetSessionConfigOptionRequest) -> Result<(), RpcError> {
        let refused = |why: &str| Err(RpcError::invalid_params().data(json!(why)));
        let (place, all) = match request.config_id.0.as_ref() {
            "mode" => (&mut self.mode, MODES),
            "model" => (&mut self.model, MODELS),
            "effort" => (&mut self.effort, EFFORTS),
            _ => return refused("there is no such option"),
        };
        let SessionConfigOptionValue::ValueId { value } = &request.value else {
            return refused("the value must be one of the option's");
        };
        match all.iter().find(|(known, _, _)| *known == value.0.as_ref()) {
            Some((LOCKED, _, _)) => Err(RpcError::new(-32602, "this model is locked")),
            Some((known, _, _)) => {
                *place = known;
                Ok(())
            }
            None => refused("there is no such value"),
        }
    }

    /// The config options as the protocol lists them.
    pub(crate) fn offered(&self) -> Vec<SessionConfigOption> {
        let option = |id: &'static str,
                      name: &str,
                      category,
                      current: &'static str,
                      all: &[(&'static str, &str, &str)]| {
            let values: Vec<SessionConfigSelectOption> = all
                .iter()
                .map(|(value, name, about)| {
                    SessionConfigSelectOption::new(*value, *name).description((*about).to_owned())
                })
                .collect();
            SessionConfigOption::select(id, name, current, values).category(category)
        };
        vec![
            option("mode", "Mode", SessionConfigOptionCategory::Mode, self.mode, MODES),
            option("model", "Model", SessionConfigOptionCategory::Model, self.model, MODELS),
            option("effort", "Effort", SessionConfigOptionCategory::ThoughtLevel, self.effort, EFFORTS),
        ]
    }
}

/// The commands of every session.
pub(crate) fn commands() -> AvailableCommandsUpdate {
    let hint = |text: &str| AvailableCommandInput::Unstructured(UnstructuredCommandInput::new(text));
    AvailableCommandsUpdate::new(vec![
        AvailableCommand::new("help", "Lists the instructions I understand"),
        AvailableCommand::new("plan", "Shows a plan and goes through it").input(hint("STEP; STEP")),
        AvailableCommand::new("form", "Asks you to fill in a form"),
        AvailableCommand::new("settings", "Shows the current mode, model and effort"),
    ])
}
