//! Texts with placeholders.

use serde_json::{Map, Value};

use crate::{ModelAccess, Profile, Text};

const NAMES: [&str; 7] = ["base_url", "token", "model", "small_model", "headers", "mode", "effort"];

/// What placeholders stand for, in one start.
pub(crate) struct Values<'a> {
    pub access: Option<&'a ModelAccess>,
    pub profile: &'a Profile,
}

impl Values<'_> {
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
            _ => None,
        }
    }

    /// The text, or none when a placeholder in it has no value.
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
            Value::Array(all) => all.iter().filter_map(|v| self.fill_value(v)).collect(),
            Value::Object(members) => {
                let kept = members.iter().filter_map(|(k, v)| Some((self.fill(k)?, self.fill_value(v)?)));
                Value::Object(kept.collect::<Map<_, _>>())
            }
            other => other.clone(),
        })
    }

    /// A variable's value.
    pub(crate) fn variable(&self, text: &Text) -> Option<String> {
        match text {
            Text::Plain(text) => self.fill(text),
            Text::Json(value) => self.fill_value(value).map(|v| v.to_string()),
        }
    }

    /// A file's content.
    pub(crate) fn file(&self, text: &Text) -> Option<String> {
        match text {
            Text::Plain(text) => {
                Some(text.split_inclusive('\n').filter_map(|line| self.fill(line)).collect())
            }
            Text::Json(value) => self.fill_value(value).map(|v| format!("{v:#}\n")),
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// A text in its pieces; `{{` without `}}` behind it is text.
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

/// The first name in a text that no placeholder has.
pub(crate) fn unknown_name(text: &str) -> Option<&str> {
    pieces(text).into_iter().find_map(|piece| match piece {
        Piece::Name(name) if !NAMES.contains(&name) => Some(name),
        _ => None,
    })
}

/// The same for all texts of a JSON value.
pub(crate) fn unknown_in(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => unknown_name(text),
        Value::Array(all) => all.iter().find_map(unknown_in),
        Value::Object(members) => members.iter().find_map(|(k, v)| unknown_name(k).or_else(|| unknown_in(v))),
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
        let values = Values { access: Some(&access), profile: &profile };
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
        let values = Values { access: Some(&access), profile: &profile };
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
        let values = Values { access: Some(&access), profile: &profile };
        assert_eq!(values.fill_value(&json!("{{headers}}")).unwrap(), json!({"X-Team": "a", "X-Cost": "b"}));
        assert_eq!(values.fill("{{headers}}").unwrap(), "X-Team: a\nX-Cost: b");
    }

    #[test]
    fn finds_a_placeholder_that_does_not_exist() {
        assert_eq!(unknown_name("{{model}} {{modle}}"), Some("modle"));
        assert_eq!(unknown_in(&json!([{"a": ["{{x}}"]}])), Some("x"));
        assert_eq!(unknown_in(&json!({"{{model}}": 1})), None);
    }
}
