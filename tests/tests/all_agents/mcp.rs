//! A tool of an MCP server over HTTP, called by each agent through the model gateway.

use std::path::Path;
use std::time::Instant;

use foundry_proto::common::v1::TurnOutcome;
use foundry_scripted_model::{Script, Step};
use foundry_tests::McpServer;
use foundry_tests::agents::{Agent, Workplace, mcp_canary};
use foundry_tests::story::turn_ends;
use serde_json::{Value, json};

use super::Trial;

/// Requests with the secret that the server must have received.
const ASKED: [&str; 3] =
    ["POST /mcp initialize", "POST /mcp the-session tools/list", "POST /mcp the-session tools/call"];

/// The steps by which a model calls the server's tool. Some agents announce the tools of MCP servers by name only; the
/// model must look a tool up before it calls it.
fn stamps(agent: Agent) -> Vec<Step> {
    let step = |name: &str, args: Value| Step::Tool { name: name.to_owned(), args };
    let (words, whole) = (json!({ "words": "a letter" }), "mcp__stamps__stamp");
    let search = json!({ "query": format!("select:{whole}"), "max_results": 1 });
    match agent.name {
        "claude" => vec![step("ToolSearch", search), step(whole, words)],
        "qwen" => {
            let call = json!({ "name": whole, "arguments": words });
            vec![step("tool_search", search), step("tool_call", call)]
        }
        _ => vec![step("stamp", words)],
    }
}

/// The agent finds the tool, calls it after a user has allowed that, and passes its answer to the model. The server's
/// secret, which the gateway adds, never appears in the sandbox, and the agent's token does not reach the server.
pub(super) async fn calls_a_tool(agent: Agent) {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    let secret = mcp_canary();
    let server = McpServer::start(&secret).await;
    // The server runs on the host, which sandboxes must not reach directly.
    let hosts = format!("provisioner.mcp_hosts=[\"{}\"]", server.place());
    let mut place = Workplace::start_with(agent, &tools, &[&hosts]).await;
    place.add_mcp_server("stamps", &format!("http://{}/mcp", server.place()), &secret).await;
    let begun = Instant::now();
    let steps = stamps(agent).into_iter().chain([Step::Say("All is stamped.".to_owned())]);
    let work = place.begin(&Script::new(steps)).await;
    let mut trial = Trial { agent, place, work, turns: 1, wrong: Vec::new() };
    let (entries, asked) = trial.place.finish(&trial.work, 1).await;
    trial.time("tool of an MCP server", begun);
    let end = turn_ends(&entries).pop().unwrap();
    trial.check(end.outcome() == TurnOutcome::Completed, format!("the turn: {end:?}"));
    trial.check(asked == 1, format!("asked {asked} times for permission"));

    let answered = trial.place.model.all().requests().iter().any(|r| r.holds("stamped: a letter"));
    trial.check(answered, "no request to the model holds the tool's answer");
    let seen = server.seen();
    let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = seen.iter().map(words).collect();
    for wanted in ASKED {
        trial.check(lines.iter().any(|line| line == wanted), format!("{wanted} is not among {lines:#?}"));
    }
    let headers = server.headers();
    let token = format!("{}.", trial.work.session_id);
    trial.check(!headers.contains(&token), format!("the agent's token reaches the server: {headers}"));
    trial.keeps_the_key_outside();
    trial.is_right();
}
