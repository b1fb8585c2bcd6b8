//! Running commands, each as a tool call that shows the output as it comes.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use agent_client_protocol::v1::schema::{ToolCallStatus, ToolKind};
use serde_json::json;

use super::MAX_SHOWN;
use crate::command::{self, Bounds, CommandEnd, Event, Running};
use crate::phrases::shorten;
use crate::tool::{Call, Outcome, text};
use crate::turn::{Turn, TurnEnd};

/// Up to this many lines, each line of output is shown when it comes; after that, at a line end once the output has
/// grown by one part in [`GROWTH`].
const EAGER_LINES: usize = 20;
const GROWTH: usize = 8;
/// Output without a line end is shown after this many bytes.
const SHOW_BYTES: usize = 4096;

impl Turn {
    pub(super) async fn run(&mut self, command: &str, ask: bool) -> Result<(), TurnEnd> {
        let title = format!("Run `{}`", shorten(command, 60));
        let input = json!({ "command": command, "cwd": self.session.workspace.root() });
        let Some(call) = self.open(title, ToolKind::Execute, &[], input, ask).await? else { return Ok(()) };
        let bounds = Bounds {
            clock: self.options.clock.clone(),
            limit: self.options.command_limit,
            grace: self.options.command_grace,
            cancel: self.cancel.clone(),
        };
        let mut running = match command::start(command, self.session.workspace.root(), bounds) {
            Ok(running) => running,
            Err(e) => return self.finish(&call, Outcome::failed(format!("could not start: {e}"))).await,
        };
        self.done.commands += 1;
        let mut output = Output::default();
        let ended = self.follow(&mut running, &call, &mut output).await;
        let (success, said) = match &ended {
            Ok(CommandEnd::Exited(status)) => (status.success(), exit_words(*status)),
            Ok(CommandEnd::TimedOut) => {
                (false, format!("Stopped after {} s: the time limit.", self.options.command_limit.as_secs()))
            }
            Ok(CommandEnd::Cancelled) | Err(TurnEnd::Cancelled) => {
                (false, "Stopped: the turn was cancelled.".to_owned())
            }
            Err(e) => (false, format!("Stopped: {e}.")),
        };
        let code = match &ended {
            Ok(CommandEnd::Exited(status)) => status.code(),
            _ => None,
        };
        let outcome = Outcome {
            status: if success { ToolCallStatus::Completed } else { ToolCallStatus::Failed },
            content: vec![text(format!("{}{said}", output.whole()))],
            raw_output: Some(json!({ "exitCode": code, "bytes": output.total })),
        };
        self.finish(&call, outcome).await?;
        match ended {
            Ok(CommandEnd::Cancelled) => Err(TurnEnd::Cancelled),
            Ok(_) => Ok(()),
            Err(end) => Err(end),
        }
    }

    /// Shows the output as it comes, until the command has ended.
    async fn follow(
        &self,
        running: &mut Running,
        call: &Call,
        output: &mut Output,
    ) -> Result<CommandEnd, TurnEnd> {
        let mut buffer = vec![0; 8192];
        loop {
            let size = match running.next(&mut buffer).await {
                Ok(Event::Output(size)) => size,
                Ok(Event::Ended(end)) => return Ok(end),
                Err(e) => return Err(TurnEnd::Failed(format!("the output of a command broke: {e}"))),
            };
            let mut piece = &buffer[..size];
            while let Some(shown) = output.push(&mut piece) {
                if let Err(end) = self.show(call, shown).await {
                    running.stop().await;
                    return Err(end);
                }
            }
        }
    }
}

fn exit_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("Exit status {code}."),
        (None, Some(signal)) => format!("Ended by signal {signal}."),
        (None, None) => "Ended.".to_owned(),
    }
}

/// The output of a command: all of it while it is short, its first and last part when it is long.
/// When something is shown depends on the output alone, never on time.
#[derive(Default)]
struct Output {
    head: Vec<u8>,
    tail: Vec<u8>,
    total: usize,
    lines: usize,
    unshown: usize,
}

impl Output {
    /// Takes from `piece` up to the next point at which something is to be shown.
    fn push(&mut self, piece: &mut &[u8]) -> Option<String> {
        while let Some((&byte, rest)) = piece.split_first() {
            *piece = rest;
            self.total += 1;
            self.unshown += 1;
            if self.head.len() < MAX_SHOWN {
                self.head.push(byte);
            } else {
                self.tail.push(byte);
                if self.tail.len() >= 2 * MAX_SHOWN {
                    self.tail.drain(..MAX_SHOWN);
                }
            }
            if byte == b'\n' {
                self.lines += 1;
            }
            // The whole head is sent again each time, so the steps grow with it.
            let due =
                byte == b'\n' && (self.lines <= EAGER_LINES || self.unshown * GROWTH >= self.head.len());
            if (due || self.unshown >= SHOW_BYTES) && self.tail.is_empty() {
                self.unshown = 0;
                return Some(String::from_utf8_lossy(&self.head).into_owned());
            }
        }
        None
    }

    /// What the finished command shows, ending with a line end.
    fn whole(&self) -> String {
        let mut shown = String::from_utf8_lossy(&self.head).into_owned();
        let tail = &self.tail[self.tail.len().saturating_sub(MAX_SHOWN)..];
        let omitted = self.total - self.head.len() - tail.len();
        if omitted > 0 {
            shown.push_str(&format!("\n… {omitted} bytes left out …\n"));
        }
        shown.push_str(&String::from_utf8_lossy(tail));
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_and_the_last_part_of_a_long_output_and_counts_the_rest() {
        let mut output = Output::default();
        let mut bytes = vec![b'a'; MAX_SHOWN];
        bytes.extend(vec![b'b'; 5 * MAX_SHOWN]);
        bytes.extend(vec![b'c'; MAX_SHOWN]);
        let mut shown = 0;
        for piece in bytes.chunks(1000) {
            let mut piece = piece;
            while output.push(&mut piece).is_some() {
                shown += 1;
            }
        }
        let whole = output.whole();
        assert_eq!(shown, MAX_SHOWN / SHOW_BYTES);
        assert!(whole.starts_with("aaa") && whole.ends_with("ccc\n"), "both ends are there");
        assert!(whole.contains(&format!("\n… {} bytes left out …\n", 5 * MAX_SHOWN)));
        assert!(!whole.contains("bb"));
    }

    #[test]
    fn shows_the_same_whatever_the_pieces_in_which_output_comes() {
        let bytes: Vec<u8> = (0..100).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let shown = |size: usize| {
            let mut output = Output::default();
            let mut shown = Vec::new();
            for mut piece in bytes.chunks(size) {
                while let Some(s) = output.push(&mut piece) {
                    shown.push(s);
                }
            }
            shown
        };
        assert_eq!(shown(1), shown(4096));
        assert!((22..40).contains(&shown(7).len()), "{}", shown(7).len());
    }
}
