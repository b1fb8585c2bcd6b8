//! The tools that an agent offers, under any names, and the call that performs a step.

use serde_json::{Map, Value, json};

use crate::script::Step;

const SHELLS: [&str; 8] = [
    "Bash",
    "bash",
    "run_shell_command",
    "exec_command",
    "shell_command",
    "local_shell",
    "shell",
    "execute_command",
];
const READERS: [&str; 3] = ["Read", "read", "read_file"];
const WRITERS: [&str; 4] = ["Write", "write", "write_file", "create_file"];
const EDITORS: [&str; 3] = ["Edit", "edit", "replace"];
const WHY: &str = "As the script says";

/// A tool that the agent offered in its request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) name: String,
    /// Its namespace, in OpenAI's Responses API.
    pub(crate) namespace: Option<String>,
    /// The JSON schema of its arguments; null for a plain-text tool.
    pub(crate) schema: Value,
    /// Whether its input is plain text.
    pub(crate) plain: bool,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) input: Input,
}

/// The input of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    Arguments(Value),
    Plain(String),
}

/// The call that performs a step; none if no offered tool can.
pub(crate) fn call(step: &Step, offers: &[Offer], directory: &str) -> Option<Call> {
    let path =
        |file: &str| if file.starts_with('/') { file.to_owned() } else { format!("{directory}/{file}") };
    match step {
        Step::Tool { name, args } => Some(named(name, args, offers)),
        Step::Run(command) => run(command, false, offers),
        Step::Ask(command) => run(command, true, offers),
        Step::Read(file) => match find(&READERS, offers) {
            Some(offer) => Some(fill(offer, &[(PATHS, json!(path(file)))])),
            None => run(&format!("cat {}", quoted(file)), false, offers),
        },
        Step::Write { file, text } => write(file, text, &path(file), offers),
        Step::Edit { file, old, new } => edit(file, (old, new), &path(file), offers),
        _ => None,
    }
}

const PATHS: &[&str] = &["file_path", "filePath", "path", "absolute_path"];

fn find<'a>(names: &[&str], offers: &'a [Offer]) -> Option<&'a Offer> {
    names.iter().find_map(|name| offers.iter().find(|offer| offer.name == *name))
}

fn named(name: &str, args: &Value, offers: &[Offer]) -> Call {
    let offer = offers.iter().find(|offer| offer.name == name);
    // Each agent puts the server's name in front of MCP tools in its own way.
    let of_server =
        |offer: &&Offer| offer.name.strip_suffix(name).is_some_and(|before| before.ends_with('_'));
    let offer = offer.or_else(|| offers.iter().find(of_server));
    let input = match args {
        Value::String(text) => Input::Plain(text.clone()),
        other => Input::Arguments(other.clone()),
    };
    let name = offer.map_or(name, |offer| &offer.name).to_owned();
    Call { name, namespace: offer.and_then(|offer| offer.namespace.clone()), input }
}

fn run(command: &str, ask: bool, offers: &[Offer]) -> Option<Call> {
    if let Some(code) = code_mode(offers) {
        let mut args = json!({"cmd": command});
        if ask {
            args["sandbox_permissions"] = json!("require_escalated");
            args["justification"] = json!(WHY);
        }
        return Some(plain(
            code,
            format!("const done = await tools.exec_command({args}); text(done.output);"),
        ));
    }
    let offer = find(&SHELLS, offers)?;
    let takes_list = ["command", "cmd"].iter().any(|p| offer.schema["properties"][p]["type"] == "array");
    let value = if takes_list { json!(["bash", "-lc", command]) } else { json!(command) };
    let mut wanted = vec![(&["command", "cmd"][..], value), (&["description"], json!(WHY))];
    if ask {
        wanted.push((&["sandbox_permissions"], json!("require_escalated")));
        wanted.push((&["justification"], json!(WHY)));
    }
    Some(fill(offer, &wanted))
}

fn write(file: &str, text: &str, path: &str, offers: &[Offer]) -> Option<Call> {
    if let Some(offer) = find(&WRITERS, offers) {
        return Some(fill(offer, &[(PATHS, json!(path)), (&["content", "contents"], json!(text))]));
    }
    let lines: String = text.lines().map(|line| format!("+{line}\n")).collect();
    if let Some(call) = patch(&format!("*** Add File: {file}\n{lines}"), offers) {
        return Some(call);
    }
    run(&format!("printf %s {} > {}", quoted(text), quoted(file)), false, offers)
}

fn edit(file: &str, (old, new): (&str, &str), path: &str, offers: &[Offer]) -> Option<Call> {
    if let Some(offer) = find(&EDITORS, offers) {
        let wanted = [
            (PATHS, json!(path)),
            (&["old_string", "oldString"], json!(old)),
            (&["new_string", "newString"], json!(new)),
            (&["instruction"], json!(WHY)),
        ];
        return Some(fill(offer, &wanted));
    }
    let prefixed =
        |sign: &str, text: &str| text.lines().map(|line| format!("{sign}{line}\n")).collect::<String>();
    let hunk = format!("*** Update File: {file}\n@@\n{}{}", prefixed("-", old), prefixed("+", new));
    if let Some(call) = patch(&hunk, offers) {
        return Some(call);
    }
    let (old, new) = (old.trim_end_matches('\n'), new.trim_end_matches('\n'));
    let program = "import sys; f, o, n = sys.argv[1:]; t = open(f).read(); assert o in t; open(f, 'w').write(t.replace(o, n, 1))";
    let words = [program, file, old, new].map(quoted).join(" ");
    run(&format!("python3 -c {words}"), false, offers)
}

/// A patch in Codex's form, if the agent has a tool for it.
fn patch(hunk: &str, offers: &[Offer]) -> Option<Call> {
    let patch = format!("*** Begin Patch\n{hunk}*** End Patch\n");
    if let Some(code) = code_mode(offers)
        && code.schema.to_string().contains("apply_patch")
    {
        return Some(plain(code, format!("text(await tools.apply_patch({}));", json!(patch))));
    }
    let offer = find(&["apply_patch"], offers)?;
    Some(if offer.plain { plain(offer, patch) } else { fill(offer, &[(&["input", "patch"], json!(patch))]) })
}

/// The tool that runs JavaScript, through which Codex's newer models call all others.
fn code_mode(offers: &[Offer]) -> Option<&Offer> {
    offers.iter().find(|offer| offer.plain && offer.name == "exec")
}

fn plain(offer: &Offer, text: String) -> Call {
    Call { name: offer.name.clone(), namespace: offer.namespace.clone(), input: Input::Plain(text) }
}

/// A call with the wanted arguments that the tool has, each under the first name that fits.
fn fill(offer: &Offer, wanted: &[(&[&str], Value)]) -> Call {
    let known = offer.schema["properties"].as_object();
    let mut args = Map::new();
    for (names, value) in wanted {
        let name = match known {
            Some(known) => names.iter().find(|name| known.contains_key(**name)),
            None => names.first(),
        };
        if let Some(name) = name {
            args.insert((*name).to_owned(), value.clone());
        }
    }
    let required = offer.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        let missing = &offer.schema["properties"][name];
        args.entry(name).or_insert_with(|| crate::schema::instance(missing));
    }
    Call {
        name: offer.name.clone(),
        namespace: offer.namespace.clone(),
        input: Input::Arguments(Value::Object(args)),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, properties: &Value, required: &Value) -> Offer {
        let schema = json!({"properties": properties, "required": required});
        Offer { name: name.to_owned(), namespace: None, schema, plain: false }
    }

    fn arguments(step: &Step, offers: &[Offer]) -> Value {
        match call(step, offers, "/w").unwrap().input {
            Input::Arguments(args) => args,
            Input::Plain(text) => json!(text),
        }
    }

    fn write() -> Step {
        Step::Write { file: "A.md".to_owned(), text: "it's\n".to_owned() }
    }

    #[test]
    fn a_file_is_written_with_the_tool_the_agent_has() {
        let claude =
            offer("Write", &json!({"file_path": {}, "content": {}}), &json!(["file_path", "content"]));
        assert_eq!(arguments(&write(), &[claude]), json!({"file_path": "/w/A.md", "content": "it's\n"}));
        let opencode = offer("write", &json!({"filePath": {}, "content": {}}), &json!([]));
        assert_eq!(arguments(&write(), &[opencode]), json!({"filePath": "/w/A.md", "content": "it's\n"}));
        let codex = offer("exec_command", &json!({"cmd": {"type": "string"}}), &json!(["cmd"]));
        assert_eq!(arguments(&write(), &[codex]), json!({"cmd": "printf %s 'it'\\''s\n' > 'A.md'"}));
        let mut patch = offer("apply_patch", &json!({}), &json!([]));
        patch.plain = true;
        let patch = arguments(&write(), &[patch]);
        assert_eq!(patch, json!("*** Begin Patch\n*** Add File: A.md\n+it's\n*** End Patch\n"));
    }

    #[test]
    fn a_command_runs_in_the_shell_the_agent_has() {
        let run = Step::Run("ls".to_owned());
        let list = offer("shell", &json!({"command": {"type": "array"}}), &json!(["command"]));
        assert_eq!(arguments(&run, &[list]), json!({"command": ["bash", "-lc", "ls"]}));
        let ask = Step::Ask("ls".to_owned());
        let codex = offer(
            "exec_command",
            &json!({"cmd": {}, "sandbox_permissions": {}, "justification": {}}),
            &json!([]),
        );
        assert_eq!(arguments(&ask, &[codex])["sandbox_permissions"], "require_escalated");
        let code = Offer {
            name: "exec".to_owned(),
            namespace: Some("functions".to_owned()),
            schema: Value::Null,
            plain: true,
        };
        let code = call(&run, &[code], "/w").unwrap();
        assert_eq!(code.namespace.as_deref(), Some("functions"));
        assert_eq!(
            code.input,
            Input::Plain(
                r#"const done = await tools.exec_command({"cmd":"ls"}); text(done.output);"#.to_owned()
            )
        );
        assert_eq!(call(&run, &[], "/w"), None);
    }

    #[test]
    fn what_a_tool_demands_besides_is_made_up() {
        let replace = offer(
            "replace",
            &json!({"file_path": {}, "old_string": {}, "new_string": {}, "instruction": {}, "count": {"type": "integer"}}),
            &json!(["file_path", "instruction", "old_string", "new_string", "count"]),
        );
        let step = Step::Edit { file: "/x".to_owned(), old: "a".to_owned(), new: "b".to_owned() };
        let args = arguments(&step, &[replace]);
        assert_eq!(
            args,
            json!({"file_path": "/x", "old_string": "a", "new_string": "b", "instruction": WHY, "count": 1})
        );
    }
}
