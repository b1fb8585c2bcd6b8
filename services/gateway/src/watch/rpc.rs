//! The edge's own rpcs, for one request whose caller is known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::edge::v1 as wire;
use foundry_proto::edge::v1::edge_service_server::EdgeService;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Shared;
use super::credential::Credential;
use super::roster::{MOST_WATCHES, Roster};
use super::session::Session;
use super::subs::Starter;
use crate::admission::Token;
use crate::caller_limits::{Account, CallerBook, Permit};
use crate::cut;

const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
pub(crate) const MIN_HEARTBEAT: Duration = Duration::from_secs(5);
const MAX_HEARTBEAT: Duration = Duration::from_secs(30);

/// One request at the edge itself.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Caller,
    pub(crate) token: Token,
    pub(crate) callers: CallerBook,
    pub(crate) account: Account,
    /// Held until the answer ends.
    pub(crate) permit: Mutex<Option<Permit>>,
}

impl Call {
    /// Each watch is a question to its owner: it counts as a request.
    fn charge(&self, watches: usize) -> Result<()> {
        (0..watches).try_for_each(|_| self.callers.charge(&self.account))
    }
}

#[tonic::async_trait]
impl EdgeService for Call {
    type WatchStream = BoxStream<'static, Result<wire::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let wire::WatchRequest { subscriptions, heartbeat } = request.into_inner();

        // Validate.
        let heartbeat = parse_heartbeat(heartbeat, "heartbeat")?;
        let watches = subscriptions.len();
        let roster = Roster::new(subscriptions)?;
        self.charge(watches)?;
        let user = self.caller.require_user()?;
        let shared = &self.shared;
        if shared.orders.is_draining() {
            return Err(cut::draining().into_status());
        }

        // The stream, which does all the rest when it is polled.
        let credential = Credential::new(Arc::clone(&shared.tokens), self.token.clone());
        let registered = shared.streams.register(&*shared.env.random, user, roster, credential);
        let starter = Starter::new(Arc::clone(shared), user.user_id.as_str());
        let permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session =
            Session::new(registered, starter, &self.caller, shared.orders.ending(), heartbeat, permit);
        let frames = futures::stream::unfold(Box::new(session), |mut session| async move {
            let frame = session.next().await?;
            Some((frame, session))
        });
        Ok(Response::new(frames.boxed()))
    }

    async fn modify_watches(
        &self,
        request: Request<wire::ModifyWatchesRequest>,
    ) -> Result<Response<wire::ModifyWatchesResponse>, Status> {
        let wire::ModifyWatchesRequest { stream_id, version, add, remove } = request.into_inner();
        let entry = self.shared.streams.find(&stream_id, self.caller.require_user()?)?;
        self.charge(add.len().min(MOST_WATCHES))?;
        let version = entry.roster.modify(version, add, &remove)?;
        // What its owners are asked from now on, they are asked under the newest token.
        entry.credential.replace(self.token.clone());
        Ok(Response::new(wire::ModifyWatchesResponse { version }))
    }
}

/// How often its caller wants to hear of a stream or of a watch.
pub(crate) fn parse_heartbeat(asked: Option<prost_types::Duration>, field: &str) -> Result<Duration> {
    let refused = || Error::invalid_field(field, "must be 5 to 30 seconds");
    let heartbeat = match asked {
        None => DEFAULT_HEARTBEAT,
        Some(d) => Duration::try_from(d).map_err(|_| refused())?,
    };
    if (MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&heartbeat) { Ok(heartbeat) } else { Err(refused()) }
}
