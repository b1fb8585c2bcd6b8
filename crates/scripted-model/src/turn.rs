//! Determines the answer: the script, and the conversation's position in it.

use std::time::Duration;

use serde_json::Value;

use crate::fault::Fault;
use crate::offer::{self, Call, Input, Offer};
use crate::schema;
use crate::script::{Script, Step};

/// An item of a conversation that affects the script's position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// Text of the user, or of the agent on the user's behalf.
    Words(String),
    /// The result of a tool call.
    Result,
}

/// A request, parsed from any provider's form.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Whether the last piece of a stream must report usage.
    pub(crate) stream_usage: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) offers: Vec<Offer>,
    /// The JSON schema that the answer must conform to.
    pub(crate) form: Option<Value>,
    /// All text, to find the working directory in it.
    pub(crate) everything: String,
}

/// A piece of an answer's text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Words(String),
    Pace(Duration),
    Wait(Duration),
    Hold(String),
    /// This many bytes of text.
    Flood(u64),
}

/// The content of the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) thought: String,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) call: Option<Call>,
    pub(crate) fault: Option<Fault>,
}

/// For the next fault of a step that fails a number of times: whether it must still fail.
pub(crate) type StillFails<'a> = &'a dyn Fn(Option<u32>) -> bool;

impl Conversation {
    /// The answer by the script in the newest prompt that has one, or else by `otherwise`.
    pub(crate) fn answer(&self, otherwise: Option<&Script>, still_fails: StillFails<'_>) -> Answer {
        if let Some(form) = &self.form {
            return Answer::words(&schema::instance(form).to_string());
        }
        let prompt =
            self.items.iter().rposition(|item| matches!(item, Item::Words(w) if Script::find(w).is_some()));
        let found = match (prompt.map(|at| &self.items[at]), self.offers.is_empty()) {
            (Some(Item::Words(words)), false) => Script::find(words),
            _ => None,
        };
        match (found, otherwise) {
            (Some(Ok(script)), _) => self.play(&script, self.results_after(prompt), still_fails),
            (Some(Err(why)), _) => Answer::words(&format!("The script cannot be read: {why}")),
            (None, Some(script)) => self.play(script, self.results_after(self.last_words()), still_fails),
            (None, None) if self.offers.is_empty() => Answer::words("Scripted session"),
            (None, None) => Answer::words("This model plays scripts, and the prompt has none."),
        }
    }

    /// Identifies a request across its retries, although the agent puts the number of the attempt into it.
    pub(crate) fn place(&self) -> Vec<u8> {
        let mut place = Vec::new();
        for item in &self.items {
            match item {
                Item::Words(words) => place.extend_from_slice(words.as_bytes()),
                Item::Result => place.push(0),
            }
        }
        place
    }

    fn results_after(&self, item: Option<usize>) -> usize {
        let from = item.map_or(0, |at| at + 1);
        self.items[from..].iter().filter(|item| **item == Item::Result).count()
    }

    fn last_words(&self) -> Option<usize> {
        self.items.iter().rposition(|item| matches!(item, Item::Words(_)))
    }

    fn play(&self, script: &Script, results: usize, still_fails: StillFails<'_>) -> Answer {
        let mut answer = Answer::default();
        let mut position = 0;
        for step in &script.steps {
            if step.is_call() {
                if position == results {
                    match offer::call(step, &self.offers, self.directory()) {
                        Some(call) => answer.call = Some(call),
                        None => answer.pieces.push(Piece::Words(format!("(No tool fits {step:?}.)"))),
                    }
                    return answer;
                }
                position += 1;
            } else if position == results && answer.take(step, still_fails) {
                return answer;
            }
        }
        if answer == Answer::default() {
            answer = Answer::words("Done.");
        }
        answer
    }

    /// The working directory that the agent named in the prompt; `.` if none is found.
    fn directory(&self) -> &str {
        const MARKS: [&str; 4] =
            ["<cwd>", "orking directory: ", "orkspace Directories:**\n  - ", "in the directory: "];
        let tail = MARKS.iter().find_map(|mark| self.everything.split_once(mark).map(|(_, tail)| tail));
        let path = tail.map(|tail| tail.split(['\n', '<', '"', '`']).next().unwrap_or_default().trim());
        path.filter(|path| path.starts_with('/')).unwrap_or(".")
    }
}

impl Answer {
    /// An answer of text alone.
    pub(crate) fn words(text: &str) -> Self {
        Self { pieces: vec![Piece::Words(text.to_owned())], ..Self::default() }
    }

    /// Adds a step that is not a call; true if the answer ends with it.
    fn take(&mut self, step: &Step, still_fails: StillFails<'_>) -> bool {
        match step {
            Step::Say(words) => self.pieces.push(Piece::Words(words.clone())),
            Step::Think(words) => self.thought.push_str(words),
            Step::Slow(pace) => self.pieces.push(Piece::Pace(*pace)),
            Step::Wait(time) => self.pieces.push(Piece::Wait(*time)),
            Step::Hold(name) => self.pieces.push(Piece::Hold(name.clone())),
            Step::Flood(bytes) => self.pieces.push(Piece::Flood(*bytes)),
            Step::Fail { fault, times } if still_fails(*times) => {
                self.fault = Some(*fault);
                return true;
            }
            _ => {}
        }
        false
    }

    /// Whether the answer has any text.
    pub(crate) fn has_words(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Words(_) | Piece::Flood(_)))
    }

    /// All text except that of a flood.
    pub(crate) fn text(&self) -> String {
        let words = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Words(words) => Some(words.as_str()),
            _ => None,
        });
        words.collect()
    }

    /// The number of bytes that the model has generated.
    pub(crate) fn bytes(&self) -> u64 {
        let call = match self.call.as_ref().map(|call| &call.input) {
            Some(Input::Arguments(args)) => args.to_string().len(),
            Some(Input::Plain(text)) => text.len(),
            None => 0,
        };
        let flood = self.pieces.iter().map(|piece| if let Piece::Flood(bytes) = piece { *bytes } else { 0 });
        (self.thought.len() + self.text().len() + call) as u64 + flood.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shell() -> Offer {
        Offer { name: "Bash".to_owned(), namespace: None, schema: json!({}), plain: false }
    }

    fn conversation(items: Vec<Item>) -> Conversation {
        Conversation { items, offers: vec![shell()], ..Conversation::default() }
    }

    fn words(text: &str) -> Item {
        Item::Words(text.to_owned())
    }

    fn always(_: Option<u32>) -> bool {
        true
    }

    fn command(answer: &Answer) -> Option<&str> {
        match &answer.call.as_ref()?.input {
            Input::Arguments(args) => args["command"].as_str(),
            Input::Plain(_) => None,
        }
    }

    #[test]
    fn the_results_since_the_prompt_are_the_position_in_the_script() {
        let prompt = words("<script>say Begin.\nrun one\nsay Go on.\nrun two\nsay End.</script>");
        let mut items = vec![words("before"), Item::Result, prompt];
        let first = conversation(items.clone()).answer(None, &always);
        assert_eq!((first.text().as_str(), command(&first)), ("Begin.", Some("one")));
        items.extend([Item::Result, words("a reminder of the agent")]);
        let second = conversation(items.clone()).answer(None, &always);
        assert_eq!((second.text().as_str(), command(&second)), ("Go on.", Some("two")));
        items.push(Item::Result);
        let last = conversation(items).answer(None, &always);
        assert_eq!((last.text().as_str(), command(&last)), ("End.", None));
    }

    #[test]
    fn the_newest_script_counts() {
        let items = vec![words("<script>run old</script>"), Item::Result, words("<script>run new</script>")];
        assert_eq!(command(&conversation(items).answer(None, &always)), Some("new"));
    }

    #[test]
    fn a_request_without_tools_gets_words() {
        let mut title = conversation(vec![words("Name this: <script>hang</script>")]);
        title.offers.clear();
        assert_eq!(title.answer(None, &always), Answer::words("Scripted session"));
        title.form = Some(json!({"type": "object", "required": ["title"], "properties": {"title": {}}}));
        assert_eq!(title.answer(None, &always), Answer::words(r#"{"title":"scripted"}"#));
    }

    #[test]
    fn a_fault_ends_the_answer_until_it_has_failed_often_enough() {
        let items = vec![words("<script>say a\nfail 500 times 1\nsay b</script>")];
        let failing = conversation(items.clone()).answer(None, &|times| times == Some(1));
        assert_eq!((failing.text().as_str(), failing.fault), ("a", Some(Fault::Failing { status: 500 })));
        let well = conversation(items).answer(None, &|_| false);
        assert_eq!((well.text().as_str(), well.fault), ("ab", None));
    }

    #[test]
    fn the_directory_is_found_as_each_agent_tells_it() {
        for prompt in [
            " - Primary working directory: /a/b\n - Is a git repository",
            "<cwd>/a/b</cwd>",
            "<env>\n  Working directory: /a/b\n",
            "- **Workspace Directories:**\n  - /a/b\n- **Directory",
            "I'm currently working in the directory: /a/b\nHere",
        ] {
            let conversation = Conversation { everything: prompt.to_owned(), ..Conversation::default() };
            assert_eq!(conversation.directory(), "/a/b", "{prompt}");
        }
    }
}
