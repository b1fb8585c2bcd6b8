//! Instructions that speak, wait or end the turn.

use std::time::Duration;

use foundry_demo_agent::DemoOptions;
use serde_json::Value;

use crate::client::{Client, Instantly, Never, options};

#[tokio::test]
async fn thinks_announces_a_plan_and_streams_what_it_says_in_groups_of_words() {
    let mut client = Client::start().await;
    let turn = client.turn("say one two three four five six").await;
    assert_eq!(turn.stop_reason(), "end_turn");
    assert_eq!(
        turn.summary(),
        [
            "thinks: I found one thing to do.",
            "plan .",
            "plan >",
            "says: one two three four |five six",
            "plan x",
        ]
    );
}

#[tokio::test]
async fn takes_the_steps_of_its_plan_one_after_the_other() {
    let mut client = Client::start().await;
    let turn = client.turn("say a. b\nthink hard\nsay c").await;
    assert_eq!(
        turn.summary(),
        [
            "thinks: I found 3 things to do. I will do them in order.",
            "plan ...",
            "plan >..",
            "says: a. b",
            "plan x>.",
            "thinks: hard",
            "plan xx>",
            "says: c",
            "plan xxx",
        ]
    );
    let entries = &turn.updates[1]["params"]["update"]["entries"];
    assert_eq!(entries[2]["content"], "Say “c”");
}

#[tokio::test]
async fn spreads_a_plan_that_is_spelled_out_over_the_steps() {
    let mut client = Client::start().await;
    let turn = client.turn("plan: look; work\nsay 1\nsay 2\nsay 3\nsay 4").await;
    let plans: Vec<String> = turn.summary().into_iter().filter(|t| t.starts_with("plan")).collect();
    assert_eq!(plans, ["plan ..", "plan >.", "plan x>", "plan xx"]);
}

#[tokio::test]
async fn answers_in_words_what_is_no_instruction() {
    let mut client = Client::start().await;
    let turn = client.turn("say hi\nHow lovely the weather is.").await;
    assert!(turn.said().contains("without a model"), "{}", turn.said());
    assert!(turn.said().contains("“How lovely the weather is.”"));
    assert_eq!(std::fs::read_dir(client.dir.path()).unwrap().count(), 0, "words change no file");
}

#[tokio::test]
async fn ends_turns_in_every_way_a_turn_can_end() {
    let mut client = Client::start().await;
    let failed = client.turn("fail with no luck today").await;
    assert_eq!(failed.answer["error"]["code"], -32603);
    assert_eq!(failed.answer["error"]["message"], "no luck today");
    assert_eq!(client.turn("refuse").await.stop_reason(), "refusal");

    let id = client.prompt("hang").await;
    client.receive_until(|m| m.to_string().contains("The prompt says to")).await;
    client.cancel().await;
    assert_eq!(client.answer_to(id).await.stop_reason(), "cancelled");
}

#[tokio::test]
async fn crashes_in_the_middle_of_a_turn_after_its_words_have_left() {
    let mut client = Client::start().await;
    client.prompt("write kept.txt: kept\ncrash\nsay never").await;
    let (_, last) = client.receive_until(|m| m.to_string().contains("so I crash.")).await;
    assert_eq!(last["method"], "session/update");
    assert_eq!(client.file("kept.txt"), "kept\n");
    assert_eq!(client.ended().await.status(), 42);
}

#[tokio::test]
async fn waits_and_speaks_slowly_on_the_clock_it_is_given() {
    let second = Duration::from_secs(3600);
    let mut client = Client::start_with(DemoOptions { second, ..options(Instantly) }).await;
    assert_eq!(client.turn("wait 5 minutes\nslowly say a b c d e f g h").await.stop_reason(), "end_turn");

    for prompt in ["wait 1 second", "slowly say a b c d e f"] {
        let mut client = Client::start_with(DemoOptions { second, ..options(Never) }).await;
        let id = client.prompt(prompt).await;
        client.receive_until(|m| m["params"]["update"]["entries"][0]["status"] == "in_progress").await;
        client.cancel().await;
        assert_eq!(client.answer_to(id).await.stop_reason(), "cancelled", "{prompt}");
    }
}

#[tokio::test]
async fn waits_no_time_when_a_second_is_set_to_nothing() {
    let second = Duration::ZERO;
    let mut client = Client::start_with(DemoOptions { second, ..options(Never) }).await;
    assert_eq!(client.turn("wait 60 seconds\nslowly say a b c d e f").await.stop_reason(), "end_turn");
}

#[tokio::test]
async fn streams_many_chunks_and_stops_in_their_midst_when_cancelled() {
    let mut client = Client::start().await;
    let turn = client.turn("stream 3000 chunks").await;
    let said = turn.said();
    assert_eq!(said.lines().count(), 3000);
    assert!(said.ends_with("chunk 3000 of 3000\n"));

    // The client reads nothing while it cancels: the agent waits with a bounded amount unsent.
    let id = client.prompt("stream 1000000 chunks").await;
    client.receive_until(|m| m["params"]["update"]["content"]["text"] == "chunk 1 of 1000000\n").await;
    client.cancel().await;
    let turn = client.answer_to(id).await;
    assert_eq!(turn.stop_reason(), "cancelled");
    assert!(turn.updates.len() < 5_000, "{} chunks came after the cancel", turn.updates.len());
}

#[tokio::test]
async fn prints_a_line_of_the_size_that_was_asked_for() {
    let mut client = Client::start().await;
    assert_eq!(client.turn("print a 300 KiB line").await.said().len(), 300 << 10);
}

#[tokio::test]
async fn emits_hostile_text_as_data_that_survives_the_wire() {
    let mut client = Client::start().await;
    let turn = client.turn("emit hostile text").await;
    let said = turn.said();
    for piece in ["<script>", "\u{1b}[2J", "\u{202e}", "\u{0}", "stopReason", "$(id)"] {
        assert!(said.contains(piece), "{piece:?} is missing");
    }
    let titles: Vec<&Value> = turn.updates.iter().map(|u| &u["params"]["update"]["title"]).collect();
    assert!(titles.iter().any(|t| t.as_str().is_some_and(|t| t.contains("<script>"))));
}

#[tokio::test]
async fn shows_the_names_of_its_environment_and_no_value() {
    let mut client = Client::start().await;
    let said = client.turn("show environment").await.said();
    let path = std::env::var("PATH").unwrap();
    assert!(said.contains("CARGO_PKG_NAME") && said.contains("PATH"), "{said}");
    assert!(!said.contains(&path), "a value is shown");
}
