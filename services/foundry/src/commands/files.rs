//! The files in the tree of a task's work.

use std::io::{IsTerminal as _, Write as _};

use foundry_proto::task::v1::{FileTreeEntry, GetFileRequest, ListFileTreeRequest};

use crate::cli::Output;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// Lists a directory.
///
/// # Errors
/// The service's error.
pub async fn list(gateway: &Gateway, output: Output, task_id: String, path: String) -> Result<(), Failure> {
    let mut entries: Vec<FileTreeEntry> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListFileTreeRequest { task_id: task_id.clone(), path: path.clone(), page_size: 500, page_token };
        let page = gateway.task().list_file_tree(request).await?.into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output == Output::Json {
        return entries.iter().try_for_each(|e| output::json(e).map(|text| output::line(&text)));
    }
    let rows = entries.iter().map(|e| {
        let size = if e.kind == "file" { e.size.to_string() } else { String::new() };
        let kind = if e.executable { "executable".to_owned() } else { e.kind.clone() };
        vec![kind, size, e.path.clone()]
    });
    output::table(&["kind", "bytes", "path"], rows.collect());
    Ok(())
}

/// Prints a file: unchanged into a file or pipe, without control characters on a terminal.
///
/// # Errors
/// The service's error; for a file over 1 MiB; for a binary file on a terminal.
pub async fn print(gateway: &Gateway, output: Output, task_id: String, path: String) -> Result<(), Failure> {
    let request = GetFileRequest { task_id, path: path.clone() };
    let answer = gateway.task().get_file(request).await?.into_inner();
    if output == Output::Json {
        return output::json(&answer).map(|text| output::line(&text));
    }
    if answer.too_large {
        return Err(Failure::new(format!(
            "{} is larger than 1 MiB and cannot be shown",
            output::inert(&path)
        )));
    }
    let mut out = std::io::stdout();
    if out.is_terminal() {
        if answer.binary {
            let text =
                format!("{} is not a text file; redirect the output to a file or pipe", output::inert(&path));
            return Err(Failure::new(text));
        }
        output::part(&output::inert(&String::from_utf8_lossy(&answer.content)));
        return Ok(());
    }
    out.write_all(&answer.content)?;
    out.flush()?;
    Ok(())
}
