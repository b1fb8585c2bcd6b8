//! Scripts for the model: a list of steps between `<script>` and `</script>` in the prompt.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::Fault;
use crate::span;

const OPEN: &str = "<script>";
const CLOSE: &str = "</script>";

/// One step. As JSON `{"say": "words"}`, as a line `say words`; see [`Script`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Text of the answer. Text and the next tool call go out in one answer.
    Say(String),
    /// Text of the model's reasoning.
    Think(String),
    /// Run a command with the shell that the agent offers.
    Run(String),
    /// As `Run`, and request a user's permission where the agent lets the model request it (Codex).
    Ask(String),
    /// Read a file with the agent's own tool.
    Read(String),
    /// Write a file with the agent's own tool, or with its shell if it offers none.
    Write {
        /// Path, relative to the working directory.
        file: String,
        /// The whole content.
        text: String,
    },
    /// Replace a piece of a file.
    Edit {
        /// Path, relative to the working directory.
        file: String,
        /// The present text, which occurs once.
        old: String,
        /// The new text.
        new: String,
    },
    /// Call the tool of this name with these arguments, whether offered or not; for a tool of an MCP server, the
    /// agent's prefix may be left out.
    Tool {
        /// The tool's name.
        name: String,
        /// Its arguments: an object, or a string for a plain-text tool.
        #[serde(default)]
        args: Value,
    },
    /// Set the time between words for the rest of this answer.
    Slow(#[serde(with = "span")] Duration),
    /// Pause for this time, with the stream open.
    Wait(#[serde(with = "span")] Duration),
    /// Pause until the test releases this name ([`crate::ScriptedModel::release`]).
    Hold(String),
    /// Send this many bytes of text as fast as they are read.
    Flood(u64),
    /// Fail instead of continuing.
    Fail {
        /// The kind of failure.
        fault: Fault,
        /// How many requests with the same key fail at this step before the script continues; without it, all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        times: Option<u32>,
    },
}

impl Step {
    /// Whether an agent answers this step with a tool's result, which advances the script's position.
    pub(crate) fn is_call(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Ask(_)
                | Self::Read(_)
                | Self::Write { .. }
                | Self::Edit { .. }
                | Self::Tool { .. }
        )
    }
}

/// Steps in order. As text either a JSON array of steps or one step a line:
///
/// ```text
/// say WORDS · think WORDS · run COMMAND · ask COMMAND · read FILE · write FILE: TEXT
/// edit FILE: OLD => NEW · tool NAME {"json": "arguments"} · slow 50ms · wait 2s · hold NAME
/// flood 200MB · hang · fail 401 · fail 429 2s · fail 500 times 1 · fail cut
/// ```
///
/// In WORDS, TEXT, OLD and NEW of a line `\n` is a line break.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Script {
    /// The steps, in the order they are performed.
    pub steps: Vec<Step>,
}

impl Script {
    /// A script of these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// The script with its markers, as part of a prompt.
    pub fn in_prompt(&self) -> String {
        // Steps are strings, numbers and JSON values, so serializing cannot fail.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{OPEN}{json}{CLOSE}")
    }

    /// The last script in a text; none if there is none.
    ///
    /// # Errors
    /// A message, when the text between the markers is not a script.
    pub fn find(text: &str) -> Option<Result<Self, String>> {
        let end = text.rfind(CLOSE)?;
        let start = text[..end].rfind(OPEN)? + OPEN.len();
        Some(Self::read(&text[start..end]))
    }

    /// Parses a script without its markers.
    ///
    /// # Errors
    /// A message naming the step that is not valid.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with('[') {
            return serde_json::from_str(text).map_err(|e| e.to_string());
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(Self { steps: lines.map(line).collect::<Result<_, _>>()? })
    }
}

fn line(line: &str) -> Result<Step, String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let none = || format!("`{line}` is no step");
    let rest = rest.trim_start();
    Ok(match verb {
        "say" => Step::Say(unescaped(rest)),
        "think" => Step::Think(unescaped(rest)),
        "run" => Step::Run(rest.to_owned()),
        "ask" => Step::Ask(rest.to_owned()),
        "read" => Step::Read(rest.to_owned()),
        "write" => {
            let (file, text) = rest.split_once(": ").ok_or_else(none)?;
            Step::Write { file: file.to_owned(), text: unescaped(text) }
        }
        "edit" => {
            let (file, change) = rest.split_once(": ").ok_or_else(none)?;
            let (old, new) = change.split_once(" => ").ok_or_else(none)?;
            Step::Edit { file: file.to_owned(), old: unescaped(old), new: unescaped(new) }
        }
        "tool" => {
            let (name, args) = rest.split_once(' ').unwrap_or((rest, "{}"));
            let args = serde_json::from_str(args).map_err(|e| format!("{}: {e}", none()))?;
            Step::Tool { name: name.to_owned(), args }
        }
        "slow" => Step::Slow(span::read(rest).ok_or_else(none)?),
        "wait" => Step::Wait(span::read(rest).ok_or_else(none)?),
        "hold" => Step::Hold(rest.to_owned()),
        "flood" => Step::Flood(bytes(rest).ok_or_else(none)?),
        "hang" => Step::Fail { fault: Fault::Silent, times: None },
        "fail" => fail(rest).map_err(|e| format!("{}: {e}", none()))?,
        _ => return Err(none()),
    })
}

fn fail(text: &str) -> Result<Step, String> {
    let (fault, times) = match text.split_once(" times ") {
        Some((fault, times)) => {
            (fault, Some(times.trim().parse().map_err(|_| format!("`{times}` is no number"))?))
        }
        None => (text, None),
    };
    Ok(Step::Fail { fault: fault.parse()?, times })
}

fn bytes(text: &str) -> Option<u64> {
    let (count, size) = match (text.strip_suffix("MB"), text.strip_suffix("KB")) {
        (Some(count), _) => (count, 1_000_000),
        (_, Some(count)) => (count, 1_000),
        _ => (text, 1),
    };
    count.trim().parse::<u64>().ok()?.checked_mul(size)
}

fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_and_json_say_the_same() {
        let lines = Script::read(
            "say Looking round.\n run ls -la\n write A.md: one\\ntwo\\n\n edit A.md: one => 1\n ask touch /x\n\
             tool Glob {\"pattern\":\"*\"}\n slow 50ms\n wait 2s\n hold here\n flood 200MB\n fail 429 2s times 1\n hang",
        );
        let json = Script::read(
            r#"[{"say":"Looking round."},{"run":"ls -la"},{"write":{"file":"A.md","text":"one\ntwo\n"}},
            {"edit":{"file":"A.md","old":"one","new":"1"}},{"ask":"touch /x"},
            {"tool":{"name":"Glob","args":{"pattern":"*"}}},{"slow":"50ms"},{"wait":"2s"},{"hold":"here"},
            {"flood":200000000},{"fail":{"fault":"429 2s","times":1}},{"fail":{"fault":"silent"}}]"#,
        );
        assert_eq!(lines.unwrap(), json.unwrap());
    }

    #[test]
    fn a_script_is_found_again_in_its_prompt() {
        let script = Script::new([
            Step::Tool { name: "x".to_owned(), args: json!({"a": [1]}) },
            Step::Fail { fault: Fault::Cut, times: None },
        ]);
        let prompt = format!("Earlier: <script>say no</script>. Now {} please", script.in_prompt());
        assert_eq!(Script::find(&prompt), Some(Ok(script)));
        assert_eq!(Script::find("no script </script> here"), None);
    }

    #[test]
    fn says_which_step_is_none() {
        assert_eq!(Script::read("say a\nsing b").unwrap_err(), "`sing b` is no step");
        assert!(Script::read(r#"[{"sing":"b"}]"#).unwrap_err().contains("sing"));
        Script::read("fail 429 soon").unwrap_err();
        Script::read("write A.md").unwrap_err();
    }
}
