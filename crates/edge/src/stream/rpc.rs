//! The edge's own rpcs, for one request whose caller is known.

use std::sync::Arc;

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::edge::v1 as wire;
use foundry_proto::edge::v1::edge_service_server::EdgeService;
use foundry_server::{Unframed, framed};
use foundry_watch::parse_heartbeat;
use futures::StreamExt as _;
use tonic::{Request, Response, Status};

use super::session::{Session, draining};
use super::shared::Shared;
use super::starter::Starter;
use super::stream_frame::StreamFrame;
use super::subscription_set::{MAX_WATCHES, SubscriptionSet};
use crate::host::{Allowance, Token};
use crate::permission::Credential;

/// One request at the edge itself.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Caller,
    pub(crate) token: Token,
    /// Held until the answer ends.
    pub(crate) allowance: Arc<dyn Allowance>,
}

impl Call {
    /// Each watch is a question to its owner: it counts as a request.
    fn charge(&self, watches: usize) -> Result<()> {
        (0..watches).try_for_each(|_| self.allowance.charge())
    }
}

#[tonic::async_trait]
impl EdgeService for Call {
    type WatchStream = Unframed<StreamFrame>;

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let wire::WatchRequest { subscriptions, heartbeat } = request.into_inner();

        // Validate.
        let heartbeat = parse_heartbeat(heartbeat, "heartbeat")?;
        let watches = subscriptions.len();
        let subscriptions = SubscriptionSet::new(subscriptions)?;
        self.charge(watches)?;
        let user = self.caller.require_user()?;
        let shared = &self.shared;
        if shared.drain.has_begun() {
            return Err(draining().into_status());
        }

        // The stream, which does all the rest when it is polled.
        let credential = Credential::new(Arc::clone(&shared.tokens), self.token.clone());
        let registered = shared.streams.register(&*shared.env.random, user, subscriptions, credential);
        let starter = Starter::new(Arc::clone(shared), user.user_id.as_str());
        let (end, allowance) = (shared.drain.stream(), Arc::clone(&self.allowance));
        let session = Session::new(registered, starter, &self.caller, end, heartbeat, allowance);
        let frames = futures::stream::unfold(Box::new(session), |mut session| async move {
            let frame = session.next().await?;
            Some((frame, session))
        });
        Ok(framed(frames.boxed()))
    }

    async fn modify_watches(
        &self,
        request: Request<wire::ModifyWatchesRequest>,
    ) -> Result<Response<wire::ModifyWatchesResponse>, Status> {
        let wire::ModifyWatchesRequest { stream_id, version, add, remove } = request.into_inner();
        let entry = self.shared.streams.find(&stream_id, self.caller.require_user()?)?;
        self.charge(add.len().min(MAX_WATCHES))?;
        let version = entry.subscriptions.modify(version, add, &remove)?;
        // What its owners are asked from now on, they are asked under the newest token.
        entry.credential.replace(self.token.clone());
        Ok(Response::new(wire::ModifyWatchesResponse { version }))
    }
}
