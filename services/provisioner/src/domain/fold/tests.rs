use foundry_core::Timestamp;
use foundry_proto::common::v1::ToolCallState;
use foundry_sandbox::Direction;
use serde_json::json;

use super::*;

fn at(offset: u64, body: TapBody) -> TapEvent {
    TapEvent { instance: "run2".into(), offset, time: Timestamp::default(), body }
}

fn agent(offset: u64, update: Value) -> TapEvent {
    let json = json!({"method": "session/update", "params": {"sessionId": "s", "update": update}});
    at(offset, TapBody::Message { direction: Direction::FromAgent, json })
}

fn words(offset: u64, text: &str) -> TapEvent {
    agent(offset, json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}))
}

fn turn(message_id: &str) -> Option<Running<'_>> {
    Some(Running { message_id, stop_asked: false })
}

fn answer(offset: u64, result: Value) -> TapEvent {
    let json = json!({"id": "msg_1", "result": result});
    at(offset, TapBody::Message { direction: Direction::FromAgent, json })
}

fn texts(folded: &Folded) -> Vec<(String, i32, String)> {
    let text = |p: &TranscriptPart| match &p.body {
        Some(Body::AgentMessage(m)) => Some((p.block_id.clone(), p.part_number, m.text.clone())),
        _ => None,
    };
    folded.parts.iter().filter_map(text).collect()
}

#[test]
fn a_message_goes_on_in_the_same_block_over_stretches_and_restarts() {
    let mut state = Fold::default();
    let first = fold(&mut state, turn("msg_1"), "/w", &[words(10, "a"), words(20, "b")]);
    assert_eq!(texts(&first), [("2-10".to_owned(), 0, "ab".to_owned())]);
    let stored = serde_json::to_string(&state).unwrap();
    let mut state: Fold = serde_json::from_str(&stored).unwrap();
    let plan =
        agent(40, json!({"sessionUpdate": "plan", "entries": [{"content": "c", "status": "pending"}]}));
    let second = fold(&mut state, turn("msg_1"), "/w", &[words(30, "c"), plan, words(50, "d")]);
    assert_eq!(texts(&second), [("2-10".into(), 1, "c".into()), ("2-50".into(), 0, "d".into())]);
    assert!(second.parts.iter().all(|p| p.message_id == "msg_1" && p.runtime_instance == 2));
}

#[test]
fn splits_long_words_into_parts_that_fit() {
    let mut state = Fold::default();
    let long = "ä".repeat(MAX_PART + 1);
    let folded = fold(&mut state, turn("msg_1"), "/w", &[words(1, &long)]);
    assert!(folded.parts.len() >= 3);
    assert_eq!(texts(&folded).iter().map(|t| t.2.as_str()).collect::<String>(), long);
    assert!(texts(&folded).iter().all(|t| t.2.len() <= MAX_PART));
}

#[test]
fn a_tool_call_is_whole_in_every_part_and_cut_to_size() {
    let mut state = Fold::default();
    let begun = agent(
        1,
        json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "Run", "kind": "execute",
               "status": "in_progress", "rawInput": {"command": "make"}, "locations": [{"path": "/w/a/b"}]}),
    );
    let first = fold(&mut state, turn("msg_1"), "/w", &[begun]);
    assert!(!first.worked);
    let output = "x".repeat(5_000) + "end";
    let content = json!([{"type": "content", "content": {"type": "text", "text": output}}]);
    let ended = agent(
        2,
        json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed", "content": content}),
    );
    let second = fold(&mut state, turn("msg_1"), "/w", &[ended]);
    assert!(second.worked);
    let Some(Body::ToolCall(call)) = &second.parts[0].body else { panic!("{second:?}") };
    assert_eq!((call.title.as_str(), call.locations[0].as_str(), call.truncated), ("Run", "a/b", true));
    assert!(call.output.ends_with("end") && call.output.len() <= 2 << 10);
    assert_eq!((second.parts[0].block_id.as_str(), second.parts[0].part_number), ("t", 1));
}

#[test]
fn news_of_one_call_in_one_stretch_are_one_part() {
    let mut state = Fold::default();
    let news: Vec<TapEvent> = ["pending", "in_progress", "completed"]
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let update =
                json!({"sessionUpdate": "tool_call", "toolCallId": "t", "kind": "edit", "status": s});
            agent(i as u64, update)
        })
        .collect();
    let folded = fold(&mut state, turn("msg_1"), "/w", &news);
    assert_eq!(folded.parts.len(), 1);
    assert!(folded.worked);
}

#[test]
fn the_answer_to_the_prompt_ends_the_turn_and_later_events_belong_to_none() {
    let mut state = Fold::default();
    let events = [words(1, "a"), answer(2, json!({"stopReason": "end_turn"})), words(3, "late")];
    let folded = fold(&mut state, turn("msg_1"), "/w", &events);
    assert_eq!(folded.ended.unwrap().outcome(), TurnOutcome::Completed);
    assert_eq!(folded.parts[2].message_id, "");
    let mut other = Fold::default();
    let foreign = fold(&mut other, turn("msg_2"), "/w", &[answer(2, json!({"stopReason": "end_turn"}))]);
    assert!(foreign.ended.is_none(), "another prompt's answer");
}

#[test]
fn holes_and_unknown_news_are_visible() {
    let mut state = Fold::default();
    let lost = at(5, TapBody::Lost { reason: "log full".into(), messages: 3, bytes: 0 });
    let unknown = agent(6, json!({"sessionUpdate": "telepathy"}));
    let silent = agent(7, json!({"sessionUpdate": "available_commands_update"}));
    let folded = fold(&mut state, None, "/w", &[lost, unknown, silent]);
    let kinds: Vec<NoticeKind> = folded
        .parts
        .iter()
        .map(|p| match &p.body {
            Some(Body::Notice(n)) => n.kind(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [NoticeKind::EventsLost, NoticeKind::UnknownEvent]);
}

#[test]
fn remembers_that_the_newest_agent_process_ended() {
    let mut state = Fold::default();
    let exit = || at(1, TapBody::Exited { code: Some(1), signal: None });
    fold(&mut state, None, "/w", &[exit(), at(2, TapBody::Started { agent: "demo".into() })]);
    assert!(!state.down);
    fold(&mut state, None, "/w", &[exit()]);
    assert!(state.down);
}

#[test]
fn a_permission_request_names_the_call_and_its_answers() {
    let mut state = Fold::default();
    let json = json!({"id": 7, "method": "session/request_permission", "params": {"sessionId": "s",
        "toolCall": {"toolCallId": "t", "title": "run tests"},
        "options": [{"optionId": "y", "name": "Allow", "kind": "allow_once"}]}});
    let asked = at(9, TapBody::Message { direction: Direction::FromAgent, json });
    let folded = fold(&mut state, turn("msg_1"), "/w", &[asked]);
    let one = &folded.asked[0];
    assert_eq!((one.acp_id.clone(), one.request.permission_id.as_str()), (json!(7), "perm-2-9"));
    assert_eq!((one.request.title.as_str(), one.request.options[0].option_id.as_str()), ("run tests", "y"));
}

#[test]
fn a_turn_that_the_agent_breaks_off_unasked_is_interrupted_and_one_that_was_stopped_is_cancelled() {
    let broken_off = [answer(1, json!({"stopReason": "cancelled"}))];
    let ended = |stop_asked| {
        let running = Some(Running { message_id: "msg_1", stop_asked });
        let folded = fold(&mut Fold::default(), running, "/w", &broken_off);
        let end = folded.ended.unwrap();
        assert_eq!(folded.parts[0].body, Some(Body::TurnEnd(end.clone())));
        (end.outcome(), end.stop_reason, end.reason)
    };
    assert_eq!(ended(true), (TurnOutcome::Cancelled, "cancelled".to_owned(), String::new()));
    assert_eq!(ended(false), (TurnOutcome::Interrupted, "cancelled".to_owned(), "AGENT_STOPPED".to_owned()));
}

#[test]
fn the_output_of_a_command_comes_in_pieces_beside_the_call_and_the_exit_code_does_not_replace_it() {
    let mut state = Fold::default();
    let piece = |offset, status: &str, text: &str| {
        agent(
            offset,
            json!({
                "sessionUpdate": "tool_call_update", "toolCallId": "t", "status": status,
                "content": [{"type": "terminal", "terminalId": "t"}],
                "_meta": {"terminal_output_delta": {"data": text}},
            }),
        )
    };
    let end = json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed",
        "rawOutput": {"exit_code": 0}});
    let events = [piece(1, "in_progress", "one\n"), piece(2, "in_progress", "two\n"), agent(3, end)];
    let folded = fold(&mut state, turn("msg_1"), "/w", &events);
    let Some(Body::ToolCall(call)) = &folded.parts.last().unwrap().body else { panic!() };
    assert_eq!((call.output.as_str(), call.state()), ("one\ntwo\n", ToolCallState::Completed));
}

#[test]
fn what_an_agent_tells_again_while_it_takes_up_a_session_is_not_told_twice() {
    for (method, tells_late) in [("session/load", true), ("session/resume", false)] {
        let mut state = Fold::default();
        let asked = json!({"id": "run3/load", "method": method, "params": {}});
        let asked = at(1, TapBody::Message { direction: Direction::ToAgent, json: asked });
        let first = fold(&mut state, None, "/w", &[asked, words(2, "said before")]);
        // A stretch may end within the history.
        let stored = serde_json::to_string(&state).unwrap();
        let mut state: Fold = serde_json::from_str(&stored).unwrap();
        let done = json!({"id": "run3/load", "result": {}});
        let done = at(4, TapBody::Message { direction: Direction::FromAgent, json: done });
        let until_answered = fold(&mut state, None, "/w", &[words(3, "and this"), done]);
        assert!(first.parts.is_empty() && until_answered.parts.is_empty(), "{method}");
        // Some agents answer a load first and send the history then. A resumed session has none to send.
        let late = fold(&mut state, None, "/w", &[words(5, "late")]);
        assert_eq!(late.parts.is_empty(), tells_late, "{method}: {:?}", late.parts);
        let rest = fold(&mut state, None, "/w", &[prompt(6), words(7, "new")]);
        assert_eq!(texts(&rest).iter().map(|t| t.2.as_str()).collect::<String>(), "new", "{method}");
    }
}

fn prompt(offset: u64) -> TapEvent {
    let json = json!({"id": "m1", "method": "session/prompt", "params": {}});
    at(offset, TapBody::Message { direction: Direction::ToAgent, json })
}

/// A form that can be shown.
fn question(offset: u64) -> TapEvent {
    let schema = json!({"type": "object", "properties": {"sure": {"type": "boolean"}}});
    let params = json!({"mode": "form", "sessionId": "s", "message": "Go?", "requestedSchema": schema});
    let json = json!({"id": offset, "method": "elicitation/create", "params": params});
    at(offset, TapBody::Message { direction: Direction::FromAgent, json })
}

#[test]
fn each_turn_has_its_own_count_of_questions_and_refusals() {
    let started = || at(0, TapBody::Started { agent: "demo".into() });
    let ask = |state: &mut Fold, turn, count| {
        let questions: Vec<TapEvent> = (0..count).map(question).collect();
        fold(state, turn, "/w", &questions)
    };
    for border in [prompt(0), started()] {
        let mut state = Fold::default();
        // Too many, first while no turn runs and then in one whose end is never reported.
        ask(&mut state, None, u64::from(MAX_REFUSALS) + 5);
        ask(&mut state, turn("msg_1"), u64::from(MAX_QUESTIONS) + 5);
        assert_eq!((state.questions, state.refused > MAX_REFUSALS), (MAX_QUESTIONS, true));
        fold(&mut state, turn("msg_2"), "/w", std::slice::from_ref(&border));
        let asked = ask(&mut state, turn("msg_2"), u64::from(MAX_QUESTIONS) + 1);
        assert_eq!((asked.elicited.len(), asked.declined.len()), (MAX_QUESTIONS as usize, 1), "{border:?}");
        assert_eq!(asked.parts.len(), MAX_QUESTIONS as usize + 1, "the declined one is shown: {border:?}");
    }
}

#[test]
fn what_an_agent_says_after_it_could_not_take_up_a_session_is_told() {
    let mut state = Fold::default();
    let asked = json!({"id": "run3/load", "method": "session/load", "params": {}});
    let asked = at(1, TapBody::Message { direction: Direction::ToAgent, json: asked });
    let refused = json!({"id": "run3/load", "error": {"code": -32603, "message": "no such session"}});
    let refused = at(2, TapBody::Message { direction: Direction::FromAgent, json: refused });
    let folded = fold(&mut state, None, "/w", &[asked, refused, words(3, "hello")]);
    assert_eq!(texts(&folded).iter().map(|t| t.2.as_str()).collect::<String>(), "hello");
}

fn files(folded: &Folded) -> Vec<(String, String, i64, String)> {
    let file = |p: &TranscriptPart| match &p.body {
        Some(Body::AgentFile(f)) => {
            let a = f.attachment.as_ref().unwrap();
            Some((f.tool_call_id.clone(), format!("{} {}", a.name, a.media_type), a.size, a.reason.clone()))
        }
        _ => None,
    };
    folded.parts.iter().filter_map(file).collect()
}

fn image(data: &str) -> Value {
    json!({"type": "image", "mimeType": "image/png", "data": data})
}

/// The first bytes of a PNG.
const PNG: &str = "iVBORw0KGgo=";

#[test]
fn a_picture_among_words_is_a_part_of_its_own_and_the_words_go_on_after_it() {
    let mut state = Fold::default();
    let shown = agent(20, json!({"sessionUpdate": "agent_message_chunk", "content": image(PNG)}));
    let folded = fold(&mut state, turn("msg_1"), "/w", &[words(10, "a"), shown, words(30, "b")]);
    assert_eq!(texts(&folded), [("2-10".into(), 0, "a".into()), ("2-30".into(), 0, "b".into())]);
    assert_eq!(files(&folded), [(String::new(), "picture.png image/png".into(), 8, String::new())]);
    let [file] = folded.files.as_slice() else { panic!("{:?}", folded.files) };
    assert_eq!((file.part, file.place.as_str(), &file.bytes[..4]), (1, "2-20", &b"\x89PNG"[..]));
}

#[test]
fn a_tool_call_shows_each_of_its_pictures_once_however_often_it_tells_of_them() {
    let mut state = Fold::default();
    let news = |offset, status: &str| {
        let content = json!([
            {"type": "content", "content": {"type": "text", "text": "done"}},
            {"type": "content", "content": image(PNG)},
        ]);
        let update = json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": status,
            "content": content, "rawOutput": {"data": PNG}});
        agent(offset, update)
    };
    let first = fold(&mut state, turn("msg_1"), "/w", &[news(10, "in_progress"), news(20, "in_progress")]);
    assert_eq!(files(&first), [("t".into(), "picture.png image/png".into(), 8, String::new())]);
    assert_eq!(first.files[0].place, "2-10/1");
    let second = fold(&mut state, turn("msg_1"), "/w", &[news(30, "completed")]);
    assert_eq!(files(&second), []);
    let Some(Body::ToolCall(call)) = &second.parts[0].body else { panic!("{:?}", second.parts) };
    assert_eq!(call.output, "done");
}

#[test]
fn files_that_cannot_be_kept_are_named_with_type_size_and_reason() {
    let mut state = Fold::default();
    let large = "A".repeat((4 << 20) + 8);
    let chunk = |offset, content: Value| {
        agent(offset, json!({"sessionUpdate": "agent_message_chunk", "content": content}))
    };
    let events = [
        chunk(1, image(&large)),
        chunk(2, image("not base64!")),
        chunk(3, json!({"type": "resource_link", "name": "../../x\u{1b}", "uri": "file:///x", "size": 7})),
        chunk(4, json!({"type": "resource", "resource": {"uri": "file:///tmp/<svg>.svg", "text": "<svg/>"}})),
        chunk(5, json!({"type": "audio", "mimeType": "audio/\u{202e}wav", "data": ""})),
        chunk(6, json!({"type": "hologram"})),
    ];
    let folded = fold(&mut state, turn("msg_1"), "/w", &events);
    let unnamed = String::new;
    assert_eq!(
        files(&folded),
        [
            (unnamed(), "picture.png image/png".into(), 3_145_734, "ATTACHMENT_TOO_LARGE".into()),
            (unnamed(), "picture.png image/png".into(), 0, "ATTACHMENT_MALFORMED".into()),
            (unnamed(), "x application/octet-stream".into(), 7, "ATTACHMENT_NOT_SENT".into()),
            (unnamed(), "<svg>.svg image/svg+xml".into(), 6, String::new()),
            (unnamed(), "file application/octet-stream".into(), 0, "ATTACHMENT_MALFORMED".into()),
        ]
    );
    assert_eq!(folded.files.len(), 1);
}

#[test]
fn updates_of_calls_that_alternate_are_one_part_for_each_call_until_the_turn_ends() {
    let update = |offset, id: &str, status: &str| {
        agent(offset, json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "status": status}))
    };
    let mut state = Fold::default();
    let events = [
        update(1, "a", "pending"),
        update(2, "b", "pending"),
        words(3, "both"),
        update(4, "a", "in_progress"),
        update(5, "b", "failed"),
        update(6, "a", "completed"),
        answer(7, json!({"stopReason": "end_turn"})),
        update(8, "a", "pending"),
    ];
    let calls = |folded: &Folded| -> Vec<(String, i32, ToolCallState)> {
        let call = |p: &TranscriptPart| match &p.body {
            Some(Body::ToolCall(call)) => Some((p.block_id.clone(), p.part_number, call.state())),
            _ => None,
        };
        folded.parts.iter().filter_map(call).collect()
    };
    let folded = fold(&mut state, turn("msg_1"), "/w", &events);
    let expected = [
        ("a".to_owned(), 0, ToolCallState::Completed),
        ("b".to_owned(), 0, ToolCallState::Failed),
        // Another turn's call with the same id.
        ("a".to_owned(), 0, ToolCallState::Pending),
    ];
    assert_eq!((calls(&folded), folded.taken), (expected.into(), events.len()));
    let next = fold(&mut state, turn("msg_2"), "/w", &[update(9, "a", "in_progress")]);
    assert_eq!(calls(&next), [("a".to_owned(), 1, ToolCallState::InProgress)]);
}

#[test]
fn a_stretch_ends_at_the_event_whose_parts_are_enough_for_a_revision_and_loses_nothing() {
    let text = "x".repeat(100_000);
    let events: Vec<_> = (0..10).map(|offset| words(offset, &text)).collect();
    let (mut state, mut left, mut all) = (Fold::default(), events.as_slice(), String::new());
    let mut taken = Vec::new();
    while !left.is_empty() {
        let folded = fold(&mut state, turn("msg_1"), "/w", left);
        let bytes: usize = folded.parts.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes < MAX_STRETCH + 2 * text.len(), "{bytes}");
        all.extend(texts(&folded).into_iter().map(|(_, _, text)| text));
        taken.push(folded.taken);
        left = &left[folded.taken..];
    }
    assert_eq!((taken, all), (vec![6, 4], text.repeat(10)));
}

#[test]
fn a_message_over_the_limit_says_how_many_bytes_are_missing() {
    let lost = TapBody::Lost { reason: "a message over the size limit".into(), messages: 1, bytes: 32 << 20 };
    let folded = fold(&mut Fold::default(), turn("msg_1"), "/w", &[at(1, lost)]);
    let Some(Body::Notice(notice)) = &folded.parts[0].body else { panic!("{folded:?}") };
    let expected = "agent events are missing here (1 message, 33554432 bytes): a message over the size limit";
    assert_eq!(notice.message, expected);
}
