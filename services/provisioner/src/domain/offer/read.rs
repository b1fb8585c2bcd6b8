//! From the protocol's own types to what is kept of them, bounded.

use agent_client_protocol::v1::schema::{
    AvailableCommandInput, AvailableCommandsUpdate, ConfigOptionUpdate, SessionConfigKind,
    SessionConfigOption, SessionConfigOptionCategory, SessionConfigSelectOption, SessionConfigSelectOptions,
    SessionInfoUpdate, SessionModeState, UsageUpdate,
};
use foundry_runtime_client::{MODE, MODEL, Way};
use serde_json::Value;

use super::{Choice, Choosable, Command, MAX_CHOICES, MAX_COMMANDS, MAX_OPTIONS, MAX_VALUE, Usage};
use crate::domain::head;

/// Options, and whether some were left out.
type Options = (Vec<Choosable>, bool);

/// The options in the answer that opened a session: config options, and the older modes and models where no config
/// option replaces them. None when the answer has none of these, as that to `session/resume` may.
pub(super) fn session(answer: &Value) -> Option<Options> {
    let older = [modes(answer), models(answer)];
    let config = config(answer);
    if config.is_none() && older.iter().all(Option::is_none) {
        return None;
    }
    let (config, mut cut) = config.unwrap_or_default();
    let stands = |o: &Choosable| config.iter().any(|c| c.id == o.id || c.category == o.category);
    let mut options: Vec<Choosable> = older.into_iter().flatten().filter(|o| !stands(o)).collect();
    options.extend(config);
    cut |= options.len() > MAX_OPTIONS;
    options.truncate(MAX_OPTIONS);
    Some((options, cut))
}

/// The config options in an answer or update.
pub(super) fn config(value: &Value) -> Option<Options> {
    if !value.get("configOptions")?.is_array() {
        return None;
    }
    let all = serde_json::from_value::<ConfigOptionUpdate>(value.clone()).ok()?.config_options;
    let many = all.len();
    let mut options: Vec<Choosable> = Vec::new();
    for option in all.iter().filter_map(config_option) {
        if options.len() < MAX_OPTIONS && options.iter().all(|o| o.id != option.id) {
            options.push(option);
        }
    }
    let cut = options.len() < many;
    Some((options, cut))
}

fn config_option(option: &SessionConfigOption) -> Option<Choosable> {
    let category = match &option.category {
        Some(SessionConfigOptionCategory::Mode) => "mode",
        Some(SessionConfigOptionCategory::Model) => "model",
        Some(SessionConfigOptionCategory::ModelConfig) => "model_config",
        Some(SessionConfigOptionCategory::ThoughtLevel) => "thought_level",
        Some(SessionConfigOptionCategory::Other(own)) => own.as_str(),
        _ => "",
    };
    let (way, value, (choices, more)) = match &option.kind {
        SessionConfigKind::Select(select) => {
            let current = select.current_value.0.as_ref();
            let all: Vec<&SessionConfigSelectOption> = match &select.options {
                SessionConfigSelectOptions::Ungrouped(options) => options.iter().collect(),
                SessionConfigSelectOptions::Grouped(groups) => {
                    groups.iter().flat_map(|g| &g.options).collect()
                }
                _ => Vec::new(),
            };
            let all = all.iter().map(|o| (o.value.0.as_ref(), o.name.as_str(), o.description.as_deref()));
            (Way::Config, current.to_owned(), choices(all, current))
        }
        SessionConfigKind::Boolean(switch) => {
            let both = [("true", "on", None), ("false", "off", None)];
            (Way::Switch, switch.current_value.to_string(), choices(both.into_iter(), ""))
        }
        _ => return None,
    };
    let named =
        Named { id: option.id.0.as_ref(), name: &option.name, description: option.description.as_deref() };
    named.choosable(category, way, &value, choices, more)
}

struct Named<'a> {
    id: &'a str,
    name: &'a str,
    description: Option<&'a str>,
}

impl Named<'_> {
    fn choosable(
        &self,
        category: &str,
        way: Way,
        value: &str,
        choices: Vec<Choice>,
        more: bool,
    ) -> Option<Choosable> {
        if self.id.is_empty() || self.id.len() > MAX_VALUE / 2 || value.len() > MAX_VALUE {
            return None;
        }
        Some(Choosable {
            id: self.id.to_owned(),
            name: head(self.name, 60).0.to_owned(),
            description: head(self.description.unwrap_or_default(), 120).0.to_owned(),
            category: head(category, 40).0.to_owned(),
            value: value.to_owned(),
            choices,
            more,
            way,
        })
    }
}

/// The choices that are kept, the current one always among them where it is offered.
fn choices<'a>(
    all: impl Iterator<Item = (&'a str, &'a str, Option<&'a str>)>,
    current: &str,
) -> (Vec<Choice>, bool) {
    let (mut kept, mut more) = (Vec::new(), false);
    for (value, name, description) in all {
        if value.is_empty() || value.len() > MAX_VALUE {
            more = true;
            continue;
        }
        let choice = Choice {
            value: value.to_owned(),
            name: head(name, 80).0.to_owned(),
            description: head(description.unwrap_or_default(), 160).0.to_owned(),
        };
        if kept.len() < MAX_CHOICES {
            kept.push(choice);
            continue;
        }
        more = true;
        if value == current
            && let Some(last) = kept.last_mut()
        {
            *last = choice;
        }
    }
    (kept, more)
}

fn modes(answer: &Value) -> Option<Choosable> {
    let modes: SessionModeState = serde_json::from_value(answer.get("modes")?.clone()).ok()?;
    let current = modes.current_mode_id.0.as_ref();
    let all =
        modes.available_modes.iter().map(|m| (m.id.0.as_ref(), m.name.as_str(), m.description.as_deref()));
    let (choices, more) = choices(all, current);
    let named = Named { id: MODE, name: "Mode", description: None };
    named.choosable("mode", Way::Mode, current, choices, more)
}

/// The protocol no longer has `models` beside the config options, but some agents still send it.
fn models(answer: &Value) -> Option<Choosable> {
    let models = answer.get("models")?;
    let current = models.get("currentModelId")?.as_str()?;
    let text = |of: &'_ Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let all: Vec<_> = models.get("availableModels")?.as_array()?.iter().collect();
    let all: Vec<(String, String, Option<String>)> = all
        .into_iter()
        .filter_map(|m| {
            let id = text(m, "modelId")?;
            Some((id.clone(), text(m, "name").unwrap_or(id), text(m, "description")))
        })
        .collect();
    let each = all.iter().map(|(value, name, about)| (value.as_str(), name.as_str(), about.as_deref()));
    let (choices, more) = choices(each, current);
    let named = Named { id: MODEL, name: "Model", description: None };
    named.choosable("model", Way::Model, current, choices, more)
}

/// The commands of an update, and whether some were left out.
pub(super) fn commands(value: &Value) -> Option<(Vec<Command>, bool)> {
    let all = serde_json::from_value::<AvailableCommandsUpdate>(value.clone()).ok()?.available_commands;
    let fits = |name: &str| !name.is_empty() && name.len() <= 60 && !name.chars().any(char::is_whitespace);
    let many = all.len();
    let kept: Vec<Command> = all
        .iter()
        .map(|c| (c.name.trim_start_matches('/'), c))
        .filter(|(name, _)| fits(name))
        .take(MAX_COMMANDS)
        .map(|(name, c)| Command {
            name: name.to_owned(),
            description: head(&c.description, 120).0.to_owned(),
            hint: match &c.input {
                Some(AvailableCommandInput::Unstructured(input)) => head(&input.hint, 60).0.to_owned(),
                _ => String::new(),
            },
        })
        .collect();
    let cut = kept.len() < many;
    Some((kept, cut))
}

/// The title in an update; empty when the update removes it, none when the update leaves it as it is.
pub(super) fn title(value: &Value) -> Option<String> {
    value.get("title")?;
    let update: SessionInfoUpdate = serde_json::from_value(value.clone()).ok()?;
    let title = update.title.value().map(String::as_str).unwrap_or_default();
    let line = title.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(head(&line, 120).0.to_owned())
}

/// The usage of an update.
pub(super) fn usage(value: &Value) -> Option<Usage> {
    let update: UsageUpdate = serde_json::from_value(value.clone()).ok()?;
    let tokens = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let cost = update.cost.filter(|c| c.amount.is_finite() && c.amount >= 0.0 && c.currency.len() == 3);
    let micros = |amount: f64| {
        let micros = (amount * 1e6).round();
        // As much as a number of JSON holds exactly; more is nonsense.
        if micros < 9e15 { format!("{micros:.0}").parse().unwrap_or(0) } else { 0 }
    };
    Some(Usage {
        used: tokens(update.used),
        size: tokens(update.size),
        cost_micros: cost.as_ref().map(|c| micros(c.amount)).unwrap_or_default(),
        currency: cost.map(|c| c.currency).unwrap_or_default(),
    })
}
