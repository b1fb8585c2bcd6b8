//! Texts with placeholders.

use serde_json::{Map, Value};

use crate::{ModelAccess, Profile, Text};

const NAMES: [&str; 7] = ["base_url", "token", "model", "small_model", "headers", "mode", "effort"];
/// Placeholders that repeat the table member or list element in which they stand.
const EACH_MODEL: &str = "each_model";
const LISTED_MODEL: &str = "listed_model";

/// The values of placeholders, for one start.
pub(crate) struct Values<'a> {
    pub access: Option<&'a ModelAccess>,
    pub profile: &'a Profile,
    /// The model that a repeated member or element is for.
    each: Option<&'a str>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(access: Option<&'a ModelAccess>, profile: &'a Profile) -> Self {
        Self { access, profile, each: None }
    }

    fn of(&self, name: &str) -> Option<String> {
        let access = self.access;
        match name {
            "base_url" => access.map(|a| a.base_url.trim_end_matches('/').to_owned()),
            "token" => access.map(|a| a.token.clone()),
            "model" => access.and_then(|a| a.model.clone()),
            "small_model" => access.and_then(|a| a.small_model.clone()),
            "headers" => {
                let headers = access.map_or(&[][..], |a| &a.headers);
                let lines: Vec<String> = headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
                (!lines.is_empty()).then(|| lines.join("\n"))
            }
            "mode" => self.profile.mode.clone(),
            "effort" => self.profile.effort.clone(),
            EACH_MODEL | LISTED_MODEL => self.each.map(str::to_owned),
            _ => None,
        }
    }

    /// The text, or `None` when a placeholder in it has no value.
    pub(crate) fn fill(&self, text: &str) -> Option<String> {
        let mut filled = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Name(name) => filled.push_str(&self.of(name)?),
            }
        }
        Some(filled)
    }

    /// The JSON value, without the members and elements in which a placeholder has no value.
    pub(crate) fn fill_value(&self, value: &Value) -> Option<Value> {
        Some(match value {
            Value::String(text) if text == "{{headers}}" => {
                let headers = self.access.map(|a| &a.headers).filter(|h| !h.is_empty())?;
                headers.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect()
            }
            Value::String(text) => Value::String(self.fill(text)?),
            Value::Array(all) => {
                let each = |v: &Value| -> Vec<Value> {
                    self.repeated(mentions(v)).into_iter().filter_map(|of| of.fill_value(v)).collect()
                };
                let filled: Vec<Value> = all.iter().flat_map(each).collect();
                // Some agents treat an empty list of models differently from an absent one.
                if filled.is_empty() && all.iter().any(|v| mentions(v).is_some()) {
                    return None;
                }
                Value::Array(filled)
            }
            Value::Object(members) => {
                let each = |(k, v): (&String, &Value)| -> Vec<(String, Value)> {
                    let filled = self.repeated(named(k)).into_iter();
                    filled.filter_map(|of| Some((of.fill(k)?, of.fill_value(v)?))).collect()
                };
                Value::Object(members.iter().flat_map(each).collect::<Map<_, _>>())
            }
            other => other.clone(),
        })
    }

    /// One copy of these values per model that the placeholder stands for; without a placeholder, only themselves.
    fn repeated(&self, placeholder: Option<&str>) -> Vec<Values<'a>> {
        let of = |each: Option<&'a str>| Values { each, ..*self };
        let (None, Some(placeholder)) = (self.each, placeholder) else { return vec![of(self.each)] };
        let Some(access) = self.access else { return Vec::new() };
        let models = if placeholder == EACH_MODEL { access.each_model() } else { access.listed_models() };
        models.into_iter().map(|model| of(Some(model))).collect()
    }

    /// A variable's value.
    pub(crate) fn variable(&self, text: &Text) -> Option<String> {
        match text {
            Text::Plain(text) => self.fill(text),
            Text::Json(value) => self.fill_value(value).map(|v| v.to_string()),
        }
    }

    /// A file's content. A table with nothing left in it is written as an empty one, to replace what an earlier start
    /// wrote.
    pub(crate) fn file(&self, text: &Text) -> Option<String> {
        match text {
            Text::Plain(text) => {
                Some(text.split_inclusive('\n').filter_map(|line| self.fill(line)).collect())
            }
            Text::Json(value) => {
                let filled = self.fill_value(value)?;
                Some(format!("{filled:#}\n"))
            }
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Splits a text into pieces; `{{` without a `}}` after it is text.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once("{{") {
        let Some((name, after)) = behind.split_once("}}") else { break };
        found.extend([Piece::Text(before), Piece::Name(name.trim())]);
        rest = after;
    }
    found.push(Piece::Text(rest));
    found
}

/// The repeating placeholder in a text, if any.
fn named(text: &str) -> Option<&str> {
    pieces(text).into_iter().find_map(|piece| match piece {
        Piece::Name(name) if repeats(name) => Some(name),
        _ => None,
    })
}

/// The same for an element of a list, which a placeholder anywhere inside it repeats.
fn mentions(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => named(text),
        Value::Array(all) => all.iter().find_map(mentions),
        Value::Object(members) => members.iter().find_map(|(k, v)| named(k).or_else(|| mentions(v))),
        _ => None,
    }
}

fn repeats(name: &str) -> bool {
    name == EACH_MODEL || name == LISTED_MODEL
}

/// The first placeholder in a text that does not exist. Repeating ones exist only in tables.
pub(crate) fn unknown_name(text: &str) -> Option<&str> {
    unknown_to(text, &|name| NAMES.contains(&name))
}

fn unknown_to<'t>(text: &'t str, known: &dyn Fn(&str) -> bool) -> Option<&'t str> {
    pieces(text).into_iter().find_map(|piece| match piece {
        Piece::Name(name) if !known(name) => Some(name),
        _ => None,
    })
}

/// The same for all texts of a JSON value, in which repeating placeholders may stand.
pub(crate) fn unknown_in(value: &Value) -> Option<&str> {
    unknown_within(value, false)
}

fn unknown_within(value: &Value, repeated: bool) -> Option<&str> {
    let known = |name: &str| NAMES.contains(&name) || (repeated && repeats(name));
    match value {
        Value::String(text) => unknown_to(text, &known),
        Value::Array(all) => all.iter().find_map(|v| unknown_within(v, true)),
        Value::Object(members) => members.iter().find_map(|(k, v)| {
            let repeated = repeated || named(k).is_some();
            unknown_to(k, &|name| NAMES.contains(&name) || repeats(name))
                .or_else(|| unknown_within(v, repeated))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ModelKind;

    fn access() -> ModelAccess {
        ModelAccess::new(ModelKind::Openai, "${FOUNDRY_MODEL_URL}/openai/", "to\"ken").with_model("a\nb")
    }

    #[test]
    fn fills_in_what_has_a_value_and_leaves_out_what_has_none() {
        let (access, profile) = (access(), Profile::default());
        let values = Values::new(Some(&access), &profile);
        assert_eq!(
            values.fill("u={{base_url}}/v1 {{ token }}").unwrap(),
            "u=${FOUNDRY_MODEL_URL}/openai/v1 to\"ken"
        );
        assert_eq!(values.fill("--effort={{effort}}"), None);
        assert_eq!(values.fill("a {{ open and ${HOME}").unwrap(), "a {{ open and ${HOME}");
        let lines = Text::Plain("a\ne = {{effort}}\nm\n".to_owned());
        assert_eq!(values.file(&lines).unwrap(), "a\nm\n");
    }

    #[test]
    fn quotes_values_in_json_and_drops_members_without_one() {
        let (access, profile) = (access(), Profile::default());
        let values = Values::new(Some(&access), &profile);
        let value = json!({"key": "{{token}}", "effort": "{{effort}}", "headers": "{{headers}}",
            "models": {"{{model}}": {}, "{{small_model}}": {}}, "list": ["{{mode}}", 1, true]});
        let filled = values.fill_value(&value).unwrap();
        assert_eq!(filled, json!({"key": "to\"ken", "models": {"a\nb": {}}, "list": [1, true]}));
    }

    #[test]
    fn writes_headers_as_an_object_or_as_lines() {
        let mut access = access();
        access.headers = vec![("X-Team".to_owned(), "a".to_owned()), ("X-Cost".to_owned(), "b".to_owned())];
        let profile = Profile::default();
        let values = Values::new(Some(&access), &profile);
        assert_eq!(values.fill_value(&json!("{{headers}}")).unwrap(), json!({"X-Team": "a", "X-Cost": "b"}));
        assert_eq!(values.fill("{{headers}}").unwrap(), "X-Team: a\nX-Cost: b");
    }

    #[test]
    fn repeats_a_member_or_an_element_for_each_model() {
        let (mut access, profile) = (access().with_model("one"), Profile::default());
        access.models = vec!["two".to_owned(), "one".to_owned()];
        let value = json!({"models": {"{{each_model}}": {"id": "{{each_model}} of {{model}}"}},
            "list": [{"id": "{{each_model}}"}], "allowed": ["{{listed_model}}", "own"], "only": ["{{listed_model}}"]});
        let filled = Values::new(Some(&access), &profile).fill_value(&value).unwrap();
        let expected = json!({"models": {"one": {"id": "one of one"}, "two": {"id": "two of one"}},
            "list": [{"id": "one"}, {"id": "two"}], "allowed": ["two", "one", "own"], "only": ["two", "one"]});
        assert_eq!(filled, expected);

        access.models.clear();
        let filled = Values::new(Some(&access), &profile).fill_value(&value).unwrap();
        let expected =
            json!({"models": {"one": {"id": "one of one"}}, "list": [{"id": "one"}], "allowed": ["own"]});
        assert_eq!(filled, expected, "a list of nothing is left out");
    }

    #[test]
    fn knows_where_a_placeholder_can_repeat_something() {
        assert_eq!(unknown_name("--model={{each_model}}"), Some("each_model"));
        assert_eq!(unknown_in(&json!({"a": "{{listed_model}}"})), Some("listed_model"));
        assert_eq!(
            unknown_in(&json!({"{{each_model}}": {"b": "{{each_model}}"}, "c": ["{{listed_model}}"]})),
            None
        );
    }

    #[test]
    fn finds_a_placeholder_that_does_not_exist() {
        assert_eq!(unknown_name("{{model}} {{modle}}"), Some("modle"));
        assert_eq!(unknown_in(&json!([{"a": ["{{x}}"]}])), Some("x"));
        assert_eq!(unknown_in(&json!({"{{model}}": 1})), None);
    }
}
