//! From the messages between runtime and agent to transcript parts: a pure fold. A stretch of the log becomes parts,
//! and the state that the next stretch needs ([`Fold`]) is stored with them.

mod files;
mod tools;

use std::collections::HashMap;

use bytes::Bytes;
use foundry_proto::common::v1::{
    AgentFile, AgentMessage, AgentThought, ElicitationRequest, Notice, NoticeKind, PermissionOption,
    PermissionRequest, Plan, PlanEntry, TranscriptPart, TurnEnd, TurnOutcome, transcript_part::Body,
};
use foundry_runtime_client::SetOption;
use foundry_sandbox::acp::RpcError;
use foundry_sandbox::acp::{self, AcpEvent, StopReason, Update, stop_reason};
use foundry_sandbox::{TapBody, TapEvent};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::offer::{News, Usage};
use super::text::{head, parts_of};
use super::{MAX_PART, MAX_STRETCH, MAX_TEXT, Offer, elicitation, fold::tools::Tools};

/// What is carried from one stretch to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fold {
    block: Option<Block>,
    tools: Tools,
    /// Whether the newest agent process has ended.
    pub down: bool,
    /// When work was last asked for during a turn, microseconds.
    pub work_asked: i64,
    /// Whether the log has become unreadable and the transcript mentions it.
    pub blind: bool,
    /// The request that reopens an earlier session: until it is answered, the agent repeats what is in the transcript
    /// already.
    replay: Option<Value>,
    /// Whether that request is `session/resume`: then nothing is repeated after its answer.
    resuming: bool,
    /// Whether the agent may still repeat the history: some answer `session/load` first and send it afterwards. The
    /// next prompt ends this.
    retelling: bool,
    /// The request that opens the session; its answer lists what the agent offers.
    opening: Option<Value>,
    /// Requests that set an option and are not answered yet.
    setting: Vec<Setting>,
    /// The newest usage of its context that the agent reported.
    pub usage: Option<Usage>,
    /// When a usage was last shown, in microseconds.
    // Rows and older processes have this name.
    #[serde(rename = "usage_told")]
    pub usage_reported: i64,
    /// Forms that the agent has sent since the newest prompt, or since it was started.
    questions: u32,
    /// Questions that were declined since then, or since the end of the turn.
    refused: u32,
    /// The newest turn whose transcript mentions that output is left out because of a limit; empty outside a turn.
    pub limit_noticed: Option<String>,
}

/// A request that sets an option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setting {
    id: Value,
    option: String,
    value: String,
}

/// A streamed block of text that may continue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    id: String,
    thought: bool,
    /// The agent's own id of the message; empty when it gives none.
    message: String,
    next_part: i32,
}

/// A permission request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The agent's id of its request, needed for the answer.
    pub acp_id: Value,
    /// The request as it is shown.
    pub request: PermissionRequest,
    /// Index of its part in [`Folded::parts`].
    pub part: usize,
}

/// A form that the agent asks a person to fill in.
#[derive(Clone, Debug, PartialEq)]
pub struct Elicited {
    /// The agent's id of its request, needed for the answer.
    pub acp_id: Value,
    /// The form as it is shown.
    pub request: ElicitationRequest,
    /// Index of its part in [`Folded::parts`].
    pub part: usize,
}

/// A file that the agent shows, to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownFile {
    /// Index in [`Folded::parts`] of the part that names it.
    pub part: usize,
    /// Its position in the log, the same at each reading.
    pub place: String,
    pub bytes: Bytes,
}

/// The result of folding a stretch of the log.
#[derive(Debug, Default)]
pub struct Folded {
    /// How many of the events are folded: all, or as many as give one revision's worth of parts.
    pub taken: usize,
    /// The parts, in order; the time of recording is not set yet.
    pub parts: Vec<TranscriptPart>,
    /// Permission requests among them.
    pub asked: Vec<Asked>,
    /// Files among them that are to be stored.
    pub files: Vec<ShownFile>,
    /// Whether the agent has received the prompt of the turn.
    pub sent: bool,
    /// How the turn ended, if it did; its part is among the parts.
    pub ended: Option<TurnEnd>,
    /// Whether files may have changed.
    pub worked: bool,
    /// Forms that the agent asks a person to fill in.
    pub elicited: Vec<Elicited>,
    /// Questions that are declined unseen: the agent's id of each request, and the answer.
    pub declined: Vec<(Value, Value)>,
    /// Changes of what can be chosen, and of the agent's title and usage.
    pub news: Vec<News>,
}

/// The turn that runs.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// The message id, which is also the id of the prompt request.
    pub message_id: &'a str,
    /// Whether a stop was requested.
    pub stop_asked: bool,
}

/// Folds a stretch of the log, up to the event whose parts reach [`MAX_STRETCH`]. `workspace` is the agent's working
/// directory.
pub fn fold(state: &mut Fold, turn: Option<Running<'_>>, workspace: &str, events: &[TapEvent]) -> Folded {
    let (out, calls) = (Folded::default(), HashMap::new());
    let mut folder = Folder { state, turn, workspace, out, text: None, calls, bytes: 0 };
    for event in events {
        if folder.is_full() {
            break;
        }
        folder.event(event);
        folder.out.taken += 1;
    }
    folder.flush();
    folder.out
}

/// The number in a runtime instance's name.
pub fn instance_number(name: &str) -> i64 {
    name.strip_prefix("run").and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A notice in the transcript that comes from the service, not from the agent.
pub fn notice(kind: NoticeKind, message: impl Into<String>) -> Body {
    Body::Notice(Notice { kind: kind.into(), message: message.into() })
}

struct Folder<'a> {
    state: &'a mut Fold,
    turn: Option<Running<'a>>,
    workspace: &'a str,
    out: Folded,
    /// Text gathered so far: the runtime instance, whether it is a thought, and the text.
    text: Option<(i64, bool, String)>,
    /// Index of the part of each tool call in [`Folded::parts`].
    calls: HashMap<String, usize>,
    /// Encoded bytes of the parts.
    bytes: usize,
}

impl Folder<'_> {
    fn is_full(&self) -> bool {
        self.bytes + self.text.as_ref().map_or(0, |(_, _, text)| text.len()) >= MAX_STRETCH
    }

    fn event(&mut self, event: &TapEvent) {
        let instance = instance_number(&event.instance);
        match &event.body {
            TapBody::Started { .. } => {
                self.end_block();
                self.forget_calls();
                self.state.down = false;
                self.state.replay = None;
                self.state.retelling = false;
                self.state.questions = 0;
                self.state.refused = 0;
                self.state.opening = None;
                self.state.setting.clear();
                self.out.news.push(News::Started);
            }
            TapBody::Exited { .. } => {
                self.end_block();
                self.state.down = true;
            }
            TapBody::Lost { reason, messages, bytes } => {
                let several = if *messages == 1 { "" } else { "s" };
                let count = match (messages, bytes) {
                    (0, _) => String::new(),
                    (_, 0) => format!(" ({messages} message{several})"),
                    _ => format!(" ({messages} message{several}, {bytes} bytes)"),
                };
                let text = format!("agent events are missing here{count}: {}", head(reason, 500).0);
                self.say(instance, notice(NoticeKind::EventsLost, text));
            }
            TapBody::Refused { .. } => {}
            TapBody::Message { direction, json } => {
                let id = format!("{}-{}", instance, event.offset);
                self.message(instance, &id, AcpEvent::parse(*direction, json.clone()));
            }
        }
    }

    fn message(&mut self, instance: i64, id: &str, message: AcpEvent) {
        if matches!(&message, AcpEvent::Asked { method, .. } if method == "session/prompt") {
            self.state.retelling = false;
            // Questions before this prompt, or of a turn whose end was never reported, do not count in this turn.
            self.state.questions = 0;
            self.state.refused = 0;
        }
        match message {
            AcpEvent::Asked { id, method, .. } if method == "session/prompt" && self.is_turn(&id) => {
                self.out.sent = true;
            }
            AcpEvent::Answered { id, result } if self.is_turn(&id) => self.ended(instance, result),
            AcpEvent::Asked { id, method, params } => self.we_asked(id, &method, &params),
            AcpEvent::Answered { id, result } => self.answered(&id, result),
            AcpEvent::Updated { update: Update::Raw { kind, value }, .. } if Offer::concerns(&kind) => {
                match Offer::usage_of(&kind, &value) {
                    Some(usage) => self.state.usage = Some(usage),
                    None => self.out.news.push(News::Update { kind, value }),
                }
            }
            AcpEvent::Updated { .. } if self.state.replay.is_some() || self.state.retelling => {}
            AcpEvent::Updated { update, .. } => self.updated(instance, id, update),
            AcpEvent::PermissionAsked { id: acp_id, tool_call, options, .. } => {
                self.permission(instance, id, acp_id, &tool_call, options);
            }
            AcpEvent::Other { method, id: Some(acp_id), params } if method == "elicitation/create" => {
                self.elicitation(instance, id, acp_id, &params);
            }
            AcpEvent::Other { method, id: Some(_), .. } => {
                let text = format!("the agent called {}, which is not supported", head(&method, 100).0);
                self.say(instance, notice(NoticeKind::UnknownEvent, text));
            }
            _ => {}
        }
    }

    fn we_asked(&mut self, id: Value, method: &str, params: &Value) {
        let replays = REPLAYS.contains(&method);
        if replays {
            self.state.replay = Some(id.clone());
            self.state.resuming = method == RESUME;
        }
        if replays || method == "session/new" {
            self.state.opening = Some(id);
        } else if let Some((option, value)) = SetOption::read(method, params) {
            self.state.setting.push(Setting { id, option, value });
            let most = self.state.setting.len().saturating_sub(MAX_SETTING);
            self.state.setting.drain(..most);
        }
    }

    fn answered(&mut self, id: &Value, result: Result<Value, RpcError>) {
        if self.state.replay.as_ref() == Some(id) {
            self.state.replay = None;
            self.state.retelling = result.is_ok() && !self.state.resuming;
        }
        if self.state.opening.as_ref() == Some(id) {
            self.state.opening = None;
            self.out.news.extend(result.ok().map(News::Opened));
        } else if let Some(at) = self.state.setting.iter().position(|s| s.id == *id) {
            let Setting { option, value, .. } = self.state.setting.remove(at);
            self.out.news.push(News::Set { option, value, result });
        }
    }

    /// A form for the person whose turn runs; one that cannot be shown is declined with a notice.
    fn elicitation(&mut self, instance: i64, id: &str, acp_id: Value, params: &Value) {
        let read = match self.turn {
            None => Err(OUTSIDE.to_owned()),
            Some(_) if self.state.questions >= MAX_QUESTIONS => {
                Err(format!("the limit of {MAX_QUESTIONS} questions per turn is reached"))
            }
            Some(_) => elicitation::read(params, &format!("form-{id}")),
        };
        match read {
            Ok(request) => {
                self.state.questions += 1;
                self.say(instance, Body::ElicitationRequest(request.clone()));
                self.out.elicited.push(Elicited { acp_id, request, part: self.out.parts.len() - 1 });
            }
            Err(why) => self.decline(instance, (acp_id, foundry_forms::declined()), &why),
        }
    }

    /// Declines a question without asking a person. The first [`MAX_REFUSALS`] of a turn get a notice.
    fn decline(&mut self, instance: i64, answer: (Value, Value), why: &str) {
        self.state.refused += 1;
        if self.state.refused <= MAX_REFUSALS {
            let more = if self.state.refused == MAX_REFUSALS { "; further ones are not shown" } else { "" };
            let text = format!("a question from the agent was declined: {why}{more}");
            self.say(instance, notice(NoticeKind::QuestionDeclined, text));
        }
        self.out.declined.push(answer);
    }

    fn is_turn(&self, id: &Value) -> bool {
        self.turn.is_some_and(|turn| id.as_str() == Some(turn.message_id))
    }

    fn updated(&mut self, instance: i64, id: &str, update: Update) {
        match update {
            Update::MessageChunk(chunk) => self.chunk(instance, id, false, &chunk),
            Update::ThoughtChunk(chunk) => self.chunk(instance, id, true, &chunk),
            Update::UserChunk(_) => {}
            Update::ToolCall(call) | Update::ToolCallUpdate(call) => self.tool(instance, id, &call),
            Update::Plan(entries) => {
                let entry = |e: &acp::PlanEntry| PlanEntry {
                    content: head(&e.content, 300).0.to_owned(),
                    priority: head(&e.priority, 20).0.to_owned(),
                    state: head(&e.status, 20).0.to_owned(),
                };
                let entries = entries.iter().take(30).map(entry).collect();
                self.say(instance, Body::Plan(Plan { entries }));
            }
            Update::Raw { kind, .. } => {
                let text = format!("the agent sent an unknown update: {}", head(&kind, 100).0);
                self.say(instance, notice(NoticeKind::UnknownEvent, text));
            }
        }
    }

    fn chunk(&mut self, instance: i64, id: &str, thought: bool, chunk: &acp::Chunk) {
        let words = chunk.content.text();
        if let Some(shown) = files::shown(&chunk.content) {
            self.end_block();
            self.file(instance, id.to_owned(), "", shown);
        }
        if words.is_empty() {
            return;
        }
        let goes_on = |b: &Block| {
            b.thought == thought && (chunk.message_id.is_empty() || b.message == chunk.message_id)
        };
        if !self.state.block.as_ref().is_some_and(goes_on) {
            self.end_block();
            let message = head(&chunk.message_id, 200).0.to_owned();
            self.state.block = Some(Block { id: id.to_owned(), thought, message, next_part: 0 });
        }
        let (kept, cut) = head(words, MAX_TEXT);
        match &mut self.text {
            Some((_, _, text)) => text.push_str(kept),
            None => self.text = Some((instance, thought, kept.to_owned())),
        }
        if cut {
            let (all, left_out) = (words.len(), words.len() - kept.len());
            let text = format!(
                "{left_out} of {all} bytes are left out here: the agent sent more text at once than fits"
            );
            self.say(instance, notice(NoticeKind::EventsLost, text));
        }
    }

    /// Emits the gathered text as parts; its block may continue.
    fn flush(&mut self) {
        let Some((instance, thought, text)) = self.text.take() else { return };
        for words in parts_of(&text, MAX_PART) {
            let text = words.to_owned();
            let body = match thought {
                true => Body::AgentThought(AgentThought { text }),
                false => Body::AgentMessage(AgentMessage { text }),
            };
            let (id, number) = match &mut self.state.block {
                Some(block) => {
                    block.next_part += 1;
                    (block.id.clone(), block.next_part - 1)
                }
                None => (String::new(), 0),
            };
            self.part(instance, id, number, body);
        }
    }

    fn end_block(&mut self) {
        self.flush();
        self.state.block = None;
    }

    fn say(&mut self, instance: i64, body: Body) {
        self.end_block();
        self.part(instance, String::new(), 0, body);
    }

    fn part(&mut self, instance: i64, block_id: String, part_number: i32, body: Body) {
        let part = TranscriptPart {
            message_id: self.turn.map(|turn| turn.message_id).unwrap_or_default().to_owned(),
            part_number,
            block_id,
            runtime_instance: instance,
            create_time: None,
            body: Some(body),
        };
        self.bytes += part.encoded_len();
        self.out.parts.push(part);
    }

    /// A file as a part of its own; its bytes are to be stored.
    fn file(&mut self, instance: i64, place: String, tool_call_id: &str, shown: files::Shown) {
        let part = self.out.parts.len();
        self.out.files.extend(shown.bytes.map(|bytes| ShownFile { part, place, bytes }));
        let body = AgentFile { attachment: Some(shown.attachment), tool_call_id: tool_call_id.to_owned() };
        self.part(instance, String::new(), 0, Body::AgentFile(body));
    }

    fn tool(&mut self, instance: i64, event: &str, call: &acp::ToolCall) {
        self.tool_part(instance, call);
        let id = head(&call.tool_call_id, 200).0.to_owned();
        for (n, content) in call.content.iter().flatten().enumerate() {
            let acp::ToolContent::Content { content } = content else { continue };
            // Each update of a call repeats its whole content: files shown before are not shown again.
            if let Some(shown) = files::shown(content).filter(|s| self.state.tools.is_news(&id, &s.mark)) {
                self.file(instance, format!("{event}/{n}"), &id, shown);
            }
        }
    }

    fn tool_part(&mut self, instance: i64, call: &acp::ToolCall) {
        self.end_block();
        let id = head(&call.tool_call_id, 200).0.to_owned();
        let (tool, number, done) = self.state.tools.update(&id, call, self.workspace);
        self.out.worked |= done;
        // Several updates of one call in one stretch become one part, which holds its last state.
        if let Some(part) = self.calls.get(&id).and_then(|at| self.out.parts.get_mut(*at)) {
            self.state.tools.merged(&id);
            self.bytes -= part.encoded_len();
            part.body = Some(Body::ToolCall(tool));
            self.bytes += part.encoded_len();
            return;
        }
        self.calls.insert(id.clone(), self.out.parts.len());
        self.part(instance, id, number, Body::ToolCall(tool));
    }

    /// Later calls with the same ids are others.
    fn forget_calls(&mut self) {
        self.state.tools = Tools::default();
        self.calls.clear();
    }

    fn permission(
        &mut self,
        instance: i64,
        id: &str,
        acp_id: Value,
        call: &acp::ToolCall,
        options: Vec<acp::PermissionOption>,
    ) {
        if self.turn.is_none() {
            let cancelled = json!({ "outcome": { "outcome": "cancelled" } });
            self.decline(instance, (acp_id, cancelled), OUTSIDE);
            return;
        }
        let option = |o: &acp::PermissionOption| PermissionOption {
            option_id: o.option_id.clone(),
            name: head(&o.name, 200).0.to_owned(),
            kind: head(&o.kind, 40).0.to_owned(),
        };
        let request = PermissionRequest {
            permission_id: format!("perm-{id}"),
            tool_call_id: head(&call.tool_call_id, 200).0.to_owned(),
            title: head(&self.state.tools.title(call), 500).0.to_owned(),
            options: options.iter().filter(|o| o.option_id.len() <= 200).take(10).map(option).collect(),
        };
        self.say(instance, Body::PermissionRequest(request.clone()));
        self.out.asked.push(Asked { acp_id, request, part: self.out.parts.len() - 1 });
    }

    fn ended(&mut self, instance: i64, result: Result<Value, RpcError>) {
        let mut ended = end_of(result);
        if ended.outcome() == TurnOutcome::Cancelled && !self.turn.is_some_and(|turn| turn.stop_asked) {
            // Some agents answer `cancelled` when their runtime goes away: nobody asked for this end.
            let text = "the agent ended the turn without being asked to";
            ended = end(TurnOutcome::Interrupted, "cancelled", "AGENT_STOPPED", text);
        }
        self.say(instance, Body::TurnEnd(ended.clone()));
        self.forget_calls();
        self.state.questions = 0;
        self.state.refused = 0;
        self.out.sent = true;
        self.out.ended = Some(ended);
        self.turn = None;
    }
}

/// Our requests during which an agent may repeat an earlier conversation.
const REPLAYS: [&str; 2] = ["session/load", RESUME];
/// Of these, the one that reopens a session without repeating its history.
const RESUME: &str = "session/resume";

/// Requests that set an option and may wait for their answers at the same time.
const MAX_SETTING: usize = 16;
/// Forms that an agent may send during one turn.
const MAX_QUESTIONS: u32 = 100;
/// Declined questions with a notice in the transcript, per turn.
const MAX_REFUSALS: u32 = 20;
/// Why a question outside of any turn is declined.
const OUTSIDE: &str = "no turn is running";

fn end(outcome: TurnOutcome, stop: &str, reason: &str, message: &str) -> TurnEnd {
    TurnEnd {
        outcome: outcome.into(),
        stop_reason: head(stop, 60).0.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        next_attempt_time: None,
    }
}

/// How a turn ended, by the answer to its prompt.
pub fn end_of(result: Result<Value, RpcError>) -> TurnEnd {
    let result = match result {
        Ok(result) => result,
        Err(e) => return end(TurnOutcome::Error, "", "AGENT_ERROR", head(&e.message, 1_000).0),
    };
    match stop_reason(&result) {
        StopReason::EndTurn => end(TurnOutcome::Completed, "end_turn", "", ""),
        StopReason::Cancelled => end(TurnOutcome::Cancelled, "cancelled", "", ""),
        StopReason::Refusal => {
            end(TurnOutcome::Refused, "refusal", "AGENT_REFUSED", "the agent refused the prompt")
        }
        StopReason::MaxTokens => {
            end(TurnOutcome::Error, "max_tokens", "AGENT_MAX_TOKENS", "the agent ran out of tokens")
        }
        StopReason::MaxTurnRequests => {
            let text = "the agent reached its limit of requests per turn";
            end(TurnOutcome::Error, "max_turn_requests", "AGENT_MAX_REQUESTS", text)
        }
        StopReason::Other(other) => end(TurnOutcome::Completed, &other, "", ""),
    }
}

#[cfg(test)]
mod tests;
