//! What becomes of the permission behind a stream: ended with its credential, judged again with
//! every revocation that concerns its user.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use foundry_authn::{Caller, UserCaller};
use foundry_core::{Env, Tasks, Timestamp};
use foundry_watch::{AuthorizationEvent, Backoff, StreamAuthorization as _};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::credential::Credential;

/// What the stream has to do.
pub(crate) enum Notice {
    /// Say that it ends at this time.
    Expiring(Timestamp),
    /// End with this status; nothing else is sent.
    End(Status),
    /// Send nothing of any watch that is not granted again.
    Changed,
    /// The caller is known again.
    Renewed,
}

enum Renewal {
    /// The caller is as its token says; completes when that changes.
    Good(BoxFuture<'static, ()>),
    /// A token that says what is true now is being had.
    Asked(oneshot::Receiver<Result<Caller, Status>>),
}

/// Watches over one stream.
pub(crate) struct Guard {
    credential: Arc<Credential>,
    caller: Caller,
    events: BoxStream<'static, AuthorizationEvent>,
    renewal: Renewal,
    env: Env,
    tasks: Tasks,
}

impl Guard {
    pub(crate) fn new(credential: Arc<Credential>, caller: Caller, env: Env, tasks: Tasks) -> Self {
        let events = Box::new(credential.pass(&caller)).events();
        let renewal = Renewal::Good(until_changed(&credential, &caller));
        Self { credential, caller, events, renewal, env, tasks }
    }

    /// The caller as its newest token says.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether nobody knows at this moment what the caller may see.
    pub(crate) fn is_renewing(&self) -> bool {
        matches!(self.renewal, Renewal::Asked(_))
    }

    /// Safe to drop at any time: what it waits for is registered in the guard.
    async fn notice(&mut self) -> Notice {
        tokio::select! {
            biased;
            event = self.events.next() => match event {
                Some(AuthorizationEvent::Expiring(at)) => Notice::Expiring(at),
                Some(AuthorizationEvent::Ended(status)) => Notice::End(status),
                None => {
                    self.events = futures::stream::pending().boxed();
                    Notice::Renewed
                }
            },
            notice = renewed(&mut self.renewal) => match notice {
                None => {
                    self.credential.raise_epoch();
                    self.renewal = Renewal::Asked(self.renew());
                    Notice::Changed
                }
                Some(Ok(caller)) => {
                    self.events = Box::new(self.credential.pass(&caller)).events();
                    self.renewal = Renewal::Good(until_changed(&self.credential, &caller));
                    self.caller = caller;
                    Notice::Renewed
                }
                Some(Err(status)) => Notice::End(status),
            },
        }
    }

    /// Asks beside the stream, which nobody may be reading.
    fn renew(&self) -> oneshot::Receiver<Result<Caller, Status>> {
        let (sender, receiver) = oneshot::channel();
        let (credential, env) = (Arc::clone(&self.credential), self.env.clone());
        let stop = self.tasks.cancellation().clone();
        self.tasks.spawn("edge token renewal", async move {
            let mut sender = sender;
            let renewing = async {
                let mut backoff = Backoff::default();
                loop {
                    match credential.fresh().await {
                        Ok(fresh) => return Ok(fresh.caller),
                        Err(status) if status.code() == Code::Unauthenticated => return Err(status),
                        Err(_) => env.clock.sleep(backoff.next(&*env.random)).await,
                    }
                }
            };
            tokio::select! {
                outcome = renewing => {
                    // A stream that is gone needs no answer.
                    let _ = sender.send(outcome);
                }
                () = sender.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        receiver
    }
}

/// The next thing to do, without an end.
impl Stream for Guard {
    type Item = Notice;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        pin!(self.notice()).poll(cx).map(Some)
    }
}

/// None = the caller changed; some = it is known again.
async fn renewed(renewal: &mut Renewal) -> Option<Result<Caller, Status>> {
    match renewal {
        Renewal::Good(changed) => {
            changed.await;
            None
        }
        Renewal::Asked(answer) => match answer.await {
            Ok(outcome) => Some(outcome),
            // The process stops; the stream learns of it elsewhere.
            Err(_) => std::future::pending().await,
        },
    }
}

fn until_changed(credential: &Credential, caller: &Caller) -> BoxFuture<'static, ()> {
    let revocations = credential.authenticator().revocations().clone();
    let user: Option<UserCaller> = caller.as_user().cloned();
    async move {
        match user {
            Some(user) => revocations.renewal_needed(&user).await,
            None => std::future::pending().await,
        }
    }
    .boxed()
}
