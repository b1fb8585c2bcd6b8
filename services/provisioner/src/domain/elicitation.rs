//! Forms that an agent asks a person to fill in, as they are shown. A form that cannot be shown in full is declined:
//! half a form would be answered wrongly. Answers are checked and written by `foundry-forms`.

use std::collections::BTreeMap;

use agent_client_protocol::v1::schema::{
    CreateElicitationRequest, ElicitationMode, ElicitationPropertySchema as Property, ElicitationScope,
    EnumOption, MultiSelectItems, StringPropertySchema,
};
use foundry_proto::common::v1::{
    ElicitationChoice, ElicitationField, ElicitationFieldKind as Kind, ElicitationRequest,
};
use prost::Message as _;
use serde_json::Value;

use super::{MAX_PART, head};

/// Most fields of a form, and most choices of a field.
const MAX_FIELDS: usize = 20;
const MAX_CHOICES: usize = 50;
/// Longest name of a field and longest value of a choice, in bytes.
const MAX_NAME: usize = 100;

/// Reads an agent's request as a form with this id.
///
/// # Errors
/// Why it cannot be shown, for people.
pub fn read(params: &Value, elicitation_id: &str) -> Result<ElicitationRequest, String> {
    let unreadable = |e| format!("it does not follow the protocol ({})", head(&format!("{e}"), 200).0);
    let request: CreateElicitationRequest = serde_json::from_value(params.clone()).map_err(unreadable)?;
    let form = match request.mode {
        ElicitationMode::Form(form) => form,
        ElicitationMode::Url(_) => {
            return Err("it asks to open a web page, which is not supported".to_owned());
        }
        _ => return Err("its kind is not supported".to_owned()),
    };
    let tool_call_id = match &form.scope {
        ElicitationScope::Session(scope) => {
            scope.tool_call_id.as_ref().map(|id| head(&id.0, 200).0.to_owned())
        }
        _ => None,
    };
    let schema = form.requested_schema;
    if schema.properties.len() > MAX_FIELDS {
        return Err(format!("it has {} fields; the limit is {MAX_FIELDS}", schema.properties.len()));
    }
    let required = schema.required.unwrap_or_default();
    if let Some(missing) = required.iter().find(|name| !schema.properties.contains_key(*name)) {
        return Err(format!("it requires the field {:?}, which is not defined", head(missing, MAX_NAME).0));
    }
    let mut fields = Vec::new();
    for name in in_order(params, &schema.properties) {
        let Some(property) = schema.properties.get(&name) else { continue };
        fields.push(field(&name, property, required.contains(&name))?);
    }
    let request = ElicitationRequest {
        elicitation_id: elicitation_id.to_owned(),
        message: head(&request.message, 1_000).0.to_owned(),
        tool_call_id: tool_call_id.unwrap_or_default(),
        fields,
    };
    if request.encoded_len() > MAX_PART - 128 {
        return Err(format!("it is larger than {MAX_PART} bytes"));
    }
    Ok(request)
}

/// The names of the fields in the agent's order.
fn in_order(params: &Value, properties: &BTreeMap<String, Property>) -> Vec<String> {
    match params.pointer("/requestedSchema/properties").and_then(Value::as_object) {
        Some(object) => object.keys().cloned().collect(),
        None => properties.keys().cloned().collect(),
    }
}

fn field(name: &str, property: &Property, required: bool) -> Result<ElicitationField, String> {
    let shown = head(name, MAX_NAME).0;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("the name of its field {shown:?} is empty or too long"));
    }
    let mut field = ElicitationField { name: name.to_owned(), required, ..ElicitationField::default() };
    let (title, description) = match property {
        Property::String(text) => {
            of_text(&mut field, text)?;
            (&text.title, &text.description)
        }
        Property::Number(number) => {
            field.set_kind(Kind::Number);
            (field.minimum, field.maximum) = (finite(number.minimum), finite(number.maximum));
            field.default_values = finite(number.default).map(|n| n.to_string()).into_iter().collect();
            (&number.title, &number.description)
        }
        Property::Integer(number) => {
            field.set_kind(Kind::Integer);
            let bound = |n: Option<i64>| n.map(|n| n as f64);
            (field.minimum, field.maximum) = (bound(number.minimum), bound(number.maximum));
            field.default_values = number.default.map(|n| n.to_string()).into_iter().collect();
            (&number.title, &number.description)
        }
        Property::Boolean(switch) => {
            field.set_kind(Kind::Boolean);
            field.default_values = switch.default.map(|on| on.to_string()).into_iter().collect();
            (&switch.title, &switch.description)
        }
        Property::Array(several) => {
            field.set_kind(Kind::Choices);
            field.choices = match &several.items {
                MultiSelectItems::String(items) => plain(&items.values),
                MultiSelectItems::Titled(items) => titled(&items.options),
                _ => return Err(format!("its field {shown:?} is a list of something other than choices")),
            };
            let bound = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).map(f64::from);
            (field.minimum, field.maximum) = (bound(several.min_items), bound(several.max_items));
            let offered = |v: &&String| field.choices.iter().any(|c| c.value == **v);
            field.default_values = several.default.iter().flatten().filter(offered).cloned().collect();
            (&several.title, &several.description)
        }
        _ => return Err(format!("the type of its field {shown:?} is not supported")),
    };
    field.title = head(title.as_deref().unwrap_or_default(), 120).0.to_owned();
    field.description = head(description.as_deref().unwrap_or_default(), 300).0.to_owned();
    checked_choices(&field)?;
    Ok(field)
}

fn finite(number: Option<f64>) -> Option<f64> {
    number.filter(|n| n.is_finite())
}

fn of_text(field: &mut ElicitationField, text: &StringPropertySchema) -> Result<(), String> {
    let choices = match (&text.one_of, &text.enum_values) {
        (Some(options), _) => Some(titled(options)),
        (None, Some(values)) => Some(plain(values)),
        (None, None) => None,
    };
    let default = text.default.clone();
    match choices {
        Some(choices) => {
            field.set_kind(Kind::Choice);
            field.default_values =
                default.filter(|d| choices.iter().any(|c| c.value == *d)).into_iter().collect();
            field.choices = choices;
        }
        None => {
            field.set_kind(Kind::Text);
            let bound = |n: Option<u32>| n.map(f64::from);
            (field.minimum, field.maximum) = (bound(text.min_length), bound(text.max_length));
            field.default_values = default.filter(|d| d.len() <= 1_000).into_iter().collect();
            let format = text.format.as_ref().and_then(|f| serde_json::to_value(f).ok());
            field.format =
                format.as_ref().and_then(Value::as_str).map(|f| head(f, 20).0.to_owned()).unwrap_or_default();
        }
    }
    Ok(())
}

fn plain(values: &[String]) -> Vec<ElicitationChoice> {
    values.iter().map(|v| ElicitationChoice { value: v.clone(), name: String::new() }).collect()
}

fn titled(options: &[EnumOption]) -> Vec<ElicitationChoice> {
    let one =
        |o: &EnumOption| ElicitationChoice { value: o.value.clone(), name: head(&o.title, 120).0.to_owned() };
    options.iter().map(one).collect()
}

/// All choices must fit: the right answer could be the one left out.
fn checked_choices(field: &ElicitationField) -> Result<(), String> {
    let (name, choices) = (&field.name, &field.choices);
    if !matches!(field.kind(), Kind::Choice | Kind::Choices) {
        return Ok(());
    }
    if choices.is_empty() || choices.len() > MAX_CHOICES {
        return Err(format!(
            "its field {name:?} has {} choices; it must have 1 to {MAX_CHOICES}",
            choices.len()
        ));
    }
    match choices.iter().any(|c| c.value.len() > MAX_NAME) {
        true => Err(format!("its field {name:?} has a choice longer than {MAX_NAME} bytes")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use foundry_forms::answer;
    use foundry_proto::common::v1::{ElicitationAction, ElicitationValue};
    use serde_json::{Map, json};

    use super::*;

    fn form(properties: Value, required: Value) -> Value {
        json!({"mode": "form", "sessionId": "s", "message": "Which?",
            "requestedSchema": {"type": "object", "properties": properties, "required": required}})
    }

    fn given(name: &str, values: &[&str]) -> ElicitationValue {
        ElicitationValue { name: name.to_owned(), values: values.iter().map(|v| (*v).to_owned()).collect() }
    }

    fn every_kind() -> Value {
        let properties = json!({
            "name": {"type": "string", "title": "Your name", "minLength": 2, "maxLength": 5},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "blue"},
            "plan": {"type": "string", "oneOf": [{"const": "a", "title": "Plan A"}, {"const": "b", "title": "Plan B"}]},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "count": {"type": "integer", "minimum": 1},
            "sure": {"type": "boolean", "default": false},
            "tags": {"type": "array", "items": {"type": "string", "enum": ["x", "y", "z"]}, "maxItems": 2},
        });
        form(properties, json!(["name", "sure"]))
    }

    #[test]
    fn reads_a_form_in_the_agents_order_and_answers_it_in_the_agents_kinds() {
        let request = read(&every_kind(), "form-1").unwrap();
        let fields: Vec<_> = request.fields.iter().map(|f| (f.name.as_str(), f.kind())).collect();
        let wanted = [
            ("name", Kind::Text),
            ("colour", Kind::Choice),
            ("plan", Kind::Choice),
            ("share", Kind::Number),
            ("count", Kind::Integer),
            ("sure", Kind::Boolean),
            ("tags", Kind::Choices),
        ];
        assert_eq!(fields, wanted);
        assert_eq!((request.fields[1].default_values.as_slice()), ["blue"]);
        assert_eq!(request.fields[2].choices[1].name, "Plan B");
        let values = [
            given("name", &["Ann"]),
            given("plan", &["b"]),
            given("share", &["0.5"]),
            given("count", &["3"]),
            given("sure", &["true"]),
            given("tags", &["x", "z"]),
        ];
        let answer = answer(&request, ElicitationAction::Accept, &values).unwrap();
        let content =
            json!({"name": "Ann", "plan": "b", "share": 0.5, "count": 3, "sure": true, "tags": ["x", "z"]});
        assert_eq!(answer, json!({"action": "accept", "content": content}));
    }

    #[test]
    fn a_form_that_cannot_be_shown_whole_says_why() {
        let url = json!({"mode": "url", "sessionId": "s", "elicitationId": "e", "url": "https://example.com", "message": "m"});
        let many: Map<String, Value> =
            (0..21).map(|n| (format!("f{n}"), json!({"type": "boolean"}))).collect();
        let choices: Vec<String> = (0..51).map(|n| n.to_string()).collect();
        let long = "x".repeat(101);
        let big: Map<String, Value> = (0..20)
            .map(|n| (format!("f{n}"), json!({"type": "string", "description": "x".repeat(300)})))
            .collect();
        for (params, says) in [
            (url, "web page"),
            (json!({"mode": "telepathy", "message": "m"}), "protocol"),
            (json!({"mode": "form"}), "protocol"),
            (form(json!({"o": {"type": "object", "properties": {}}}), json!([])), "not supported"),
            (form(json!({"o": {"type": "array", "items": {"type": "object"}}}), json!([])), "list"),
            (form(json!({"o": {"type": "string", "enum": []}}), json!([])), "choices"),
            (form(json!({"o": {"type": "string", "enum": choices}}), json!([])), "choices"),
            (form(json!({"o": {"type": "string", "enum": [long]}}), json!([])), "longer"),
            (form(json!({"a": {"type": "boolean"}}), json!(["b"])), "not defined"),
            (form(Value::Object(many), json!([])), "21 fields"),
            (form(Value::Object(big), json!([])), "larger"),
            (Value::Null, "protocol"),
        ] {
            let why = read(&params, "form-1").unwrap_err();
            assert!(why.contains(says) && why.len() < 400, "{says}: {why}");
        }
    }
}
