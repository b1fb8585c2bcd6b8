//! Performing the instructions: here those that only send text, wait or end the turn.

mod ask;
mod edit;
mod form;
mod run;
mod show;

pub(crate) use show::described;

use std::time::Duration;

use agent_client_protocol::v1::schema::ToolKind;
use serde_json::{Value, json};

use crate::phrases::{HOSTILE, INTRODUCTION, shorten};
use crate::tool::{Outcome, Permission, text};
use crate::turn::{Turn, TurnEnd};
use crate::vocabulary::{Instruction, Step};

/// The most of a file or an output that a tool call shows, in bytes.
const MAX_SHOWN: usize = 32 << 10;

impl Turn {
    /// Performs one step.
    pub(crate) async fn step(&mut self, step: Step) -> Result<(), TurnEnd> {
        let Step { instruction, ask, .. } = step;
        let changes =
            matches!(instruction, Instruction::Edit(_) | Instruction::Note { .. } | Instruction::Run { .. });
        let ask = ask || (changes && self.session.settings().is_careful());
        match instruction {
            Instruction::Edit(edit) => self.edit(edit, ask).await,
            Instruction::Note { prompt } => self.note(&prompt, ask).await,
            Instruction::Run { command } => self.run(&command, ask).await,
            Instruction::Read { file } => self.read(&file, ask).await,
            Instruction::Ask { reason, count } => self.ask_to_go_on(&reason, count).await,
            other if ask => {
                let call = self.announce(other.label(), ToolKind::Other, &[], Value::Null).await?;
                if self.permitted(&call).await? == Permission::Denied {
                    return self.say(&format!("Skipped: {}.", other.label())).await;
                }
                self.finish(&call, Outcome::completed(Vec::new())).await?;
                self.speak(other).await
            }
            other => self.speak(other).await,
        }
    }

    /// The instructions that touch no file and run nothing.
    async fn speak(&mut self, instruction: Instruction) -> Result<(), TurnEnd> {
        match instruction {
            Instruction::Say(text) => self.say(&text).await,
            Instruction::Think(text) => self.think(&text).await,
            Instruction::Answer(text) => {
                let answer = format!(
                    "I am a demo agent without a model, so I can only repeat this: “{}”",
                    shorten(&text, 200)
                );
                self.say(&answer).await
            }
            Instruction::Wait { millis } => {
                #[allow(clippy::cast_precision_loss)] // at most a day of milliseconds
                let time = self.options.second.mul_f64(millis as f64 / 1000.0);
                self.wait(time).await
            }
            Instruction::Stream { chunks } => self.stream(chunks).await,
            Instruction::LongLine { kib } => {
                let message = self.session.next_message();
                self.chunk(&message, "0123456789abcdef".repeat(kib * 64)).await
            }
            Instruction::Hostile => self.hostile().await,
            Instruction::ShowEnvironment => {
                let mut names: Vec<_> =
                    std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
                names.sort();
                self.say(&format!(
                    "Variable names in my environment (values are not shown): {}",
                    names.join(" ")
                ))
                .await
            }
            Instruction::ShowSettings => self.say(&self.session.settings().in_words()).await,
            Instruction::Form => self.form().await,
            Instruction::Page => self.page().await,
            Instruction::Title { title } => self.title(&title).await,
            Instruction::Use { tokens } => self.use_tokens(tokens).await,
            Instruction::Switch { mode } => self.switch(&mode).await,
            Instruction::ShowAttachments => self.show_attachments().await,
            Instruction::ShowPicture { kib } => self.show_picture(kib).await,
            Instruction::Help | Instruction::Introduce => self.say(INTRODUCTION).await,
            Instruction::Fail { message } => Err(TurnEnd::Failed(message)),
            Instruction::Refuse => {
                self.say("The prompt says to refuse, so I refuse.").await?;
                Err(TurnEnd::Refused)
            }
            Instruction::Crash => {
                self.say("The prompt says to crash, so I crash.").await?;
                // What was said before a crash has left the process.
                self.outbox.flush().await?;
                Err(TurnEnd::Crashed)
            }
            Instruction::Hang => {
                self.say("The prompt says to hang, so I wait until I am cancelled.").await?;
                self.cancel.cancelled().await;
                Err(TurnEnd::Cancelled)
            }
            // Performed in `step`.
            Instruction::Edit(_)
            | Instruction::Note { .. }
            | Instruction::Read { .. }
            | Instruction::Run { .. }
            | Instruction::Ask { .. } => Ok(()),
        }
    }

    async fn stream(&self, chunks: usize) -> Result<(), TurnEnd> {
        let message = self.session.next_message();
        let pause = if self.pause > self.options.chunk_pause { self.pause } else { Duration::ZERO };
        for n in 1..=chunks {
            self.chunk(&message, format!("chunk {n} of {chunks}\n")).await?;
            self.wait(pause).await?;
            if n % 64 == 0 {
                // Lets other sessions of this process run.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn hostile(&self) -> Result<(), TurnEnd> {
        let message = self.session.next_message();
        for piece in HOSTILE {
            self.chunk(&message, (*piece).to_owned()).await?;
        }
        let title = format!("Nothing done {}", HOSTILE[0]);
        let call =
            self.announce(title, ToolKind::Other, &["<b>not a file</b>"], json!({ "text": HOSTILE })).await?;
        self.finish(&call, Outcome::completed(vec![text(HOSTILE.join("\n"))])).await
    }
}
