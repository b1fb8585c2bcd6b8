//! The smallest value that conforms to a JSON schema, for answers that must have one.

use serde_json::{Map, Value, json};

/// A value of this schema. `user` is preferred among enum values: agents ask who speaks next, and `model` would
/// continue for ever.
pub(crate) fn instance(schema: &Value) -> Value {
    if let Some(choice) = schema["enum"].as_array() {
        let user = choice.iter().find(|word| *word == "user");
        return user.or(choice.first()).cloned().unwrap_or_default();
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(first) = schema["anyOf"].get(0).or(schema["oneOf"].get(0)) {
        return instance(first);
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or("string");
    match kind.to_ascii_lowercase().as_str() {
        "object" => object(schema),
        "array" => json!([]),
        "boolean" => json!(false),
        "integer" | "number" => schema["minimum"].as_i64().map_or(json!(1), |least| json!(least)),
        "null" => Value::Null,
        _ => json!("scripted"),
    }
}

fn object(schema: &Value) -> Value {
    let properties = &schema["properties"];
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let members: Map<String, Value> =
        required.map(|name| (name.to_owned(), instance(&properties[name]))).collect();
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_up_what_is_demanded() {
        let schema = json!({"type": "OBJECT", "required": ["title", "next", "score", "tags", "sure"], "properties": {
            "title": {"type": "STRING"}, "next": {"enum": ["model", "user"]}, "score": {"type": "INTEGER", "minimum": 3},
            "tags": {"type": "array"}, "sure": {"type": ["boolean", "null"]}, "more": {"type": "string"},
        }});
        let expected = json!({"title": "scripted", "next": "user", "score": 3, "tags": [], "sure": false});
        assert_eq!(instance(&schema), expected);
    }
}
