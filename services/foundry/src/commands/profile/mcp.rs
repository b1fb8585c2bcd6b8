//! Reads MCP servers from a JSON file in the format that agents use: `{"mcpServers": {"NAME": {…}}}`.

use std::collections::BTreeMap;
use std::path::Path;

use foundry_proto::common::v1::named_value::Content;
use foundry_proto::common::v1::{NamedValue, SecretText};
use foundry_proto::provisioner::v1::mcp_server::Transport;
use foundry_proto::provisioner::v1::{McpHttp, McpServer, McpStdio};
use serde::Deserialize;

use crate::failure::Failure;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<String, Server>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    command: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// The servers in a file. Values of `env` and `headers` become secrets.
///
/// # Errors
/// When the file has another format, or names a variable that is not set. No error contains a value.
pub fn read(path: &Path) -> Result<Vec<McpServer>, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::new(format!("{shown}: {e}")).exit(2))?;
    parse(&text, |name| std::env::var(name).ok())
        .map_err(|why| Failure::new(format!("{shown}: {why}")).exit(2))
}

fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<McpServer>, String> {
    // The parser's message could contain a value of the file: only the position is reported.
    let file: File = serde_json::from_str(text).map_err(|e| {
        format!(
            "line {}, column {} does not match {{\"mcpServers\": {{\"NAME\": {{\"command\": …, \"args\": […], \"env\": {{…}}}}}}}} \
             or {{\"type\": \"http\", \"url\": …, \"headers\": {{…}}}}",
            e.line(),
            e.column()
        )
    })?;
    let secrets = |list: BTreeMap<String, String>| {
        let secret = |(name, value): (String, String)| {
            let value = filled(&value, &variable)?;
            Ok(NamedValue { name, content: Some(Content::Secret(SecretText { value })) })
        };
        list.into_iter().map(secret).collect::<Result<Vec<_>, String>>()
    };
    file.servers
        .into_iter()
        .map(|(name, server)| {
            let transport = match server.kind.as_str() {
                "stdio" | "" if server.url.is_empty() => Transport::Stdio(McpStdio {
                    command: server.command,
                    args: server.args,
                    environment: secrets(server.env)?,
                }),
                "http" | "streamable-http" | "" => {
                    Transport::Http(McpHttp { url: server.url, headers: secrets(server.headers)? })
                }
                "sse" => Transport::Sse(McpHttp { url: server.url, headers: secrets(server.headers)? }),
                _ => return Err(format!("{name} has a type other than stdio, http and sse")),
            };
            Ok(McpServer { name, transport: Some(transport) })
        })
        .collect()
}

/// Replaces each `${VARIABLE}` in a text by its value.
fn filled(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        filled.push_str(before);
        filled.push_str(&variable(name).ok_or_else(|| format!("the variable {name} is not set"))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_servers_of_all_kinds_with_their_values_as_secrets() {
        let text = r#"{"mcpServers": {
            "db": {"command": "db-mcp", "args": ["-v"], "env": {"PASSWORD": "p"}},
            "web": {"type": "http", "url": "https://x/", "headers": {"authorization": "Bearer ${TOKEN}"}},
            "old": {"type": "sse", "url": "https://y/"}}}"#;
        let servers = parse(text, |name| (name == "TOKEN").then(|| "t".to_owned())).unwrap();
        let names: Vec<_> = servers.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["db", "old", "web"]);
        let Some(Transport::Http(web)) = &servers[2].transport else { panic!("{servers:?}") };
        let Some(Content::Secret(secret)) = &web.headers[0].content else { panic!("{web:?}") };
        assert_eq!(secret.value, "Bearer t");
        assert!(matches!(&servers[0].transport, Some(Transport::Stdio(s)) if s.args == ["-v"]));
    }

    #[test]
    fn says_where_a_file_is_wrong_without_its_values() {
        for text in [
            "canary",
            r#"{"mcpServers": {"a": {"command": "x", "env": {"K": ["canary"]}}}}"#,
            r#"{"mcpServers": {"a": {"command": "x", "token": "canary"}}}"#,
            r#"{"mcpServers": {"a": {"type": "canary", "url": "x"}}}"#,
            r#"{"mcpServers": {"a": {"command": "x", "env": {"K": "canary ${UNSET}"}}}}"#,
        ] {
            let why = parse(text, |_| None).unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
    }
}
