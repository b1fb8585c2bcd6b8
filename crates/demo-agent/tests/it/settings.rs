//! What can be chosen, and forms.

use serde_json::{Value, json};

use crate::client::Client;

async fn set(client: &mut Client, option: &str, value: &str) -> Value {
    let params = json!({ "sessionId": client.session, "configId": option, "value": value });
    client.request("session/set_config_option", params).await;
    client.receive().await
}

#[tokio::test]
async fn every_choice_can_be_seen_in_what_it_does() {
    let mut client = Client::start().await;
    let answer = set(&mut client, "model", "demo-loud").await;
    assert_eq!(answer["result"]["configOptions"][1]["currentValue"], "demo-loud");
    set(&mut client, "effort", "high").await;
    let summary = client.turn("say hello").await.summary();
    assert!(summary.contains(&"says: HELLO".to_owned()), "{summary:?}");
    assert_eq!(summary.iter().filter(|t| t.starts_with("thinks")).count(), 2);
    set(&mut client, "mode", "careful").await;
    let prompt = client.prompt("write a.txt: x").await;
    let (_, asked) = client.receive_until(|m| m["method"] == "session/request_permission").await;
    client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "outcome": { "outcome": "cancelled" } } })).await;
    client.receive_until(|m| m["id"] == prompt).await;
    assert!(!client.dir.path().join("a.txt").exists());
}

#[tokio::test]
async fn refuses_what_it_does_not_offer_and_one_thing_that_it_does() {
    let mut client = Client::start().await;
    for (option, value, says) in
        [("colour", "red", ""), ("mode", "wild", ""), ("model", "demo-locked", "this model is locked")]
    {
        let answer = set(&mut client, option, value).await;
        assert_eq!(answer["error"]["code"], -32602, "{option} {value}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(says));
    }
}

#[tokio::test]
async fn asks_for_a_form_and_says_what_was_filled_in() {
    let mut client = Client::start().await;
    let prompt = client.prompt("/form").await;
    let (_, asked) = client.receive_until(|m| m["method"] == "elicitation/create").await;
    assert_eq!(asked["params"]["requestedSchema"]["required"], json!(["name", "kind"]));
    let answer = json!({ "action": "accept", "content": { "name": "one", "kind": "patch" } });
    client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": answer })).await;
    let (updates, _) = client.receive_until(|m| m["id"] == prompt).await;
    let said: String =
        updates.iter().filter_map(|m| m["params"]["update"]["content"]["text"].as_str()).collect();
    assert!(said.contains("name = \"one\", kind = \"patch\""), "{said}");
}

#[tokio::test]
async fn tells_its_title_its_usage_and_a_mode_of_its_own_choice() {
    let mut client = Client::start().await;
    let turn =
        client.turn("title: Mend the parser\nuse 1000 tokens\nswitch to mode careful\nshow settings").await;
    let of = |kind: &str| {
        let update = turn.updates.iter().map(|m| &m["params"]["update"]).find(|u| u["sessionUpdate"] == kind);
        update.cloned().unwrap_or_default()
    };
    assert_eq!(of("session_info_update")["title"], "Mend the parser");
    assert_eq!(
        (&of("usage_update")["used"], &of("usage_update")["cost"]["currency"]),
        (&json!(1000), &json!("USD"))
    );
    assert_eq!(of("config_option_update")["configOptions"][0]["currentValue"], "careful");
    assert!(turn.summary().iter().any(|t| t.contains("My mode is")), "{:?}", turn.summary());
}
