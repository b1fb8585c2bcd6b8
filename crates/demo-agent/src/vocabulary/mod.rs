//! The phrases the agent understands (described for users in `docs/demo-agent.md`), as data: [`read`] turns a prompt
//! into a [`Script`]. Nothing is performed here.

mod parse;
mod words;

pub(crate) use parse::read;

use crate::phrases::shorten;

/// What a prompt asks for, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Script {
    /// The steps in the order of the prompt.
    pub(crate) steps: Vec<Step>,
    /// The plan the prompt spells out; without one the steps are the plan.
    pub(crate) plan: Option<Vec<String>>,
}

/// One thing to do, and how.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) instruction: Instruction,
    /// Ask for permission first.
    pub(crate) ask: bool,
    /// Stream text slowly from here on.
    pub(crate) slow: bool,
}

/// One instruction of the vocabulary.
#[derive(Debug, PartialEq)]
pub(crate) enum Instruction {
    Say(String),
    Think(String),
    /// Text that is not an instruction; it gets a fixed answer.
    Answer(String),
    Edit(Edit),
    Read {
        file: String,
    },
    Run {
        command: String,
    },
    /// Ask for permission to continue, with `count` requests open at the same time.
    Ask {
        reason: String,
        count: usize,
    },
    /// Do nothing for this long.
    Wait {
        millis: u64,
    },
    Stream {
        chunks: usize,
    },
    LongLine {
        kib: usize,
    },
    Hostile,
    ShowEnvironment,
    /// Report mode, model and effort.
    ShowSettings,
    /// Request a form and report the values.
    Form,
    /// Request that the user opens a web page, which a client may not support.
    Page,
    /// Give the conversation a title.
    Title {
        title: String,
    },
    /// Report this many more tokens as used.
    Use {
        tokens: usize,
    },
    /// Switch the mode without a request of the client.
    Switch {
        mode: String,
    },
    /// Describe the attachments of the prompt.
    ShowAttachments,
    /// Send a picture in a message and one in a tool call, of `kib` KiB; 0 = a small one.
    ShowPicture {
        kib: usize,
    },
    Help,
    Fail {
        message: String,
    },
    Refuse,
    Crash,
    Hang,
    /// A prompt without any instruction: note it in the README.
    Note {
        prompt: String,
    },
    /// Say what this agent is and what it understands.
    Introduce,
}

/// A change of files.
#[derive(Debug, PartialEq)]
pub(crate) enum Edit {
    Write { file: String, content: String },
    Append { file: String, content: String },
    Replace { old: String, new: String, file: String },
    Delete { file: String },
    Rename { from: String, to: String },
    CreateMany { count: usize, directory: String },
}

impl Instruction {
    /// The step in a few words, as the plan shows it.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Say(text) => format!("Say “{}”", shorten(text, 40)),
            Self::Think(_) => "Think".to_owned(),
            Self::Answer(text) => format!("Answer “{}”", shorten(text, 40)),
            Self::Edit(edit) => edit.label(),
            Self::Read { file } => format!("Read {file}"),
            Self::Run { command } => format!("Run `{}`", shorten(command, 60)),
            Self::Ask { count: 1, .. } => "Ask for permission".to_owned(),
            Self::Ask { count, .. } => format!("Ask for {count} permissions"),
            Self::Wait { millis } => format!("Wait {} s", seconds(*millis)),
            Self::Stream { chunks } => format!("Stream {chunks} chunks"),
            Self::LongLine { kib } => format!("Print a line of {kib} KiB"),
            Self::Hostile => "Emit hostile text".to_owned(),
            Self::ShowEnvironment => "Show the environment variable names".to_owned(),
            Self::ShowSettings => "Show the settings".to_owned(),
            Self::Form => "Ask for a form".to_owned(),
            Self::Page => "Ask for a web page".to_owned(),
            Self::Title { title } => format!("Call this “{}”", shorten(title, 40)),
            Self::Use { tokens } => format!("Use {tokens} tokens"),
            Self::Switch { mode } => format!("Switch to mode {}", shorten(mode, 40)),
            Self::ShowAttachments => "List the attachments".to_owned(),
            Self::ShowPicture { .. } => "Show a picture".to_owned(),
            Self::Help => "Say what I understand".to_owned(),
            Self::Fail { .. } => "Fail".to_owned(),
            Self::Refuse => "Refuse".to_owned(),
            Self::Crash => "Crash".to_owned(),
            Self::Hang => "Hang until cancelled".to_owned(),
            Self::Note { .. } => "Record the request in the repository".to_owned(),
            Self::Introduce => "Say what was done".to_owned(),
        }
    }
}

impl Edit {
    /// The edit in a few words.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Write { file, .. } => format!("Write {file}"),
            Self::Append { file, .. } => format!("Append to {file}"),
            Self::Replace { old, file, .. } => format!("Replace “{}” in {file}", shorten(old, 30)),
            Self::Delete { file } => format!("Delete {file}"),
            Self::Rename { from, to } => format!("Rename {from} to {to}"),
            Self::CreateMany { count, directory } => format!("Create {count} files in {directory}"),
        }
    }
}

fn seconds(millis: u64) -> String {
    match (millis / 1000, millis % 1000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}").trim_end_matches('0').to_owned(),
    }
}
