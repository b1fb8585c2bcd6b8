//! A forge for stories of the page: `forge-host DIRECTORY` serves the repositories below a directory, prints its addresses as
//! a line of JSON, and then obeys commands, one on each line of its input, until that ends. Each is an array of words, as in
//! `["check", "team/app", "feat/x", "unit tests", "passed"]`, and is answered by a line of JSON.

use std::io::{BufRead as _, Write as _};

use foundry_testkit::ForgeHost;
use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: forge-host DIRECTORY");
        std::process::exit(2);
    };
    let forge = ForgeHost::start(std::path::PathBuf::from(directory));
    let apis = json!({ "github": forge.api("v3"), "gitlab": forge.api("v4"), "gitea": forge.api("v1") });
    answer(&json!({ "origin": forge.git().origin(), "host": forge.host(), "apis": apis }))?;
    for line in std::io::stdin().lock().lines() {
        let words: Vec<String> = serde_json::from_str(&line?).unwrap_or_default();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        answer(&obey(&forge, &words))?;
    }
    Ok(())
}

fn answer(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

fn obey(forge: &ForgeHost, words: &[&str]) -> Value {
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    match *words {
        // The API wants the token, git the pair of user name and password in base64.
        ["require", token, pair] => forge.require(token, pair),
        ["check", repository, branch, name, end] => {
            let passed = match end {
                "passed" => Some(true),
                "failed" => Some(false),
                _ => None,
            };
            forge.check(repository, branch, name, passed);
        }
        ["review", repository, pull, reviewer, said] => {
            forge.review(repository, number(pull), reviewer, said)
        }
        ["comment", repository, pull, reviewer, path, line, text] => {
            let line = number(line).try_into().unwrap_or_default();
            forge.comment(repository, number(pull), reviewer, (path, line), text);
        }
        ["ask", repository, pull, reviewer] => forge.ask(repository, number(pull), reviewer),
        ["merge", repository, pull] => forge.merge(repository, number(pull)),
        ["open", repository, branch, base, title] => {
            return json!(forge.open_against(repository, branch, base, title, false));
        }
        ["pulls", repository] => return json!(forge.pull_requests(repository)),
        ["calls"] => return json!(forge.calls()),
        ["leave calls", count] => forge.leave_calls(number(count).try_into().unwrap_or_default()),
        ["hang", does] => forge.hang(does == "true"),
        _ => return json!({ "error": format!("unknown command {words:?}") }),
    }
    Value::Null
}
