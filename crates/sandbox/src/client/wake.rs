//! Wake-ups: the runtime's event stream is lossy, so it is only a hint that the tap log grew. A coarse
//! poll covers a lost hint; no inotify is used, since the file is beneath a directory the agent owns.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{QUICK, RuntimeClient};
use crate::AcpId;

/// Hints that there may be something new, at the latest after the poll interval.
pub struct Wakeups {
    client: RuntimeClient,
    path: String,
    poll: Duration,
    stream: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
}

/// Hints that come closer together than this are one.
const GATHER: Duration = Duration::from_millis(20);

impl Wakeups {
    /// Completes when the agent said something or the poll interval has passed. Cancel-safe.
    pub async fn next(&mut self) {
        let clock = self.client.env.clock.clone();
        tokio::select! {
            () = clock.sleep(self.poll) => {}
            () = self.hint() => clock.sleep(GATHER).await,
        }
    }

    /// Completes on a hint; for ever pending while there is no stream to be had.
    async fn hint(&mut self) {
        if self.stream.is_none() {
            self.stream = open(self.client.clone(), self.path.clone()).await;
        }
        if let Some(stream) = &mut self.stream {
            match stream.next().await {
                Some(Ok(_)) => return,
                // Ended or broken: the poll goes on, and the next wait opens it anew.
                Some(Err(_)) | None => self.stream = None,
            }
        }
        std::future::pending().await
    }
}

/// Takes its own connection: the wake-ups themselves hold a stream that cannot be shared between threads.
async fn open(client: RuntimeClient, path: String) -> Option<BoxStream<'static, reqwest::Result<Bytes>>> {
    let request = client.http.get(format!("{}{path}", client.base)).bearer_auth(&client.token);
    let response = tokio::select! {
        response = request.send() => response.ok()?,
        () = client.env.clock.sleep(QUICK) => return None,
    };
    response.status().is_success().then(|| response.bytes_stream().boxed())
}

impl RuntimeClient {
    /// Wake-ups for one agent process; `poll` bounds how late a lost hint is noticed (1 to 2 s is usual).
    pub fn wakeups(&self, acp: &AcpId, poll: Duration) -> Wakeups {
        Wakeups { client: self.clone(), path: format!("/v1/acp/{acp}"), poll, stream: None }
    }
}
