//! Every setting of the mesh is loaded from a file, from the environment and from a flag. The settings are found in
//! the defaults, so that a new one is covered when it is added.

use serde_json::{Value, json};

use super::*;

/// Values to try for a setting whose default is text, in order: the first one that its type accepts is used.
const TEXTS: &[&str] = &[
    "7s",
    "127.0.0.1:4711",
    "json",
    "off",
    "measure",
    "x",
    "http://127.0.0.1:4711",
    "env:X",
    "/x",
    "{ command = [\"x\"] }",
    "{ client_id = \"x\" }",
];

fn leaves(prefix: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(section) if !section.is_empty() => {
            for (key, inner) in section {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                leaves(&path, inner, found);
            }
        }
        other => found.push((prefix.to_owned(), other.clone())),
    }
}

/// Candidates for a setting with this default: a sub-path to append, and the value to set there.
fn candidates(default: &Value) -> Vec<(&'static str, Value)> {
    let texts = || TEXTS.iter().map(|text| json!(text));
    match default {
        Value::Bool(b) => vec![("", json!(!b))],
        // Close to the default, so that it is within the bounds of its type.
        Value::Number(n) => {
            let next = n.as_u64().map_or_else(|| json!(n.as_f64().unwrap() + 0.5), |n| json!(n + 1));
            vec![("", next)]
        }
        Value::Object(_) => texts().map(|text| (".Some_NAME", text)).collect(),
        Value::Array(_) => texts().map(|text| ("", json!([text]))).collect(),
        _ => texts().chain([json!(7), json!(true)]).map(|value| ("", value)).collect(),
    }
}

/// The value in the form for a TOML file or flag: text that is an inline table stays a table.
fn as_toml(value: &Value) -> String {
    match value {
        Value::String(text) if text.starts_with('{') => text.clone(),
        other => other.to_string(),
    }
}

/// The value in the form for a variable or flag.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn loaded(layers: Layers) -> Result<(Value, Loaded<MeshConfig>), String> {
    let loaded: Loaded<MeshConfig> = layers.load(&MeshConfig::default()).map_err(|e| e.to_string())?;
    Ok((serde_json::to_value(&loaded.value).unwrap(), loaded))
}

fn from_file(key: &str, value: &Value) -> Result<(Value, Loaded<MeshConfig>), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{key} = {}\n", as_toml(value))).unwrap();
    loaded(Layers::new().file(file.path()))
}

#[test]
fn a_service_that_does_not_exist_has_no_settings() {
    for key in ["servers.rpo.listen", "upstreams.rpo", "upstreams.gateway"] {
        let error = loaded(Layers::new().flag(key, "127.0.0.1:1")).unwrap_err();
        assert!(error.contains("unknown key"), "{key}: {error}");
    }
}

#[test]
fn loads_from_file_environment_and_flag_alike() {
    let defaults = serde_json::to_value(MeshConfig::default()).unwrap();
    let mut settings = Vec::new();
    leaves("", &defaults, &mut settings);
    assert!(settings.iter().any(|(key, _)| key == "provisioner.agents"), "maps are settings");
    for (setting, default) in &settings {
        let mut refusals = Vec::new();
        let taken = candidates(default).into_iter().find_map(|(rest, value)| {
            let key = format!("{setting}{rest}");
            match from_file(&key, &value) {
                Ok((config, _)) if config != defaults => Some((key, value, config)),
                Ok(_) => None,
                Err(refusal) => {
                    refusals.push(refusal);
                    None
                }
            }
        });
        let (key, value, expected) =
            taken.unwrap_or_else(|| panic!("no value tried for {setting} is another one: {refusals:#?}"));

        // In a map, the key keeps its case; all other parts of a variable's name are upper case.
        let name = match key.strip_prefix(&format!("{setting}.")) {
            Some(name) => format!("{}.{name}", setting.to_uppercase()),
            None => setting.to_uppercase(),
        };
        let variable = (format!("FOUNDRY_{}", name.replace('.', "__")), as_text(&value));
        for (way, layers) in [
            ("the environment", Layers::new().environment([variable.clone()], OPTIONS)),
            ("a flag", Layers::new().flag(&key, as_text(&value))),
        ] {
            let (config, loaded) =
                loaded(layers).unwrap_or_else(|e| panic!("{key} = {value} from {way} is refused: {e}"));
            assert_eq!(config, expected, "{key} = {value} from {way} is another value than from a file");
            let noted = loaded.origins.iter().any(|(k, from)| k.starts_with(&key) && from == way);
            assert!(noted, "{key} is not noted as from {way}: {:?}", loaded.origins);
        }
    }
}

#[test]
fn a_name_in_a_map_keeps_its_case() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[provisioner.agents.mine]\ncommand = [\"x\"]\nenv = { MINE_URL = \"y\" }\n")
        .unwrap();
    let name = "FOUNDRY_PROVISIONER__AGENTS__mine__env__MINE_URL".to_owned();
    for layers in [
        Layers::new().file(file.path()),
        Layers::new().environment([(name, "y".to_owned())], OPTIONS),
        Layers::new().flag("provisioner.agents.mine.env.MINE_URL", "y"),
        Layers::new().flag("provisioner.agents", "{ mine = { env = { MINE_URL = \"y\" } } }"),
    ] {
        let (_, loaded) = loaded(layers).unwrap();
        let env = &loaded.value.provisioner.agents["mine"].env;
        assert_eq!(env.keys().collect::<Vec<_>>(), ["MINE_URL"]);
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_known_ones() {
    let error = loaded(Layers::new().flag("provisioner.agent.X", "x")).unwrap_err();
    assert!(error.contains("`provisioner.agent`") && error.contains("agents, "), "{error}");
}
