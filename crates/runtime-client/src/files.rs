//! Files of the sandbox, below HOME, the work tree and `/tmp`.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use foundry_sandbox::AcpId;
use foundry_sandbox::LogStretch;
use foundry_sandbox::tap::MAX_LINE;
use foundry_sandbox::wire::LOG_LENGTH_HEADER;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::connection::Request;
use super::{ClientError, QUICK, RuntimeClient};

/// How long the transfer of a file may take.
const TRANSFER: Duration = Duration::from_secs(120);

impl RuntimeClient {
    /// Reads a file of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// `not_found`, `refused` (a link, a place outside), `too_large`.
    pub async fn get_file(&self, path: &Path, max_bytes: u64) -> Result<Bytes, ClientError> {
        let path = format!("/v1/files?path={}&max={max_bytes}", encoded(path));
        // The limit must leave room for an error answer.
        let most = usize::try_from(max_bytes).unwrap_or(usize::MAX).max(64 << 10);
        let request = Request::new(Method::GET, path).limit(TRANSFER).max_answer(most);
        Ok(self.send(request).await?.body)
    }

    /// Writes a file whole or not at all, making its directory. `mode` is e.g. `0o600`.
    ///
    /// # Errors
    /// `refused` (a place outside), `too_large`.
    pub async fn put_file(&self, path: &Path, mode: u32, content: Bytes) -> Result<(), ClientError> {
        self.put(path, mode, "", content).await
    }

    /// The same with the address of the model gateway in place of [`foundry_sandbox::wire::MODEL_URL`]; at most 4 MiB.
    ///
    /// # Errors
    /// As [`RuntimeClient::put_file`]; `start_failed` when that is needed and there is no model gateway.
    pub async fn put_filled_file(&self, path: &Path, mode: u32, content: Bytes) -> Result<(), ClientError> {
        self.put(path, mode, "&model_url", content).await
    }

    async fn put(&self, path: &Path, mode: u32, more: &str, content: Bytes) -> Result<(), ClientError> {
        let path = format!("/v1/files?path={}&mode={mode:o}{more}", encoded(path));
        let request = Request::new(Method::PUT, path).body(content).limit(TRANSFER);
        self.send(request).await.map(drop)
    }

    /// Reads the log of a conversation from `offset` on, waiting up to `wait` for new entries.
    ///
    /// # Errors
    /// `truncated` when the log is shorter than that.
    pub async fn read_log(
        &self,
        acp: &AcpId,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<LogStretch, ClientError> {
        let path = format!("/v1/logs/{acp}?offset={offset}&max={max_bytes}&wait_ms={}", wait.as_millis());
        let request =
            Request::new(Method::GET, path).limit(wait + QUICK).max_answer(max_bytes.max(MAX_LINE) + 1);
        let answer = self.send(request).await?;
        let length = answer.headers.get(LOG_LENGTH_HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        let length = length.ok_or_else(|| ClientError::Malformed("the log has no length".to_owned()))?;
        Ok(LogStretch { bytes: answer.body.into(), length })
    }
}

fn encoded(path: &Path) -> String {
    utf8_percent_encode(&path.to_string_lossy(), NON_ALPHANUMERIC).to_string()
}
