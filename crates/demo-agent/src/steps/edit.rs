//! Reading and changing files, each as a tool call that shows the diff.

use agent_client_protocol::v1::schema::{Diff, ToolCallContent, ToolKind};
use serde_json::{Value, json};

use super::MAX_SHOWN;
use crate::phrases::{on_one_line, shorten};
use crate::tool::{Call, Outcome, text};
use crate::turn::{Turn, TurnEnd};
use crate::vocabulary::Edit;
use crate::workspace::{EditError, Workspace};

impl Turn {
    pub(super) async fn read(&self, file: &str, ask: bool) -> Result<(), TurnEnd> {
        let title = format!("Read {file}");
        let input = json!({ "file": file });
        let Some(call) = self.open(title, ToolKind::Read, &[file], input, ask).await? else { return Ok(()) };
        let outcome = match self.session.workspace.read_existing(file) {
            Ok(content) => Outcome::completed(vec![text(beginning(&content))]),
            Err(e) => Outcome::failed(e.to_string()),
        };
        self.finish(&call, outcome).await
    }

    pub(super) async fn edit(&mut self, edit: Edit, ask: bool) -> Result<(), TurnEnd> {
        let (kind, files, input) = shape(&edit);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let Some(call) = self.open(edit.label(), kind, &files, input, ask).await? else { return Ok(()) };
        let applied = match &edit {
            Edit::CreateMany { count, directory } => self.create_many(&call, *count, directory).await?,
            _ => apply(&self.session.workspace, &edit),
        };
        match applied {
            Ok(content) => {
                self.done.edits.push(past(&edit));
                self.finish(&call, Outcome::completed(content)).await
            }
            Err(e) => {
                self.finish(&call, Outcome::failed(e.to_string())).await?;
                self.say(&format!("That failed: {e}.")).await
            }
        }
    }

    /// Makes the edit for a prompt without instructions.
    pub(super) async fn note(&mut self, prompt: &str, ask: bool) -> Result<(), TurnEnd> {
        let edit = note(&self.session.workspace, prompt);
        self.edit(edit, ask).await
    }

    /// Creates files one by one, so that a long list delays neither a cancel nor another session.
    async fn create_many(
        &self,
        call: &Call,
        count: usize,
        directory: &str,
    ) -> Result<Result<Vec<ToolCallContent>, EditError>, TurnEnd> {
        let width = count.to_string().len();
        for n in 1..=count {
            let file = format!("{directory}/file-{n:0width$}.txt");
            if let Err(e) = self.session.workspace.write(&file, &format!("File {n} of {count}.\n")) {
                return Ok(Err(e));
            }
            if n % 64 == 0 {
                tokio::task::yield_now().await;
            }
            if self.cancel.is_cancelled() {
                self.finish(call, Outcome::failed(format!("Cancelled after {n} files."))).await?;
                return Err(TurnEnd::Cancelled);
            }
        }
        Ok(Ok(vec![text(format!("{count} files created in {directory}."))]))
    }
}

/// The kind, the files and the input that the tool call of an edit shows.
fn shape(edit: &Edit) -> (ToolKind, Vec<String>, Value) {
    match edit {
        Edit::Write { file, .. } | Edit::Append { file, .. } | Edit::Replace { file, .. } => {
            (ToolKind::Edit, vec![file.clone()], json!({ "file": file }))
        }
        Edit::Delete { file } => (ToolKind::Delete, vec![file.clone()], json!({ "file": file })),
        Edit::Rename { from, to } => {
            (ToolKind::Move, vec![from.clone(), to.clone()], json!({ "from": from, "to": to }))
        }
        Edit::CreateMany { count, directory } => {
            (ToolKind::Edit, vec![directory.clone()], json!({ "directory": directory, "count": count }))
        }
    }
}

fn past(edit: &Edit) -> String {
    match edit {
        Edit::Write { file, .. } => format!("{file} written"),
        Edit::Append { file, .. } => format!("{file} appended to"),
        Edit::Replace { file, .. } => format!("{file} changed"),
        Edit::Delete { file } => format!("{file} deleted"),
        Edit::Rename { from, to } => format!("{from} renamed to {to}"),
        Edit::CreateMany { count, directory } => format!("{count} files created in {directory}"),
    }
}

/// Makes the edit; returns what the tool call shows.
fn apply(workspace: &Workspace, edit: &Edit) -> Result<Vec<ToolCallContent>, EditError> {
    match edit {
        Edit::Write { file, content } => {
            // A file that is not text or is too large may be overwritten; it only has no old side to show.
            let old = match workspace.read(file) {
                Err(EditError::NotText(_) | EditError::TooLarge(_)) => None,
                other => other?,
            };
            workspace.write(file, content)?;
            Ok(vec![diff(workspace, file, old, content)])
        }
        Edit::Append { file, content } => {
            let old = workspace.read(file)?;
            let mut new = old.clone().unwrap_or_default();
            if !new.is_empty() && !new.ends_with('\n') {
                new.push('\n');
            }
            new.push_str(content);
            workspace.write(file, &new)?;
            Ok(vec![diff(workspace, file, old, &new)])
        }
        Edit::Replace { old: wanted, new: given, file } => {
            let old = workspace.read_existing(file)?;
            if !old.contains(wanted.as_str()) {
                return Err(EditError::NotFound { file: file.clone(), wanted: shorten(wanted, 60) });
            }
            let new = old.replace(wanted.as_str(), given);
            workspace.write(file, &new)?;
            Ok(vec![diff(workspace, file, Some(old), &new)])
        }
        Edit::Delete { file } => {
            let old = workspace.read(file).ok().flatten();
            workspace.delete(file)?;
            Ok(vec![match old {
                Some(old) => diff(workspace, file, Some(old), ""),
                None => text(format!("{file} is gone.")),
            }])
        }
        Edit::Rename { from, to } => {
            workspace.rename(from, to)?;
            Ok(vec![text(format!("{from} is now {to}."))])
        }
        // Made file by file in `create_many`.
        Edit::CreateMany { .. } => Ok(Vec::new()),
    }
}

fn diff(workspace: &Workspace, file: &str, old: Option<String>, new: &str) -> ToolCallContent {
    let size = old.as_deref().map_or(0, str::len) + new.len();
    if size > 2 * MAX_SHOWN {
        return text(format!("{file} changed; it is too large to be shown ({} bytes).", new.len()));
    }
    let mut diff = Diff::new(workspace.absolute(file), new);
    diff.old_text = old;
    diff.into()
}

/// The edit for a prompt without instructions.
fn note(workspace: &Workspace, prompt: &str) -> Edit {
    let quoted = shorten(&on_one_line(prompt), 200);
    let content = format!("> Noted by the demo agent: {quoted}\n");
    match workspace.first_file(&["README.md", "README", "README.txt", "README.rst", "Readme.md", "readme.md"])
    {
        Some(file) => Edit::Append { file: file.to_owned(), content: format!("\n{content}") },
        None => Edit::Append { file: "NOTES.md".to_owned(), content },
    }
}

fn beginning(content: &str) -> String {
    let mut end = content.len().min(MAX_SHOWN);
    while !content.is_char_boundary(end) {
        end -= 1;
    }
    match content.len() - end {
        0 => content.to_owned(),
        left => format!("{}\n… {left} bytes left out …", &content[..end]),
    }
}
