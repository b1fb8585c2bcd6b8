//! Asking for permission.

use serde_json::{Value, json};

use crate::client::Client;

fn is_question(message: &Value) -> bool {
    message["method"] == "session/request_permission"
}

#[tokio::test]
async fn asks_before_it_acts_and_acts_when_allowed() {
    let mut client = Client::start().await;
    let id = client.prompt("ask permission to run touch done").await;
    let (_, question) = client.receive_until(is_question).await;
    let params = &question["params"];
    assert_eq!(params["sessionId"], client.session.as_str());
    assert_eq!(params["toolCall"]["title"], "Run `touch done`");
    assert_eq!(params["toolCall"]["toolCallId"], "call-1");
    let kinds: Vec<&Value> = params["options"].as_array().unwrap().iter().map(|o| &o["kind"]).collect();
    assert_eq!(kinds, ["allow_once", "allow_always", "reject_once"]);
    assert!(!client.dir.path().join("done").exists(), "it acted before the answer");

    client.select(&question, "allow_once").await;
    let turn = client.answer_to(id).await;
    assert_eq!(turn.stop_reason(), "end_turn");
    assert_eq!(turn.summary()[0], "call-1 in_progress");
    assert!(client.dir.path().join("done").exists());
}

#[tokio::test]
async fn skips_what_is_rejected_and_goes_on_with_the_rest() {
    for answer in ["reject_once", "no such option"] {
        let mut client = Client::start().await;
        let id = client.prompt("ask before running touch done\nwrite a.txt: x").await;
        let (_, question) = client.receive_until(is_question).await;
        client.select(&question, answer).await;
        let turn = client.answer_to(id).await;
        assert_eq!(
            turn.summary()[..2],
            ["call-1 failed \"Not permitted.\"", "says: Skipped: Run `touch done`."]
        );
        assert_eq!(turn.stop_reason(), "end_turn");
        assert!(!client.dir.path().join("done").exists());
        assert_eq!(client.file("a.txt"), "x\n");
    }
}

#[tokio::test]
async fn asks_no_more_for_the_same_kind_once_it_is_always_allowed() {
    let mut client = Client::start().await;
    let id = client.prompt("ask before running true\nask before running touch done").await;
    let (_, question) = client.receive_until(is_question).await;
    client.select(&question, "allow_always").await;
    client.answer_to(id).await;
    assert!(client.dir.path().join("done").exists());

    let id = client.prompt("ask before writing a.txt: x").await;
    let (_, question) = client.receive_until(is_question).await;
    assert_eq!(question["id"], "permission-2", "another kind is asked for");
    client.select(&question, "reject_once").await;
    client.answer_to(id).await;

    client.session = client.open().await;
    client.prompt("ask before running true").await;
    assert!(is_question(&client.receive_until(is_question).await.1), "another session is asked");
}

#[tokio::test]
async fn stops_in_bounded_time_when_cancelled_while_it_waits_for_an_answer() {
    let mut client = Client::start().await;
    let id = client.prompt("ask permission to run touch done").await;
    let (_, question) = client.receive_until(is_question).await;
    client.cancel().await;
    let turn = client.answer_to(id).await;
    assert_eq!(turn.stop_reason(), "cancelled");
    assert!(turn.summary().last().unwrap().starts_with("call-1 failed"), "{:?}", turn.summary());
    // Nothing waits for the late answer.
    client.select(&question, "allow_once").await;
    assert_eq!(client.turn("say on").await.said(), "on");
    assert!(!client.dir.path().join("done").exists());
}

#[tokio::test]
async fn takes_a_cancelled_answer_as_the_end_of_the_turn_and_an_error_as_a_no() {
    let mut client = Client::start().await;
    let id = client.prompt("ask permission to run touch done").await;
    let (_, question) = client.receive_until(is_question).await;
    let outcome = json!({ "outcome": { "outcome": "cancelled" } });
    client.send(json!({ "jsonrpc": "2.0", "id": question["id"], "result": outcome })).await;
    assert_eq!(client.answer_to(id).await.stop_reason(), "cancelled");

    let id = client.prompt("ask permission to run touch done").await;
    let (_, question) = client.receive_until(is_question).await;
    let error = json!({ "code": -32601, "message": "never heard of it" });
    client.send(json!({ "jsonrpc": "2.0", "id": question["id"], "error": error })).await;
    assert_eq!(client.answer_to(id).await.stop_reason(), "end_turn");
    assert!(!client.dir.path().join("done").exists());
}

#[tokio::test]
async fn keeps_several_questions_open_at_once_and_takes_the_answers_in_any_order() {
    let mut client = Client::start().await;
    let id = client.prompt("ask for 3 permissions at once\nsay on").await;
    let mut questions = Vec::new();
    for _ in 0..3 {
        questions.push(client.receive_until(is_question).await.1);
    }
    for question in questions.iter().rev() {
        client.select(question, "allow_once").await;
    }
    let turn = client.answer_to(id).await;
    assert_eq!(turn.said(), "on");

    let id = client.prompt("ask for 2 permissions at once\nsay never").await;
    let first = client.receive_until(is_question).await.1;
    let second = client.receive_until(is_question).await.1;
    client.select(&second, "reject_once").await;
    client.select(&first, "allow_once").await;
    let turn = client.answer_to(id).await;
    assert_eq!(turn.stop_reason(), "end_turn");
    assert_eq!(turn.said(), "I was not allowed to continue, so I will stop here.");
    let summary = turn.summary();
    assert!(summary.contains(&"call-4 completed".to_owned()), "{summary:?}");
    assert!(summary.contains(&"call-5 failed \"Not permitted.\"".to_owned()), "{summary:?}");
}

#[tokio::test]
async fn keeps_the_questions_of_two_sessions_apart() {
    let mut client = Client::start().await;
    let other = client.open().await;
    let first = client.prompt("ask permission to run touch first").await;
    let question = client.receive_until(is_question).await.1;
    let second = client.prompt_in(&other, "ask permission to run touch second").await;
    let other_question = client.receive_until(is_question).await.1;
    assert_eq!(other_question["params"]["sessionId"], other.as_str());
    client.select(&other_question, "allow_once").await;
    client.answer_to(second).await;
    client.select(&question, "reject_once").await;
    client.answer_to(first).await;
    assert!(client.dir.path().join("second").exists() && !client.dir.path().join("first").exists());
}
