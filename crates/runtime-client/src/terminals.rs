//! Terminals in the sandbox.

use std::time::Duration;

use bytes::Bytes;
use foundry_sandbox::wire::{TerminalStart, TerminalStarted};
use http::Method;
use serde_json::json;

use super::connection::Request;
use super::{ClientError, QUICK, RuntimeClient};

/// A stretch of a terminal's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalOutput {
    /// Offset of the first byte: later than requested when older output was dropped.
    pub offset: u64,
    /// The raw output, control sequences included.
    pub bytes: Bytes,
    /// The exit code, once the program has ended.
    pub ended: Option<i32>,
}

impl RuntimeClient {
    /// Opens a terminal and starts a program in it; returns its name.
    ///
    /// # Errors
    /// `start_failed`, `busy` when there are too many.
    pub async fn open_terminal(&self, start: &TerminalStart) -> Result<String, ClientError> {
        let request = Request::json(Method::POST, "/v1/terminals".to_owned(), start)?;
        Ok(self.call::<TerminalStarted>(request).await?.terminal)
    }

    /// A terminal's output from `offset` on, waiting up to `wait` for more.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn terminal_output(
        &self,
        terminal: &str,
        offset: u64,
        wait: Duration,
    ) -> Result<TerminalOutput, ClientError> {
        let path = format!("/v1/terminals/{terminal}/output?offset={offset}&wait_ms={}", wait.as_millis());
        let answer = self.send(Request::new(Method::GET, path).limit(wait + QUICK)).await?;
        let number = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok()?.parse::<i64>().ok());
        let offset = number("x-offset").and_then(|n| u64::try_from(n).ok()).unwrap_or(offset);
        let ended = number("x-ended").and_then(|n| i32::try_from(n).ok());
        Ok(TerminalOutput { offset, ended, bytes: answer.body })
    }

    /// Writes input to a terminal.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn terminal_input(&self, terminal: &str, bytes: Bytes) -> Result<(), ClientError> {
        let path = format!("/v1/terminals/{terminal}/input");
        self.send(Request::new(Method::POST, path).body(bytes)).await.map(drop)
    }

    /// Changes the size of a terminal's screen.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn resize_terminal(&self, terminal: &str, rows: u16, cols: u16) -> Result<(), ClientError> {
        let path = format!("/v1/terminals/{terminal}/size");
        let request = Request::json(Method::POST, path, &json!({ "rows": rows, "cols": cols }))?;
        self.send(request).await.map(drop)
    }

    /// Closes a terminal and kills its processes.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn close_terminal(&self, terminal: &str) -> Result<(), ClientError> {
        self.send(Request::new(Method::DELETE, format!("/v1/terminals/{terminal}"))).await.map(drop)
    }
}
