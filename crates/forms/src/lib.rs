//! Answers to forms that agents ask users to fill in: checked against the form and encoded for the Agent Client
//! Protocol. Used by the service that takes the answer from a user and by the one that delivers it to the agent.

use foundry_core::Error;
use foundry_proto::common::v1::{
    ElicitationAction, ElicitationField, ElicitationFieldKind as Kind, ElicitationRequest, ElicitationValue,
};
use serde_json::{Map, Value, json};

/// Largest answer in bytes: names and values together.
pub const MAX_ANSWER: usize = 3 << 10;

/// The answer when no user can be shown the request.
pub fn declined() -> Value {
    json!({ "action": "decline" })
}

/// The answer when the request's turn is being cancelled.
pub fn cancelled() -> Value {
    json!({ "action": "cancel" })
}

/// The response of `elicitation/create` for a user's answer.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field whose value the form does not allow.
pub fn answer(
    request: &ElicitationRequest,
    action: ElicitationAction,
    values: &[ElicitationValue],
) -> Result<Value, Error> {
    match action {
        ElicitationAction::Accept => {}
        ElicitationAction::Decline => return Ok(declined()),
        ElicitationAction::Cancel => return Ok(cancelled()),
        ElicitationAction::Unspecified => return Err(Error::invalid_field("action", "is not set")),
    }
    let size: usize =
        values.iter().map(|v| v.name.len() + v.values.iter().map(String::len).sum::<usize>()).sum();
    if size > MAX_ANSWER {
        return Err(Error::invalid_field("values", format!("are {size} bytes; the limit is {MAX_ANSWER}")));
    }
    let known = |v: &&ElicitationValue| !request.fields.iter().any(|f| f.name == v.name);
    if let Some(unknown) = values.iter().find(known) {
        return Err(Error::invalid_field(
            "values",
            format!("{:?} is not a field of this form", unknown.name.chars().take(100).collect::<String>()),
        ));
    }
    let mut content = Map::new();
    for field in &request.fields {
        let mut given = values.iter().filter(|v| v.name == field.name);
        let filled: &[String] = given.next().map(|v| v.values.as_slice()).unwrap_or_default();
        if given.next().is_some() {
            return Err(Error::invalid_field("values", format!("{:?} is filled in twice", field.name)));
        }
        if let Some(value) = filled_in(field, filled).map_err(|why| wrong(field, &why))? {
            content.insert(field.name.clone(), value);
        }
    }
    Ok(json!({ "action": "accept", "content": content }))
}

fn wrong(field: &ElicitationField, why: &str) -> Error {
    Error::invalid_field("values", format!("{:?} {why}", field.name))
}

/// A field's value in the type that the agent expects; `None` when it was left empty.
fn filled_in(field: &ElicitationField, filled: &[String]) -> Result<Option<Value>, String> {
    if field.kind() == Kind::Choices {
        return several(field, filled);
    }
    let value = match filled {
        [] => "",
        [one] => one.as_str(),
        _ => return Err("accepts only one value".to_owned()),
    };
    if value.is_empty() {
        return if field.required { Err("is required".to_owned()) } else { Ok(None) };
    }
    let value = match field.kind() {
        Kind::Number => {
            let number = value.trim().parse().ok().and_then(finite).ok_or("is not a number")?;
            within(field, number, "")?;
            json!(number)
        }
        Kind::Integer => {
            let number: i64 = value.trim().parse().map_err(|_| "is not a whole number".to_owned())?;
            within(field, number as f64, "")?;
            json!(number)
        }
        Kind::Boolean => match value {
            "true" => json!(true),
            "false" => json!(false),
            _ => return Err("must be true or false".to_owned()),
        },
        Kind::Choice => {
            chosen(field, value)?;
            json!(value)
        }
        _ => {
            let characters = u32::try_from(value.chars().count()).unwrap_or(u32::MAX);
            within(field, f64::from(characters), " characters")?;
            json!(value)
        }
    };
    Ok(Some(value))
}

fn several(field: &ElicitationField, filled: &[String]) -> Result<Option<Value>, String> {
    if filled.is_empty() && !field.required {
        return Ok(None);
    }
    for value in filled {
        chosen(field, value)?;
    }
    let count = u32::try_from(filled.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Err("is required".to_owned());
    }
    within(field, f64::from(count), " choices")?;
    Ok(Some(json!(filled)))
}

fn chosen(field: &ElicitationField, value: &str) -> Result<(), String> {
    match field.choices.iter().any(|c| c.value == value) {
        true => Ok(()),
        false => Err(format!("has no choice {:?}", value.chars().take(100).collect::<String>())),
    }
}

fn within(field: &ElicitationField, number: f64, unit: &str) -> Result<(), String> {
    if let Some(least) = field.minimum.filter(|least| number < *least) {
        return Err(format!("must be at least {least}{unit}"));
    }
    if let Some(most) = field.maximum.filter(|most| number > *most) {
        return Err(format!("must be at most {most}{unit}"));
    }
    Ok(())
}

fn finite(number: f64) -> Option<f64> {
    Some(number).filter(|n| n.is_finite())
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::ElicitationChoice;

    use super::*;

    fn given(name: &str, values: &[&str]) -> ElicitationValue {
        ElicitationValue { name: name.to_owned(), values: values.iter().map(|v| (*v).to_owned()).collect() }
    }

    fn field(
        name: &str,
        kind: Kind,
        bounds: (Option<f64>, Option<f64>),
        choices: &[&str],
    ) -> ElicitationField {
        let one = |c: &&str| ElicitationChoice { value: (*c).to_owned(), name: String::new() };
        ElicitationField {
            name: name.to_owned(),
            kind: kind.into(),
            minimum: bounds.0,
            maximum: bounds.1,
            choices: choices.iter().map(one).collect(),
            required: matches!(name, "name" | "sure"),
            ..ElicitationField::default()
        }
    }

    fn form() -> ElicitationRequest {
        let fields = vec![
            field("name", Kind::Text, (Some(2.0), Some(5.0)), &[]),
            field("colour", Kind::Choice, (None, None), &["red", "blue"]),
            field("share", Kind::Number, (Some(0.0), Some(1.0)), &[]),
            field("count", Kind::Integer, (Some(1.0), None), &[]),
            field("sure", Kind::Boolean, (None, None), &[]),
            field("tags", Kind::Choices, (None, Some(2.0)), &["x", "y", "z"]),
        ];
        ElicitationRequest { fields, ..ElicitationRequest::default() }
    }

    #[test]
    fn names_the_field_that_is_not_filled_in_as_the_form_says() {
        let request = form();
        let good = [given("name", &["Ann"]), given("sure", &["true"])];
        for (wrong, says) in [
            (given("name", &["A"]), "at least 2 characters"),
            (given("name", &["Annika"]), "at most 5 characters"),
            (given("name", &[""]), "is required"),
            (given("colour", &["green"]), "no choice"),
            (given("colour", &["red", "blue"]), "one value"),
            (given("share", &["1.5"]), "at most 1"),
            (given("share", &["NaN"]), "not a number"),
            (given("count", &["1.5"]), "whole number"),
            (given("sure", &["yes"]), "true or false"),
            (given("tags", &["x", "y", "z"]), "at most 2 choices"),
            (given("other", &["1"]), "not a field"),
            (given("name", &["x".repeat(MAX_ANSWER).as_str()]), "bytes"),
        ] {
            let mut values: Vec<_> = good.iter().filter(|v| v.name != wrong.name).cloned().collect();
            values.push(wrong);
            let refused = answer(&request, ElicitationAction::Accept, &values).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(says), "{says}: {text}");
        }
        let twice = [good.as_slice(), &[given("name", &["Bob"])]].concat();
        assert!(answer(&request, ElicitationAction::Accept, &twice).is_err());
        assert_eq!(answer(&request, ElicitationAction::Decline, &[]).unwrap(), declined());
    }
}
