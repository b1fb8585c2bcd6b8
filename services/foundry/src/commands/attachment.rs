//! `foundry attachment`, and the files that are sent with messages.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use foundry_proto::provisioner::v1::{
    DeleteAttachmentRequest, GetAttachmentRequest, ListAttachmentsRequest, PutAttachmentRequest,
    StoredAttachment,
};

use crate::cli::{Attachment, Output};
use crate::client::{Gateway, request_id};
use crate::failure::Failure;
use crate::output;

/// Largest file that is sent, in bytes. The service has the same limit but could refuse only after the whole upload.
const MAX_FILE: u64 = 3 << 20;
/// Most files of one message.
const MAX_FILES: usize = 10;

/// Runs one command of the group.
///
/// # Errors
/// The service's error.
pub async fn run(gateway: &Gateway, output: Output, command: Attachment) -> Result<ExitCode, Failure> {
    match command {
        Attachment::List => list(gateway, output).await?,
        Attachment::Get { attachment_id, file } => get(gateway, output, attachment_id, file).await?,
        Attachment::Remove { attachment_id } => {
            let request = DeleteAttachmentRequest { request_id: request_id(), attachment_id };
            let answer = gateway.attachments().delete_attachment(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("removed"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Uploads local files; returns their ids in the same order.
///
/// # Errors
/// When a file cannot be read or is too large, before any upload; otherwise the service's error.
pub async fn put_all(
    gateway: &Gateway,
    organization_id: &str,
    files: &[PathBuf],
) -> Result<Vec<String>, Failure> {
    if files.len() > MAX_FILES {
        return Err(Failure::new(format!("a message can have at most {MAX_FILES} files")).exit(2));
    }
    let read = files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let mut ids = Vec::new();
    for (name, content) in read {
        let request = PutAttachmentRequest {
            request_id: request_id(),
            organization_id: organization_id.to_owned(),
            name,
            media_type: String::new(),
            content: content.into(),
        };
        let answer = gateway.attachments().put_attachment(request).await?.into_inner();
        ids.push(answer.attachment.unwrap_or_default().attachment_id);
    }
    Ok(ids)
}

fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("{} cannot be read: {e}", path.display())).exit(2);
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        // A device or a pipe may have no end.
        return Err(Failure::new(format!("{} is not a regular file", path.display())).exit(2));
    }
    let size = found.len();
    if size > MAX_FILE {
        let text = format!("{} is {size} bytes; the limit is {MAX_FILE}", path.display());
        return Err(Failure::new(text).next("send a smaller file, or commit it to the repository").exit(2));
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, std::fs::read(path).map_err(failed)?))
}

async fn list(gateway: &Gateway, output: Output) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    let mut files: Vec<StoredAttachment> = Vec::new();
    let mut page_token = String::new();
    let (total, maximum) = loop {
        let request =
            ListAttachmentsRequest { organization_id: organization_id.clone(), page_size: 500, page_token };
        let page = gateway.attachments().list_attachments(request).await?.into_inner();
        files.extend(page.attachments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break (page.total_bytes, page.maximum_bytes);
        }
    };
    if output == Output::Json {
        return files.iter().try_for_each(|f| output::json(f).map(|text| output::line(&text)));
    }
    let rows = files.iter().map(|f| {
        let file = f.attachment.clone().unwrap_or_default();
        let from = if f.user_id.is_empty() { "agent".to_owned() } else { f.user_id.clone() };
        vec![
            file.attachment_id,
            file.media_type,
            file.size.to_string(),
            from,
            f.session_id.clone(),
            output::inert(&file.name),
        ]
    });
    output::table(&["attachment", "type", "bytes", "from", "session", "name"], rows.collect());
    output::line(&format!("{total} of {maximum} bytes"));
    Ok(())
}

async fn get(
    gateway: &Gateway,
    output: Output,
    attachment_id: String,
    file: Option<PathBuf>,
) -> Result<(), Failure> {
    let request = GetAttachmentRequest { attachment_id };
    let answer = gateway.attachments().get_attachment(request).await?.into_inner();
    if let Some(file) = file {
        std::fs::write(&file, &answer.content)?;
        let shown = answer.attachment.unwrap_or_default();
        return output::one(output, &shown, |f| {
            output::line(&format!("{} ({}, {} bytes)", file.display(), f.media_type, f.size));
        });
    }
    if output == Output::Json {
        return output::json(&answer).map(|text| output::line(&text));
    }
    let mut out = std::io::stdout();
    if out.is_terminal() {
        return Err(Failure::new("refusing to write a file to a terminal")
            .next("choose an output file with --file")
            .exit(2));
    }
    out.write_all(&answer.content)?;
    out.flush()?;
    Ok(())
}
