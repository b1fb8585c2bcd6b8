use std::collections::BTreeMap;
use std::io::Write as _;

use super::{ConfigError, Layers, Secret, ServerConfig, TelemetryConfig, effective};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    token: Secret<String>,
    optional: Option<String>,
    server: ServerConfig,
    telemetry: TelemetryConfig,
    paths: Vec<String>,
    keys: BTreeMap<String, Secret<String>>,
    agents: BTreeMap<String, Agent>,
}

/// A table as the value of a map.
#[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Agent {
    command: String,
    args: Vec<String>,
    env: BTreeMap<String, Secret<String>>,
}

fn defaults() -> Sample {
    Sample {
        name: "mesh".into(),
        token: Secret::default(),
        optional: None,
        server: ServerConfig::on_loopback(7100),
        telemetry: TelemetryConfig::default(),
        paths: Vec::new(),
        keys: BTreeMap::new(),
        agents: BTreeMap::new(),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn each_layer_wins_over_the_one_below_and_leaves_the_rest_alone() {
    let toml = file(
        "name = \"file\"\n[server.limits]\nunary_timeout = \"2s\"\nstreams = 7\n[telemetry]\nlog_filter = \"warn\"",
    );
    let loaded = Layers::new()
        .file(toml.path())
        .environment(
            [
                variable("FOUNDRY_SERVER__LIMITS__STREAMS", "8"),
                variable("FOUNDRY_NAME", "env"),
                variable("PATH", "/bin"),
            ],
            &[],
        )
        .flag("name", "flag")
        .load(&defaults())
        .unwrap();
    let sample = loaded.value;
    assert_eq!(sample.name, "flag");
    assert_eq!(sample.server.limits.streams, 8);
    assert_eq!(sample.server.limits.unary_timeout, std::time::Duration::from_secs(2));
    assert_eq!(sample.server.listen.port(), 7100, "a section's other defaults stay the service's own");
    assert_eq!(sample.telemetry.log_filter, "warn");
    assert_eq!(loaded.origins["name"], "a flag");
    assert_eq!(loaded.origins["server.limits.streams"], "the environment");
}

#[test]
fn a_flag_may_be_a_quoted_toml_string_and_a_variable_keeps_its_quotes() {
    let named = |text: &str| Layers::new().flag("name", text).load(&defaults()).unwrap().value.name;
    assert_eq!(named("\"a b\""), "a b");
    assert_eq!(named("'a \\b'"), "a \\b");
    assert_eq!(named("\"a\\tb\""), "a\tb");
    for plain in ["a b", "\"", "\"a\" b", "\"a\"\nx = \"b\"", "{ a = 1 }", ""] {
        assert_eq!(named(plain), plain);
    }
    let variables = [variable("FOUNDRY_NAME", "\"a\"")];
    assert_eq!(Layers::new().environment(variables, &[]).load(&defaults()).unwrap().value.name, "\"a\"");
    let loaded = Layers::new().flag("server.limits.streams", "\"9\"").load(&defaults()).unwrap();
    assert_eq!(loaded.value.server.limits.streams, 9);
}

#[test]
fn an_unknown_key_is_named_with_its_origin_and_neighbours() {
    let toml = file("[server]\nlsten = \"127.0.0.1:1\"");
    let error = Layers::new().file(toml.path()).load(&defaults()).unwrap_err().to_string();
    assert!(error.contains("`server.lsten`") && error.contains("limits, listen"), "{error}");

    let error = Layers::new()
        .environment([variable("FOUNDRY_SERVER__LIMIT__STREAMS", "8")], &[])
        .load(&defaults())
        .unwrap_err();
    assert!(matches!(error, ConfigError::UnknownKey { ref key, .. } if key == "server.limit"), "{error}");
}

#[test]
fn a_wrong_value_is_named_with_its_key() {
    let error =
        Layers::new().flag("server.limits.unary_timeout", "soon").load(&defaults()).unwrap_err().to_string();
    assert!(error.contains("unary_timeout") && error.contains("soon"), "{error}");
}

#[test]
fn variables_of_others_are_left_alone() {
    let loaded = Layers::new()
        .environment([variable("FOUNDRY_TOKEN", "x"), variable("FOUNDRY_NAME", "123")], &["FOUNDRY_TOKEN"])
        .load(&defaults())
        .unwrap();
    assert_eq!(loaded.value.token, Secret::default());
    assert_eq!(loaded.value.name, "123");
}

#[test]
fn the_effective_configuration_masks_secrets_and_reads_back() {
    let loaded = Layers::new().flag("token", "hunter2").flag("optional", "o").load(&defaults()).unwrap();
    let text = effective(&loaded).unwrap();
    assert!(text.contains("token = \"***\"  # from a flag"), "{text}");
    assert!(!text.contains("hunter2"));
    let again = Layers::new().file(file(&text).path()).load(&defaults()).unwrap();
    assert_eq!(again.value.server, loaded.value.server);
}

fn keys(sample: &Sample) -> BTreeMap<&str, &str> {
    sample.keys.iter().map(|(name, secret)| (name.as_str(), secret.expose().as_str())).collect()
}

#[test]
fn the_keys_of_a_map_are_the_users_own_in_every_layer_and_add_up() {
    let toml = file("[keys]\nFROM_FILE = \"1\"\nBOTH = \"file\"");
    let loaded = Layers::new()
        .file(toml.path())
        .environment(
            [variable("FOUNDRY_KEYS__From_Environment", "2"), variable("FOUNDRY_KEYS__BOTH", "variable")],
            &[],
        )
        .flag("keys.FROM-flag", "3")
        .flag("keys.\"from.quoted\"", "4")
        .flag("paths", "/a, /b")
        .load(&defaults())
        .unwrap();
    let expected = [
        ("FROM_FILE", "1"),
        ("BOTH", "variable"),
        ("From_Environment", "2"),
        ("FROM-flag", "3"),
        ("from.quoted", "4"),
    ];
    assert_eq!(keys(&loaded.value), BTreeMap::from(expected));
    assert_eq!(loaded.value.paths, ["/a", "/b"]);
    assert_eq!(loaded.origins["keys.BOTH"], "the environment");

    let text = effective(&loaded).unwrap();
    assert!(text.contains("\"from.quoted\" = \"***\"  # from a flag"), "{text}");
    let again = Layers::new().file(file(&text).path()).load(&defaults()).unwrap();
    assert_eq!(again.value.keys.len(), 5, "{text}");
}

#[test]
fn a_map_may_be_written_as_one_table_and_hold_tables() {
    let table = "{ command = \"x\", args = [\"--acp\"], env = { TOKEN = \"{t}\" } }";
    let agent = Agent {
        command: "x".into(),
        args: vec!["--acp".into()],
        env: BTreeMap::from([("TOKEN".into(), Secret::new("{t}".into()))]),
    };
    let sections = file("[agents.My]\ncommand = \"x\"\nargs = [\"--acp\"]\n[agents.My.env]\nTOKEN = \"{t}\"");
    let in_one = format!("{{ My = {table} }}");
    let parts =
        [("agents.My.command", "x"), ("agents.My.args", "[\"--acp\"]"), ("agents.My.env.TOKEN", "{t}")];
    let variables = parts.map(|(key, v)| variable(&format!("FOUNDRY_{}", key.replace('.', "__")), v));
    let ways = [
        Layers::new().file(sections.path()),
        Layers::new().environment([variable("FOUNDRY_AGENTS__My", table)], &[]),
        Layers::new().environment([variable("FOUNDRY_AGENTS", &in_one)], &[]),
        Layers::new().environment(variables, &[]),
        Layers::new().flag("agents.My", table),
        Layers::new().flag("agents", &in_one),
        parts.into_iter().fold(Layers::new(), |layers, (key, value)| layers.flag(key, value)),
    ];
    for (i, way) in ways.into_iter().enumerate() {
        let loaded = way.load(&defaults()).unwrap();
        assert_eq!(loaded.value.agents["My"], agent, "way {i}");
        assert!(!effective(&loaded).unwrap().contains("{t}"));
    }
}

#[test]
fn a_wrong_entry_of_a_map_is_refused_without_its_text() {
    let refused = |key: &str, value: &str| {
        Layers::new().flag(key, value).load(&defaults()).map(|l| l.value).unwrap_err().to_string()
    };
    for (key, value) in [
        ("keys", "hunter2"),
        ("keys", "{ A = hunter2 }"),
        ("keys.A", "{ B = \"hunter2\" }"),
        ("agents.My", "{ command = hunter2"),
        ("agents.My.env", "hunter2"),
    ] {
        let error = refused(key, value);
        let name = key.split('.').next().unwrap();
        assert!(error.contains(name) && !error.contains("hunter2"), "{key}={value}: {error}");
    }
    let error = refused("agents.My.comand", "x");
    assert!(error.contains("comand") && error.contains("`command`, `args`, `env`"), "{error}");
    assert!(refused("a b", "x").contains("dotted key"));
    assert!(refused("keys.A = 1\nname", "x").contains("dotted key"));
}

#[test]
fn the_password_of_a_url_is_not_printed() {
    let url = "postgres://me:hunter2?/@db:5432/x?sslmode=require&password=hunter2";
    let loaded =
        Layers::new().flag("name", url).flag("paths", "https://a:hunter2@b").load(&defaults()).unwrap();
    let text = effective(&loaded).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("\"postgres://me:***@db:5432/x?sslmode=require&password=***\""), "{text}");
    let plain = Layers::new().flag("name", "http://127.0.0.1:4317/a?b=c").load(&defaults()).unwrap();
    assert!(effective(&plain).unwrap().contains("\"http://127.0.0.1:4317/a?b=c\""));
}
