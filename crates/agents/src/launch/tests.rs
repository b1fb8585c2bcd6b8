use serde_json::{Value, json};

use super::*;
use crate::{Catalogue, ModelKind, Places};

const URL: &str = "${FOUNDRY_MODEL_URL}/p1";

fn catalogue() -> Catalogue {
    Catalogue::new(BTreeMap::new()).unwrap()
}

fn access(kind: ModelKind) -> ModelAccess {
    ModelAccess::new(kind, URL, "the-token").with_model("a-model")
}

fn start(agent: &str, kind: ModelKind) -> Launch {
    launch(catalogue().get(agent).unwrap(), Some(&access(kind)), &Profile::default()).unwrap()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn gives_claude_its_model_by_environment() {
    let launch = start("claude", ModelKind::Anthropic);
    let env = |name: &str| launch.env.get(name).map(String::as_str);
    assert_eq!(env("ANTHROPIC_BASE_URL"), Some(URL));
    assert_eq!(env("ANTHROPIC_AUTH_TOKEN"), Some("the-token"));
    assert_eq!(env("ANTHROPIC_MODEL"), Some("a-model"));
    assert_eq!(env("ANTHROPIC_CUSTOM_HEADERS"), None);
    assert_eq!(env("ANTHROPIC_DEFAULT_HAIKU_MODEL"), None);
    assert_eq!((env("DISABLE_AUTOUPDATER"), env("NODE_USE_ENV_PROXY")), (Some("1"), Some("1")));
    assert_eq!((launch.args.len(), launch.files.len(), launch.authenticate.is_none()), (0, 1, true));
    assert!(!launch.key_in_environment);
}

#[test]
fn gives_codex_a_model_provider_of_its_own_and_the_effort_at_its_start() {
    let profile = Profile { effort: Some("high".to_owned()), ..Profile::default() };
    let launch =
        launch(catalogue().get("codex").unwrap(), Some(&access(ModelKind::Openai)), &profile).unwrap();
    let config = json_of(&launch.env["CODEX_CONFIG"]);
    let provider = json!({ "name": "Foundry", "base_url": format!("{URL}/v1"), "wire_api": "responses",
        "env_key": "FOUNDRY_MODEL_TOKEN" });
    assert_eq!(config["model_providers"]["foundry"], provider);
    assert_eq!((&config["model"], &config["model_reasoning_effort"]), (&json!("a-model"), &json!("high")));
    assert_eq!(launch.env["INITIAL_AGENT_MODE"], "workspace-write");
    assert_eq!(launch.env["FOUNDRY_MODEL_TOKEN"], "the-token");
    assert!(launch.settings.iter().all(|s| s.setting == Setting::Mode));
}

#[test]
fn gives_opencode_only_our_provider_whatever_its_kind() {
    for (kind, npm, url) in [
        (ModelKind::Anthropic, "@ai-sdk/anthropic", "v1"),
        (ModelKind::Openai, "@ai-sdk/openai", "v1"),
        (ModelKind::OpenaiCompatible, "@ai-sdk/openai-compatible", "v1"),
        (ModelKind::Gemini, "@ai-sdk/google", "v1beta"),
    ] {
        let launch = start("opencode", kind);
        assert_eq!(launch.args, ["acp"]);
        let config = json_of(&launch.env["OPENCODE_CONFIG_CONTENT"]);
        assert_eq!(config["enabled_providers"], json!(["foundry"]));
        assert_eq!(config["model"], "foundry/a-model");
        assert_eq!(config["small_model"], Value::Null);
        // Otherwise our own permissions would also hold in the plan mode, which must not edit.
        assert_eq!(config["agent"]["plan"]["permission"]["edit"], "deny");
        let provider = &config["provider"]["foundry"];
        assert_eq!(provider["npm"], npm);
        let options = json!({ "baseURL": format!("{URL}/{url}"), "apiKey": "the-token" });
        assert_eq!(provider["options"], options);
        // opencode silently drops pictures for a model that is not declared to read them.
        let reads =
            json!({ "attachment": true, "modalities": { "input": ["text", "image"], "output": ["text"] } });
        assert_eq!(provider["models"], json!({ "a-model": reads }));
        let files: Vec<&str> = launch.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(files, [".config/opencode/node_modules/.keep", ".config/opencode/package-lock.json"]);
    }
}

#[test]
fn offers_all_models_that_the_provider_lists_where_the_list_is_ours() {
    let mut access = access(ModelKind::Anthropic);
    access.models = ["small", "a-model"].map(str::to_owned).into();
    let start =
        |agent: &str| launch(catalogue().get(agent).unwrap(), Some(&access), &Profile::default()).unwrap();
    let file = |launch: &Launch, path: &str| {
        let file = launch.files.iter().find(|f| f.path == path).unwrap();
        json_of(std::str::from_utf8(&file.bytes).unwrap())
    };
    let opencode = json_of(&start("opencode").env["OPENCODE_CONFIG_CONTENT"]);
    let models = opencode["provider"]["foundry"]["models"].as_object().unwrap();
    assert_eq!(models.keys().collect::<Vec<_>>(), ["a-model", "small"]);
    assert!(models.values().all(|m| m["attachment"] == true), "{models:?}");
    let claude = file(&start("claude"), ".claude/settings.json");
    assert_eq!(claude["availableModels"], json!(["small", "a-model"]));
    let qwen = file(&start("qwen"), ".qwen/settings.json");
    let model = |id: &str| {
        json!({ "id": id, "name": id, "envKey": "ANTHROPIC_API_KEY", "baseUrl": "$ANTHROPIC_BASE_URL",
            "generationConfig": { "modalities": { "image": true } } })
    };
    assert_eq!(qwen["modelProviders"], json!({ "anthropic": [model("a-model"), model("small")] }));
    assert_eq!(qwen["telemetry"]["enabled"], false, "the entry's own settings stay");
}

#[test]
fn a_file_of_which_nothing_is_left_takes_the_place_of_what_an_earlier_start_wrote() {
    let launch = start("claude", ModelKind::Anthropic);
    let settings = launch.files.iter().find(|f| f.path == ".claude/settings.json").unwrap();
    assert_eq!(settings.bytes, b"{}\n", "the provider lists no models");
}

#[test]
fn gives_gemini_and_qwen_their_model_by_environment_and_settings_by_file() {
    let gemini = start("gemini", ModelKind::Gemini);
    assert_eq!(gemini.env["GOOGLE_GEMINI_BASE_URL"], URL);
    assert_eq!(
        (gemini.args.as_slice(), gemini.env["GEMINI_MODEL"].as_str()),
        (&["--acp".to_owned()][..], "a-model")
    );
    assert_eq!(gemini.files[0].path, ".gemini/settings.json");
    let settings = json_of(std::str::from_utf8(&gemini.files[0].bytes).unwrap());
    assert_eq!(settings["privacy"]["usageStatisticsEnabled"], false);
    assert_eq!(settings["security"]["folderTrust"]["enabled"], false);

    for (kind, auth, variable, url) in [
        (ModelKind::Openai, "openai", "OPENAI_BASE_URL", format!("{URL}/v1")),
        (ModelKind::OpenaiCompatible, "openai", "OPENAI_BASE_URL", format!("{URL}/v1")),
        (ModelKind::Anthropic, "anthropic", "ANTHROPIC_BASE_URL", URL.to_owned()),
        (ModelKind::Gemini, "gemini", "GOOGLE_GEMINI_BASE_URL", URL.to_owned()),
    ] {
        let qwen = start("qwen", kind);
        assert_eq!(qwen.args, ["--acp".to_owned(), format!("--auth-type={auth}")]);
        assert_eq!(qwen.env[variable], url);
    }
}

#[test]
fn starts_the_real_agents_in_a_mode_that_asks_unless_the_profile_names_another() {
    for (agent, mode) in
        [("claude", "default"), ("codex", "workspace-write"), ("gemini", "default"), ("qwen", "default")]
    {
        let catalogue = catalogue();
        let entry = catalogue.get(agent).unwrap();
        let access = access(entry.model_kinds().next().unwrap());
        let settings = |profile: &Profile| -> Vec<SessionSetting> {
            let launch = launch(entry, Some(&access), profile).unwrap();
            launch.settings.into_iter().filter(|s| s.setting != Setting::Model).collect()
        };
        let usual = settings(&Profile::default());
        let expected =
            SessionSetting { setting: Setting::Mode, option: None, value: mode.to_owned(), chosen: false };
        assert_eq!(usual, std::slice::from_ref(&expected), "{agent}");
        let profile = Profile { mode: Some("plan".to_owned()), ..Profile::default() };
        let chosen = settings(&profile);
        assert_eq!(chosen, [SessionSetting { value: "plan".to_owned(), chosen: true, ..expected }]);
    }
}

#[test]
fn says_the_model_again_to_agents_whose_sessions_keep_theirs() {
    let model = |agent: &str, kind: ModelKind| {
        let settings = start(agent, kind).settings.into_iter();
        settings.filter(|s| s.setting == Setting::Model).map(|s| s.value).collect::<Vec<_>>()
    };
    assert_eq!(model("opencode", ModelKind::OpenaiCompatible), ["foundry/a-model"]);
    assert_eq!(model("qwen", ModelKind::OpenaiCompatible), ["a-model(openai)"]);
    assert_eq!(model("qwen", ModelKind::Anthropic), ["a-model(anthropic)"]);
    assert!(model("claude", ModelKind::Anthropic).is_empty());
}

#[test]
fn says_what_to_do_without_a_model_provider_and_with_one_that_does_not_fit() {
    let catalogue = catalogue();
    let claude = catalogue.get("claude").unwrap();
    let e = launch(claude, None, &Profile::default()).unwrap_err();
    assert_eq!(e.reason, "AGENT_MODEL_MISSING");
    assert!(e.message.contains("foundry model add") && e.message.contains("anthropic"), "{e}");
    let e = launch(claude, Some(&access(ModelKind::Gemini)), &Profile::default()).unwrap_err();
    assert_eq!(e.reason, "AGENT_MODEL_UNSUITABLE");
    assert!(e.message.contains("it supports anthropic"), "{e}");
    let unnamed = ModelAccess::new(ModelKind::Openai, URL, "t");
    let e = launch(catalogue.get("opencode").unwrap(), Some(&unnamed), &Profile::default()).unwrap_err();
    assert_eq!(e.reason, "AGENT_MODEL_MISSING");
    let demo = catalogue.get("demo").unwrap();
    assert!(launch(demo, None, &Profile::default()).is_ok());
    let e = launch(demo, Some(&access(ModelKind::Openai)), &Profile::default()).unwrap_err();
    assert_eq!(e.reason, "AGENT_MODEL_UNSUITABLE");
}

#[test]
fn lets_a_profile_set_variables_but_not_lead_the_agent_to_another_model() {
    let variables =
        [("DISABLE_TELEMETRY", "0"), ("MINE", "1"), ("ANTHROPIC_BASE_URL", "https://else.example")];
    let env = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let profile = Profile { env, ..Profile::default() };
    let catalogue = catalogue();
    let launch =
        launch(catalogue.get("claude").unwrap(), Some(&access(ModelKind::Anthropic)), &profile).unwrap();
    assert_eq!((launch.env["DISABLE_TELEMETRY"].as_str(), launch.env["MINE"].as_str()), ("0", "1"));
    assert_eq!(launch.env["ANTHROPIC_BASE_URL"], URL);
}

#[test]
fn signs_in_and_shows_a_key_in_the_environment_where_the_entry_says_so() {
    let own = toml::from_str(
        r#"
        [mine]
        command = ["mine"]
        key = "environment"
        [mine.model.anthropic]
        env = { KEY = "{{token}}", HEADERS = { all = "{{headers}}" } }
        authenticate = { method = "gateway", meta = { gateway = { baseUrl = "{{base_url}}", headers = "{{headers}}" } } }
        "#,
    );
    let catalogue = Catalogue::new(own.unwrap()).unwrap();
    let mut access = access(ModelKind::Anthropic);
    access.headers.push(("X-Team".to_owned(), "blue".to_owned()));
    let launch = launch(catalogue.get("mine").unwrap(), Some(&access), &Profile::default()).unwrap();
    assert!(launch.key_in_environment);
    assert_eq!(launch.env["HEADERS"], r#"{"all":{"X-Team":"blue"}}"#);
    let sign_in = launch.authenticate.unwrap();
    assert_eq!(sign_in.method_id, "gateway");
    assert_eq!(sign_in.meta, json!({ "gateway": { "baseUrl": URL, "headers": { "X-Team": "blue" } } }));
}

#[test]
fn shows_no_secret_when_printed() {
    let mut access = access(ModelKind::Anthropic);
    access.headers.push(("X-Secret".to_owned(), "blue".to_owned()));
    let shown = format!("{access:?} {:?}", start("claude", ModelKind::Anthropic));
    assert!(!shown.contains("the-token") && !shown.contains("blue"), "{shown}");
}

#[test]
fn runs_a_script_on_our_node_and_a_binary_by_itself() {
    let catalogue = catalogue();
    let places = Places { foundry: "/f".into(), installed: "/t/x".into(), node: "/n/node".into() };
    assert_eq!(catalogue.get("demo").unwrap().command(&places), ["/f", "internal", "demo-agent"]);
    let gemini = catalogue.get("gemini").unwrap().command(&places);
    assert_eq!(gemini, ["/n/node", "/t/x/node_modules/@google/gemini-cli/bundle/gemini.js"]);
    let opencode = catalogue.get("opencode").unwrap().command(&places);
    assert!(opencode.len() == 1 && opencode[0].ends_with("/bin/opencode") && !opencode[0].contains("{{"));
}
