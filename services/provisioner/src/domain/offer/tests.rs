use prost::Message as _;
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_micros(7)
}

fn select(id: &str, category: &str, value: &str, values: &[&str]) -> Value {
    let options: Vec<Value> = values.iter().map(|v| json!({"value": v, "name": v.to_uppercase()})).collect();
    json!({"id": id, "name": id, "category": category, "type": "select", "currentValue": value, "options": options})
}

fn opened(session: Value) -> Offer {
    let mut offer = Offer::default();
    offer.apply(&News::Opened(session), now());
    offer
}

fn config(options: Vec<Value>) -> Value {
    json!({ "configOptions": options })
}

fn update(kind: &str, value: Value) -> News {
    News::Update { kind: kind.to_owned(), value }
}

fn choose(offer: &mut Offer, option: &str, value: &str) {
    let chosen = Chosen {
        value: value.to_owned(),
        state: ChoiceState::Wanted,
        flow_id: "flow_1".into(),
        since: now(),
    };
    offer.chosen.insert(option.to_owned(), chosen);
}

fn set(option: &str, value: &str, result: Result<Value, RpcError>) -> News {
    News::Set { option: option.to_owned(), value: value.to_owned(), result }
}

fn refusal() -> Result<Value, RpcError> {
    Err(RpcError { code: -32602, message: "no such mode".into(), data: Value::Null })
}

#[test]
fn reads_config_options_and_older_modes_and_models_where_none_stands_for_them() {
    let older = json!({
        "sessionId": "s",
        "modes": {"currentModeId": "ask", "availableModes": [{"id": "ask", "name": "Ask"}, {"id": "yolo", "name": "All"}]},
        "models": {"currentModelId": "m1", "availableModels": [{"modelId": "m1", "name": "One"}, {"modelId": "m2"}]},
    });
    let offer = opened(older.clone());
    let ids: Vec<_> = offer.options.iter().map(|o| (o.id.as_str(), o.value.as_str(), o.way)).collect();
    assert_eq!(ids, [("mode", "ask", Way::Mode), ("model", "m1", Way::Model)]);
    let mut both = older;
    both["configOptions"] = json!([
        select("mode", "mode", "ask", &["ask", "yolo"]),
        {"id": "fast", "name": "Fast", "type": "boolean", "currentValue": false},
        {"id": "odd", "name": "Odd", "type": "slider", "currentValue": 3},
    ]);
    let offer = opened(both);
    let ids: Vec<_> = offer.options.iter().map(|o| (o.id.as_str(), o.value.as_str(), o.way)).collect();
    assert_eq!(
        ids,
        [("model", "m1", Way::Model), ("mode", "ask", Way::Config), ("fast", "false", Way::Switch)]
    );
}

#[test]
fn an_answer_without_options_leaves_those_that_are_known() {
    let mut offer = opened(config(vec![select("mode", "mode", "ask", &["ask"])]));
    offer.apply(&News::Opened(Value::Null), now());
    offer.apply(&News::Opened(json!({"configOptions": null})), now());
    assert_eq!(offer.options.len(), 1);
}

#[test]
fn a_choice_holds_once_the_agent_shows_it_and_is_refused_in_the_agents_words() {
    let mut offer = opened(config(vec![select("mode", "mode", "ask", &["ask", "plan"])]));
    choose(&mut offer, "mode", "plan");
    let shown = offer.shown().unwrap();
    assert_eq!((shown.options[0].value.as_str(), shown.options[0].wanted.as_str()), ("ask", "plan"));
    let mut refused = offer.clone();
    assert!(refused.apply(&set("mode", "plan", refusal()), now()));
    let condition = refused.shown().unwrap().options[0].condition.clone().unwrap();
    assert_eq!(condition.reason, "OPTION_REFUSED");
    assert!(condition.message.contains("no such mode") && !condition.next_action.is_empty());
    let answer = config(vec![select("mode", "mode", "plan", &["ask", "plan"])]);
    assert!(offer.apply(&set("mode", "plan", Ok(answer)), now()));
    let shown = &offer.shown().unwrap().options[0];
    assert_eq!((shown.value.as_str(), shown.wanted.as_str(), &shown.condition), ("plan", "", &None));
}

#[test]
fn an_agent_that_says_yes_and_keeps_its_value_has_refused() {
    let mut offer = opened(config(vec![select("model", "model", "m1", &["m1", "m2"])]));
    choose(&mut offer, "model", "m2");
    let answer = config(vec![select("model", "model", "m1", &["m1", "m2"])]);
    assert!(offer.apply(&set("model", "m2", Ok(answer)), now()));
    assert!(matches!(offer.chosen["model"].state, ChoiceState::Refused { .. }));
}

#[test]
fn what_was_chosen_is_wanted_again_from_a_new_process_and_follows_what_the_agent_changes() {
    let mut offer = opened(json!({
        "modes": {"currentModeId": "ask", "availableModes": [{"id": "ask", "name": "Ask"}, {"id": "plan", "name": "Plan"}]},
    }));
    choose(&mut offer, "mode", "plan");
    assert!(offer.apply(&set("mode", "plan", Ok(json!({}))), now()));
    assert_eq!(offer.options[0].value, "plan");
    offer.apply(&update("current_mode_update", json!({"currentModeId": "ask"})), now());
    assert_eq!(offer.to_apply(), [("mode".to_owned(), "ask".to_owned())], "it left the mode by itself");
    offer.apply(&News::Started, now());
    assert_eq!(offer.chosen["mode"].state, ChoiceState::Wanted);
    offer.apply(&update("current_mode_update", json!({"currentModeId": "plan"})), now());
    assert_eq!(offer.chosen["mode"].value, "ask", "a new process begins with a mode of its own");
}

#[test]
fn models_are_chosen_before_what_depends_on_them() {
    let options = vec![
        select("effort", "thought_level", "low", &["low", "high"]),
        select("model", "model", "a", &["a", "b"]),
    ];
    let mut offer = opened(config(options));
    choose(&mut offer, "effort", "high");
    choose(&mut offer, "model", "b");
    let order: Vec<_> = offer.to_apply().into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, ["model", "effort"]);
}

#[test]
fn takes_commands_titles_and_usage_and_nothing_of_nonsense() {
    let mut offer = opened(json!({}));
    let commands = json!({"availableCommands": [
        {"name": "plan", "description": "Plans", "input": {"hint": "what"}}, {"name": "/review", "description": ""},
        {"name": "two words", "description": "no"}, {"name": 3}]});
    offer.apply(&update("available_commands_update", commands), now());
    let names: Vec<_> = offer.commands.iter().map(|c| (c.name.as_str(), c.hint.as_str())).collect();
    assert_eq!(names, [("plan", "what"), ("review", "")]);
    offer.apply(&update("session_info_update", json!({"title": " Mend\n the  parser "})), now());
    offer.apply(&update("session_info_update", json!({"updatedAt": "2026-01-01"})), now());
    assert_eq!(offer.title, "Mend the parser");
    let usage = Offer::usage_of(
        "usage_update",
        &json!({"used": 53_000, "size": 200_000, "cost": {"amount": 0.045_5, "currency": "USD"}}),
    );
    let wanted = Usage { used: 53_000, size: 200_000, cost_micros: 45_500, currency: "USD".into() };
    assert_eq!(usage, Some(wanted));
    for odd in [json!({"amount": -1.0, "currency": "USD"}), json!({"amount": 1e300, "currency": "USD"})] {
        let usage = Offer::usage_of("usage_update", &json!({"used": 1, "size": 2, "cost": odd})).unwrap();
        assert_eq!(usage.cost_micros, 0);
    }
    assert_eq!(Offer::usage_of("usage_update", &json!({"used": -1})), None);
}

#[test]
fn however_much_an_agent_offers_little_is_shown_and_what_holds_is_among_it() {
    let many: Vec<String> = (0..5_000).map(|n| format!("provider/model-with-a-long-name-{n}")).collect();
    let values: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "ä".repeat(4_000);
    let mut options: Vec<Value> = (0..50)
        .map(|n| select(&format!("o{n}"), "", "provider/model-with-a-long-name-4999", &values))
        .collect();
    options.iter_mut().for_each(|o| (o["name"], o["description"]) = (json!(long), json!(long)));
    let mut offer = opened(config(options));
    let commands: Vec<Value> =
        (0..1_000).map(|n| json!({"name": format!("c{n}"), "description": long})).collect();
    offer.apply(&update("available_commands_update", json!({"availableCommands": commands})), now());
    for n in 0..50 {
        choose(&mut offer, &format!("o{n}"), "provider/model-with-a-long-name-7");
        offer.refuse(&format!("o{n}"), "OPTION_REFUSED", &long, now());
    }
    let shown = offer.shown().unwrap();
    assert!(shown.encoded_len() <= show::MAX_SHOWN, "{}", shown.encoded_len());
    assert!(shown.truncated && !shown.options.is_empty());
    let stored = serde_json::to_string(&offer).unwrap().len();
    assert!(stored < 350_000, "{stored}");
    let one = opened(config(vec![select("model", "model", "provider/model-with-a-long-name-4999", &values)]));
    let shown = &one.shown().unwrap().options[0];
    assert!(shown.truncated && shown.choices.len() > 10);
    assert!(shown.choices.iter().any(|c| c.value.ends_with("-4999")));
}
