//! The options of a session, in any of the protocol's forms: config options, and the older modes and models.

use serde_json::{Value, json};

/// The option id of the protocol's modes, where no config option covers them.
pub const MODE: &str = "mode";
/// The option id of the models, for agents that offer them beside the config options.
pub const MODEL: &str = "model";

/// The request by which an option is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `session/set_config_option` with one of the option's values.
    Config,
    /// `session/set_config_option` with true or false.
    Switch,
    /// `session/set_mode`, with the id of a mode.
    Mode,
    /// `session/set_model`, with the id of a model.
    Model,
}

/// A request that sets an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetOption {
    /// The kind of request.
    pub way: Way,
    /// The option's id, or [`MODE`] or [`MODEL`].
    pub option: String,
    /// The value; `true` or `false` for a switch.
    pub value: String,
}

impl SetOption {
    /// The JSON-RPC method.
    pub fn method(&self) -> &'static str {
        match self.way {
            Way::Config | Way::Switch => "session/set_config_option",
            Way::Mode => "session/set_mode",
            Way::Model => "session/set_model",
        }
    }

    /// The request's parameters for a session of the agent.
    pub fn params(&self, session: &str) -> Value {
        let Self { option, value, .. } = self;
        match self.way {
            Way::Config => json!({ "sessionId": session, "configId": option, "value": value }),
            Way::Switch => {
                json!({ "sessionId": session, "configId": option, "type": "boolean", "value": value == "true" })
            }
            Way::Mode => json!({ "sessionId": session, "modeId": value }),
            Way::Model => json!({ "sessionId": session, "modelId": value }),
        }
    }

    /// The option and value that a request set; none for another request.
    pub fn read(method: &str, params: &Value) -> Option<(String, String)> {
        let text = |key: &str| params.get(key).and_then(Value::as_str).map(str::to_owned);
        match method {
            "session/set_config_option" => {
                let value = match params.get("value")? {
                    Value::Bool(on) => on.to_string(),
                    value => value.as_str()?.to_owned(),
                };
                Some((text("configId")?, value))
            }
            "session/set_mode" => Some((MODE.to_owned(), text("modeId")?)),
            "session/set_model" => Some((MODEL.to_owned(), text("modelId")?)),
            _ => None,
        }
    }
}

/// An option that a session offers, from the response that opened the session.
pub(crate) struct Choosable<'a> {
    way: Way,
    option: &'a str,
    /// The values of modes and models, by their ids.
    values: Vec<&'a str>,
}

impl<'a> Choosable<'a> {
    /// The option with this id.
    pub(crate) fn find(offer: &'a Value, option: &str) -> Option<Self> {
        let own = Self::of_config(offer, |o| o.get("id").and_then(Value::as_str) == Some(option));
        own.or_else(|| match option {
            MODE => Self::of_modes(offer),
            MODEL => Self::of_models(offer),
            _ => None,
        })
    }

    /// The first config option for which `fits` holds.
    pub(crate) fn of_config(offer: &'a Value, fits: impl Fn(&Value) -> bool) -> Option<Self> {
        let options = offer.get("configOptions").and_then(Value::as_array);
        let found = options.into_iter().flatten().find(|option| fits(option))?;
        let switch = found.get("type").and_then(Value::as_str) == Some("boolean");
        let way = if switch { Way::Switch } else { Way::Config };
        Some(Self { way, option: found.get("id").and_then(Value::as_str)?, values: Vec::new() })
    }

    /// Whether the config option of this category already has this value; without such an option, whether the models
    /// have it.
    pub(crate) fn has(offer: &Value, category: &str, value: &str) -> bool {
        let options = offer.get("configOptions").and_then(Value::as_array);
        let text = |option: &'_ Value, key: &str| option.get(key).and_then(Value::as_str).map(str::to_owned);
        let mut fitting =
            options.into_iter().flatten().filter(|o| text(o, "category").as_deref() == Some(category));
        let current = match fitting.next() {
            Some(option) => option.get("currentValue"),
            None if category == MODEL => offer.pointer("/models/currentModelId"),
            None => None,
        };
        current.and_then(Value::as_str) == Some(value)
    }

    /// The modes as an option, if the session offers any.
    pub(crate) fn of_modes(offer: &'a Value) -> Option<Self> {
        let modes = offer.pointer("/modes/availableModes").and_then(Value::as_array)?;
        Some(Self { way: Way::Mode, option: MODE, values: ids(modes, "id") })
    }

    /// The models as an option, if the session offers any.
    pub(crate) fn of_models(offer: &'a Value) -> Option<Self> {
        let models = offer.pointer("/models/availableModels").and_then(Value::as_array)?;
        Some(Self { way: Way::Model, option: MODEL, values: ids(models, "modelId") })
    }

    /// Whether this is one of the modes or models.
    pub(crate) fn offers(&self, value: &str) -> bool {
        self.values.contains(&value)
    }

    /// The request that sets it.
    pub(crate) fn to(&self, value: &str) -> SetOption {
        SetOption { way: self.way, option: self.option.to_owned(), value: value.to_owned() }
    }
}

fn ids<'a>(entries: &'a [Value], key: &str) -> Vec<&'a str> {
    entries.iter().filter_map(|entry| entry.get(key).and_then(Value::as_str)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_each_request_sets() {
        for (way, option, value) in [
            (Way::Config, "effort", "high"),
            (Way::Switch, "fast", "true"),
            (Way::Switch, "fast", "false"),
            (Way::Mode, MODE, "plan"),
            (Way::Model, MODEL, "m-1"),
        ] {
            let set = SetOption { way, option: option.to_owned(), value: value.to_owned() };
            let read = SetOption::read(set.method(), &set.params("s"));
            assert_eq!(read, Some((option.to_owned(), value.to_owned())));
        }
        assert_eq!(SetOption::read("session/prompt", &json!({"configId": "a", "value": "b"})), None);
        assert_eq!(SetOption::read("session/set_config_option", &json!({"value": 3})), None);
    }

    #[test]
    fn a_config_option_stands_before_a_mode_of_the_same_name() {
        let offer = json!({
            "modes": {"currentModeId": "a", "availableModes": [{"id": "a", "name": "A"}]},
            "configOptions": [{"id": "mode", "type": "select", "currentValue": "a", "options": []}],
        });
        assert_eq!(Choosable::find(&offer, "mode").unwrap().to("a").way, Way::Config);
        let older = json!({"modes": offer["modes"]});
        assert_eq!(Choosable::find(&older, "mode").unwrap().to("a").way, Way::Mode);
        assert!(Choosable::find(&older, "model").is_none());
    }
}
