//! A question asked until its owner has answered for what the caller is now.

use std::sync::Arc;

use foundry_core::Env;
use foundry_watch::Backoff;
use tokio::sync::Semaphore;

use super::credential::{Asked, Credential, Judgement};
use crate::owners::Owners;
use crate::watch_request::WatchRequest;

/// How an owner is asked.
pub(crate) struct Asking {
    pub(crate) credential: Arc<Credential>,
    /// Turns of the questions of one stream.
    pub(crate) questions: Arc<Semaphore>,
    /// How many tokens were exchanged when the watch was wanted: its caller may have joined what it looks at a moment
    /// before, and only a token exchanged after that is sure to say so.
    pub(crate) exchanges: u64,
}

/// Asks the owner of a watch, with others of the same stream in turn. Before it is refused, it is asked once under a
/// token that is newer than the watch.
pub(crate) async fn ask(env: &Env, owners: &Owners, wanted: &WatchRequest, asking: &Asking) -> Judgement {
    let Asking { credential, questions, exchanges } = asking;
    let mut doubt = Some(*exchanges);
    let mut backoff = Backoff::default();
    loop {
        let asked = {
            // It is never closed; and if it were, the question needs no turn.
            let _turn = questions.acquire().await;
            credential.ask(owners, wanted, doubt).await
        };
        match asked {
            Asked::Judged(judgement) => return judgement,
            Asked::Doubtful => {
                if credential.renew_since(*exchanges).await.is_ok() {
                    doubt = None;
                    continue;
                }
            }
            Asked::Later => {}
        }
        env.clock.sleep(backoff.next(&*env.random)).await;
    }
}
