//! From a prompt to a [`Script`]: one instruction per line or sentence; what is no instruction is
//! an [`Instruction::Answer`], and a prompt without any instruction is a note in the README.

use super::words::{
    after, after_any, count, name, number, only_name, sentence, skip, unquoted, without_bullet,
    without_courtesy,
};
use super::{Edit, Instruction, Script, Step};

/// The most files one instruction creates, and the most chunks and KiB it sends.
const MAX_FILES: usize = 10_000;
const MAX_CHUNKS: usize = 1_000_000;
const MAX_KIB: usize = 4096;
const MAX_ASKS: usize = 50;
const MAX_TOKENS: usize = 10_000_000;
const MAX_WAIT_MILLIS: f64 = 86_400_000.0;

/// Reads a prompt.
pub(crate) fn read(prompt: &str) -> Script {
    let mut reader = Reader::default();
    let mut lines = prompt.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("```") {
            reader.prose(line.trim());
            for line in lines.by_ref().take_while(|l| !l.trim_start().starts_with("```")) {
                reader.prose(line);
            }
            continue;
        }
        reader.line(line);
        if reader.wants_block && lines.peek().is_some_and(|l| l.trim_start().starts_with("```")) {
            lines.next();
            let block: String = lines
                .by_ref()
                .take_while(|l| !l.trim_start().starts_with("```"))
                .flat_map(|l| [l, "\n"])
                .collect();
            reader.block(block);
        }
    }
    reader.finish(prompt)
}

/// The meaning of a piece of text.
enum Found {
    Step(Instruction),
    /// Ask for permission before this one.
    Asked(Instruction),
    Plan(Vec<String>),
    Slow(bool),
}

#[derive(Default)]
struct Reader {
    script: Script,
    prose: Vec<String>,
    instructed: bool,
    slow: bool,
    /// The last step is a `write` or `append` that may take a fenced block as its content.
    wants_block: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        self.wants_block = false;
        let mut rest = without_bullet(line);
        while !rest.is_empty() {
            match instruction(without_courtesy(rest)) {
                Some((found, after)) => {
                    self.found(found);
                    rest = after.trim_start_matches(['.', ',', ';', '!', ' ', '\t']);
                }
                None => {
                    let (_, after) = sentence(rest);
                    self.prose(rest[..rest.len() - after.len()].trim_end());
                    rest = after;
                }
            }
        }
    }

    fn prose(&mut self, text: &str) {
        self.prose.push(text.to_owned());
    }

    fn flush_prose(&mut self) {
        let text = std::mem::take(&mut self.prose).join("\n");
        if !text.trim().is_empty() {
            self.push(Instruction::Answer(text), false);
        }
    }

    fn push(&mut self, instruction: Instruction, ask: bool) {
        self.script.steps.push(Step { instruction, ask, slow: self.slow });
    }

    fn found(&mut self, found: Found) {
        self.flush_prose();
        self.instructed = true;
        let (instruction, ask) = match found {
            Found::Slow(slow) => {
                self.slow = slow;
                return;
            }
            Found::Plan(steps) => {
                self.script.plan = Some(steps);
                return;
            }
            Found::Step(instruction) => (instruction, false),
            Found::Asked(instruction) => (instruction, true),
        };
        self.wants_block = matches!(&instruction,
            Instruction::Edit(Edit::Write { content, .. } | Edit::Append { content, .. }) if content.is_empty());
        self.push(instruction, ask);
    }

    fn block(&mut self, block: String) {
        self.wants_block = false;
        if let Some(Step {
            instruction: Instruction::Edit(Edit::Write { content, .. } | Edit::Append { content, .. }),
            ..
        }) = self.script.steps.last_mut()
        {
            *content = block;
        }
    }

    fn finish(mut self, prompt: &str) -> Script {
        let prompt = prompt.trim();
        if self.instructed {
            self.flush_prose();
        } else if prompt.is_empty() || prompt.ends_with('?') {
            self.push(Instruction::Help, false);
        } else {
            self.push(Instruction::Note { prompt: prompt.to_owned() }, false);
            self.push(Instruction::Introduce, false);
        }
        if self.script.steps.is_empty() {
            // Only a plan: its steps are reported as done one by one.
            for step in self.script.plan.clone().unwrap_or_default() {
                self.push(Instruction::Say(format!("{step}: done.")), false);
            }
        }
        self.script
    }
}

/// The instruction at the start of `text`, and what comes after it.
fn instruction(text: &str) -> Option<(Found, &str)> {
    command(text).or_else(|| asked(text)).or_else(|| whole_line(text)).or_else(|| {
        if let Some((rest, slow)) = pace(text) {
            return Some((Found::Slow(slow), rest));
        }
        let (head, rest) = sentence(text);
        one_sentence(head.trim()).map(|instruction| (Found::Step(instruction), rest))
    })
}

/// A command of the agent, as it offers them to clients.
fn command(text: &str) -> Option<(Found, &str)> {
    let rest = text.strip_prefix('/')?;
    if let Some(steps) = after(rest, "plan") {
        let plan = format!("plan:{steps}");
        let (Found::Plan(steps), _) = whole_line(&plan)? else { return None };
        return Some((Found::Plan(steps), ""));
    }
    let named =
        [("help", Instruction::Help), ("form", Instruction::Form), ("settings", Instruction::ShowSettings)];
    named.into_iter().find_map(|(name, found)| after(rest, name).map(|rest| (Found::Step(found), rest)))
}

fn pace(text: &str) -> Option<(&str, bool)> {
    const SLOW: &[&str] =
        &["slowly", "go slowly", "work slowly", "speak slowly", "answer slowly", "take your time"];
    const QUICK: &[&str] = &["quickly", "go quickly", "work quickly", "speak quickly", "answer quickly"];
    let (rest, slow) = after_any(text, SLOW)
        .map(|rest| (rest, true))
        .or_else(|| after_any(text, QUICK).map(|rest| (rest, false)))?;
    let rest = rest.trim_start_matches(['.', ',', ':', '!', ' ']);
    (rest.is_empty() || instruction(without_courtesy(rest)).is_some()).then_some((rest, slow))
}

/// `ask permission to …`, `ask before …`, `ask for N permissions at once`, `ask for permission`.
fn asked(text: &str) -> Option<(Found, &str)> {
    let ask = after(text, "ask").map(|rest| skip(rest, &["me"]))?;
    if let Some((asks, rest)) = count(skip(ask, &["for"])) {
        let rest = after_any(rest, &["permissions at once", "permissions"])?;
        let reason = "go on".to_owned();
        return Some((Found::Step(Instruction::Ask { reason, count: asks.min(MAX_ASKS) }), rest));
    }
    let permission = after_any(ask, &["for permission", "permission"]);
    let wanted = match permission {
        Some(rest) => after_any(rest, &["to", "before you", "before"]).unwrap_or(rest),
        None => after_any(ask, &["before you", "before"])?,
    };
    let wanted = wanted.trim_start();
    let plain = without_gerund(wanted);
    let inner = whole_line(&plain).or_else(|| {
        let (head, rest) = sentence(&plain);
        one_sentence(head.trim()).map(|instruction| (Found::Step(instruction), rest))
    });
    if let Some((Found::Step(instruction), rest)) = inner {
        // `plain` differs from the text only at its start, so `rest` has the same length in both.
        return Some((Found::Asked(instruction), &text[text.len() - rest.len()..]));
    }
    let (reason, rest) = sentence(wanted);
    let reason = if reason.trim().is_empty() { "go on" } else { reason.trim() };
    permission
        .is_some()
        .then(|| (Found::Step(Instruction::Ask { reason: reason.to_owned(), count: 1 }), rest))
}

/// `running make` as `run make`.
fn without_gerund(text: &str) -> String {
    const VERBS: &[(&str, &str)] = &[
        ("running", "run"),
        ("writing", "write"),
        ("appending", "append"),
        ("replacing", "replace"),
        ("deleting", "delete"),
        ("renaming", "rename"),
        ("creating", "create"),
        ("reading", "read"),
        ("waiting", "wait"),
        ("streaming", "stream"),
        ("moving", "move"),
        ("saying", "say"),
    ];
    let plain =
        VERBS.iter().find_map(|(gerund, verb)| after(text, gerund).map(|rest| format!("{verb}{rest}")));
    plain.unwrap_or_else(|| text.to_owned())
}

/// The instructions that take the rest of the line as it is.
fn whole_line(text: &str) -> Option<(Found, &str)> {
    let step = |instruction| Some((Found::Step(instruction), ""));
    if let Some(rest) = after(text, "say") {
        let said = unquoted(rest.trim_start().trim_start_matches(':'));
        return (!said.is_empty()).then(|| (Found::Step(Instruction::Say(said.to_owned())), ""));
    }
    if let Some(rest) = after(text, "think").map(|rest| unquoted(rest.trim_start_matches(':'))) {
        return (!rest.is_empty()).then(|| (Found::Step(Instruction::Think(rest.to_owned())), ""));
    }
    if let Some(rest) = after(text, "plan").and_then(|rest| rest.strip_prefix(':')) {
        let steps: Vec<String> = rest
            .split(';')
            .map(|s| s.trim().trim_end_matches('.').to_owned())
            .filter(|s| !s.is_empty())
            .collect();
        return (!steps.is_empty()).then_some((Found::Plan(steps), ""));
    }
    if let Some(rest) = after(text, "title").and_then(|rest| rest.strip_prefix(':')) {
        return step(Instruction::Title { title: unquoted(rest).to_owned() });
    }
    if let Some(rest) = after(text, "run") {
        return run(rest.trim_start().trim_start_matches(':').trim());
    }
    if let Some((file, content)) = after_any(text, &["write", "create"]).and_then(file_and_content) {
        return step(Instruction::Edit(Edit::Write { file, content }));
    }
    if let Some((file, content)) = after(text, "append").and_then(file_and_content) {
        return step(Instruction::Edit(Edit::Append { file, content }));
    }
    None
}

fn run(command: &str) -> Option<(Found, &str)> {
    // "Run the tests" is a request in prose, not a command line.
    const WISHES: &[&str] =
        &["the", "a", "an", "all", "some", "this", "these", "my", "your", "our", "it", "every"];
    if command.is_empty() || after_any(command, WISHES).is_some() {
        return None;
    }
    if let Some((quoted, rest)) = command.strip_prefix('`').and_then(|c| c.split_once('`')) {
        let command = quoted.to_owned();
        return (!quoted.is_empty())
            .then_some((Found::Step(Instruction::Run { command }), rest.trim_start()));
    }
    Some((Found::Step(Instruction::Run { command: command.to_owned() }), ""))
}

/// `FILE: CONTENT`; the content ends with a line end, and is empty where nothing follows the colon.
fn file_and_content(text: &str) -> Option<(String, String)> {
    let text = skip(text, &["a file", "the file", "to the file", "to", "file"]);
    let quoted = text.starts_with(['"', '`', '\'']);
    let (file, content) = if quoted {
        let (file, rest) = name(text)?;
        (file, rest.trim_start().strip_prefix(':')?)
    } else {
        let (file, content) = text.split_once(':')?;
        (file, content)
    };
    if file.is_empty() || (!quoted && file.contains(char::is_whitespace)) {
        return None;
    }
    let content = content.strip_prefix(' ').unwrap_or(content);
    let content = if content.trim().is_empty() { String::new() } else { format!("{content}\n") };
    Some((file.to_owned(), content))
}

/// The instructions that are one sentence.
fn one_sentence(text: &str) -> Option<Instruction> {
    edit(text).map(Instruction::Edit).or_else(|| measured(text)).or_else(|| ending(text)).or_else(|| {
        if let Some(file) = after(text, "read").and_then(|rest| only_name(skip(rest, &["the file", "file"])))
        {
            return Some(Instruction::Read { file });
        }
        if is(text, &["show environment", "show the environment", "show your environment"]) {
            return Some(Instruction::ShowEnvironment);
        }
        if is(text, &["show settings", "show the settings", "show your settings"]) {
            return Some(Instruction::ShowSettings);
        }
        if is(text, &["ask for a form", "ask me to fill in a form"]) {
            return Some(Instruction::Form);
        }
        if is(text, &["ask for a web page", "ask me to open a web page"]) {
            return Some(Instruction::Page);
        }
        if let Some((tokens, rest)) = after(text, "use").and_then(count)
            && is(rest, &["tokens"])
        {
            return Some(Instruction::Use { tokens: tokens.min(MAX_TOKENS) });
        }
        if let Some(mode) = after(text, "switch to mode").and_then(only_name) {
            return Some(Instruction::Switch { mode });
        }
        if is(text, &["show attachments", "show the attachments", "show what is attached"]) {
            return Some(Instruction::ShowAttachments);
        }
        if let Some(rest) = after(text, "show") {
            if is(skip(rest, &["a", "me a"]), &["picture"]) {
                return Some(Instruction::ShowPicture { kib: 0 });
            }
            if let Some((kib, rest)) = count(skip(rest, &["a"])) {
                let kib = kib.min(MAX_KIB);
                return is(rest, &["KiB picture"]).then_some(Instruction::ShowPicture { kib });
            }
        }
        if is(text, &["emit hostile text", "emit some hostile text"]) {
            return Some(Instruction::Hostile);
        }
        is(text, &["help", "what do you understand", "what can you do"]).then_some(Instruction::Help)
    })
}

fn edit(text: &str) -> Option<Edit> {
    const FILE: &[&str] = &["the file", "file"];
    if let Some(rest) = after(text, "delete") {
        return only_name(skip(rest, FILE)).map(|file| Edit::Delete { file });
    }
    if let Some(rest) = after_any(text, &["rename", "move"]) {
        let (from, rest) = name(skip(rest, FILE))?;
        let to = only_name(after(rest, "to")?)?;
        return Some(Edit::Rename { from: from.to_owned(), to });
    }
    if let Some(rest) = after_any(text, &["append", "add"]) {
        let rest = rest.trim_start();
        let (content, rest) = rest.starts_with(['"', '`']).then(|| name(rest)).flatten()?;
        let file = only_name(skip(after(rest, "to")?, FILE))?;
        return Some(Edit::Append { file, content: format!("{content}\n") });
    }
    if let Some(rest) = after(text, "replace") {
        let (changes, file) = split_last(rest, " in ")?;
        let (old, new) = changes.split_once(" with ")?;
        let (old, new) = (unquoted(old).to_owned(), unquoted(new).to_owned());
        let file = only_name(skip(file, FILE))?;
        return (!old.is_empty()).then_some(Edit::Replace { old, new, file });
    }
    let (files, rest) = count(after(text, "create")?)?;
    let directory = only_name(after_any(rest, &["files in", "file in"])?)?;
    Some(Edit::CreateMany { count: files.min(MAX_FILES), directory })
}

fn split_last<'t>(text: &'t str, separator: &str) -> Option<(&'t str, &'t str)> {
    let at = text.to_ascii_lowercase().rfind(separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// The instructions with an amount.
fn measured(text: &str) -> Option<Instruction> {
    if let Some(rest) = after_any(text, &["wait for", "wait"]) {
        let (amount, rest) = number(rest)?;
        let rest = rest.trim();
        let each = if is(rest, &["second", "seconds", "s"]) {
            1_000.0
        } else if is(rest, &["minute", "minutes"]) {
            60_000.0
        } else if is(rest, &["millisecond", "milliseconds", "ms"]) {
            1.0
        } else {
            return None;
        };
        let millis = (amount * each).clamp(0.0, MAX_WAIT_MILLIS);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
        return Some(Instruction::Wait { millis: millis as u64 });
    }
    if let Some(rest) = after(text, "stream") {
        let (chunks, rest) = count(rest)?;
        return is(rest, &["chunks", "chunk"])
            .then(|| Instruction::Stream { chunks: chunks.min(MAX_CHUNKS) });
    }
    let (amount, rest) = count(skip(after(text, "print")?, &["a"]))?;
    let kib = if is(rest, &["KiB line"]) {
        amount
    } else {
        amount.checked_mul(1024).filter(|_| is(rest, &["MiB line"]))?
    };
    Some(Instruction::LongLine { kib: kib.min(MAX_KIB) })
}

/// The instructions that end the turn.
fn ending(text: &str) -> Option<Instruction> {
    if let Some(rest) = after(text, "fail") {
        let message = after(rest, "with").unwrap_or(rest);
        let given = message.len() < rest.len() || rest.starts_with(':');
        let message = unquoted(message.trim_start_matches(':'));
        if rest.is_empty() || is(rest, &["now", "the turn", "this turn"]) {
            return Some(Instruction::Fail { message: "the prompt asked for a failure".to_owned() });
        }
        return (given && !message.is_empty()).then(|| Instruction::Fail { message: message.to_owned() });
    }
    if is(text, &["refuse", "refuse now", "refuse this"]) {
        return Some(Instruction::Refuse);
    }
    if is(text, &["crash", "crash now"]) {
        return Some(Instruction::Crash);
    }
    is(text, &["hang", "hang now", "hang until cancelled", "hang forever"]).then_some(Instruction::Hang)
}

/// Whether the text is exactly one of these phrases.
fn is(text: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| after(text, phrase).is_some_and(|rest| rest.trim().is_empty()))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
