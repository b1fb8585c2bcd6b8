//! The feed of revocations: a watch on the auth service that runs for the life of the process.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::auth::v1::{Revocation, WatchRevocationsRequest};
use foundry_watch::{
    Change, Consumer, ConsumerConfig, Event, MIN_HEARTBEAT, MIN_SERVICE_HEARTBEAT, Observer, Op,
};
use tonic::Code;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

use crate::Revocations;

/// The stream is taken as lost after two and a half of these without a frame, and opened again: so a revocation that a
/// silent stream does not deliver is known within five seconds.
const HEARTBEAT: Duration = MIN_SERVICE_HEARTBEAT;
/// The longest wait before it is opened again. Short, since without it nothing can be changed after a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Pause after a refusal that a retry cannot fix, such as a missing permission: an operator may fix it while this
/// process runs.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// Keeps `revocations` current by watching the auth service over an upstream that adds this service's identity;
/// `observer` is called when that watch is reopened.
pub fn keep_revocations<T>(
    upstream: T,
    revocations: Revocations,
    env: &Env,
    tasks: &Tasks,
    observer: Arc<dyn Observer>,
) where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let (env, of) = (env.clone(), tasks.clone());
    let client = AuthServiceClient::new(upstream);
    tasks.spawn("keep revocations", async move {
        let mut heartbeat = HEARTBEAT;
        loop {
            let config = ConsumerConfig {
                heartbeat,
                longest_wait: LONGEST_WAIT,
                ..ConsumerConfig::new("WatchRevocations")
            }
            .observed_by(Arc::clone(&observer));
            let client = client.clone();
            let consumer = Consumer::start(&of, env.clone(), config, move |options| {
                let mut client = client.clone();
                async move {
                    let request = WatchRevocationsRequest { options: Some(options) };
                    Ok(client.watch_revocations(request).await?.into_inner())
                }
            });
            let status = follow(consumer, &revocations, &env, heartbeat != HEARTBEAT).await;
            if status.code() == Code::Cancelled && of.cancellation().is_cancelled() {
                return;
            }
            tracing::error!(%status, "the revocation watch was rejected; retrying");
            revocations.feed_lost(env.clock.now());
            // An auth service from before the shorter interval refuses it, until that is upgraded as well.
            heartbeat = if status.code() == Code::InvalidArgument { MIN_HEARTBEAT } else { HEARTBEAT };
            tokio::select! {
                () = of.cancellation().cancelled() => return,
                () = env.clock.sleep(PAUSE_AFTER_REFUSAL) => {}
            }
        }
    });
}

/// Applies what the feed says, until an error that cannot be fixed; with `once`, until the stream is lost.
async fn follow(
    mut consumer: Consumer<Revocation>,
    revocations: &Revocations,
    env: &Env,
    once: bool,
) -> tonic::Status {
    loop {
        match consumer.next().await {
            Ok(event) => {
                apply(&event, revocations, env);
                if once && let Event::Disconnected { status, .. } = event {
                    return status;
                }
            }
            Err(status) => return status,
        }
    }
}

fn apply(event: &Event<Revocation>, revocations: &Revocations, env: &Env) {
    match event {
        Event::Snapshot { rows, .. } => {
            revocations.replace(rows.iter().map(|row| (row.key.as_str(), row.version)));
        }
        Event::Delta { changes, .. } => {
            for Change { key, version, op } in changes {
                match op {
                    Op::Upsert(_) => revocations.add(key, *version),
                    Op::Deleted | Op::LeftView => revocations.forget(key),
                }
            }
            revocations.feed_restored();
        }
        Event::CaughtUp { .. } => revocations.feed_restored(),
        Event::Disconnected { .. } => revocations.feed_lost(env.clock.now()),
        Event::Connected { .. } | Event::Reset { .. } | Event::AuthExpiring { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use foundry_core::proto_duration;
    use foundry_frame::{RawBody, RawFrame};
    use foundry_proto::watch::v1::Hello;
    use foundry_watch::Position;
    use futures::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use prost::Message as _;

    use super::*;
    use crate::credential_key;

    fn change(id: &str, version: i64, op: Op<Revocation>) -> Change<Revocation> {
        Change { key: credential_key(id), version, op }
    }

    #[test]
    fn keeps_what_the_feed_says_and_whether_it_says_anything() {
        let (test, revocations) = (foundry_testkit::test_env(), Revocations::new());
        let put = || Op::Upsert(Revocation::default());
        let at = Position::default;
        let revoked = |id: &str| !revocations.allows_credential(id);
        apply(
            &Event::Snapshot { rows: vec![change("a", 1, put())], position: at() },
            &revocations,
            &test.env,
        );
        assert!(revocations.is_loaded() && revoked("a") && !revoked("b"));
        let changes = vec![change("b", 2, put()), change("a", 3, Op::Deleted)];
        apply(&Event::Delta { changes, position: at() }, &revocations, &test.env);
        assert!(!revoked("a") && revoked("b"));

        let lost = Event::Disconnected { status: tonic::Status::unavailable(""), retry_in: Duration::ZERO };
        apply(&lost, &revocations, &test.env);
        test.clock.advance(Duration::from_secs(60));
        apply(&lost, &revocations, &test.env);
        assert!(revocations.stale_since(test.env.clock.now()).is_some(), "a later loss is the same loss");
        assert!(revoked("b"), "what was revoked stays so without the feed");
        apply(&Event::CaughtUp { position: at() }, &revocations, &test.env);
        assert_eq!(revocations.stale_since(test.env.clock.now()), None);
    }

    /// An auth service that says hello on each stream and then nothing, as behind a network that has gone silent.
    fn silent(
        opened: Arc<AtomicUsize>,
    ) -> impl tower::Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future = impl Send,
    > + Clone
    + Send
    + Sync
    + 'static {
        tower::service_fn(move |_: http::Request<Body>| {
            opened.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(hello(HEARTBEAT)) }
        })
    }

    fn hello(heartbeat: Duration) -> http::Response<Body> {
        let hello = Hello { heartbeat: Some(proto_duration(heartbeat)), ..Hello::default() };
        let body = Some(RawBody::Hello(hello.encode_to_vec().into()));
        let message = RawFrame { seq: 1, from_rev: 0, body }.encode_to_vec();
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(message);
        let frame = Ok::<_, tonic::Status>(http_body::Frame::data(Bytes::from(framed)));
        let frames = futures::stream::iter([frame]).chain(futures::stream::pending());
        let response = http::Response::builder().header("content-type", "application/grpc");
        response.body(Body::new(StreamBody::new(frames))).unwrap()
    }

    /// An auth service that refuses intervals of less than five seconds, and is otherwise as [`silent`]; notes the
    /// intervals.
    fn before_the_shorter_interval(
        asked: Arc<Mutex<Vec<i64>>>,
    ) -> impl tower::Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future = impl Send,
    > + Clone
    + Send
    + Sync
    + 'static {
        tower::service_fn(move |request: http::Request<Body>| {
            let asked = Arc::clone(&asked);
            async move {
                let sent = request.into_body().collect().await.unwrap().to_bytes();
                let options = WatchRevocationsRequest::decode(sent.slice(5..)).unwrap().options.unwrap();
                let seconds = options.heartbeat.unwrap().seconds;
                foundry_core::lock(&asked).push(seconds);
                Ok::<_, Infallible>(match seconds {
                    5.. => hello(MIN_HEARTBEAT),
                    _ => tonic::Status::invalid_argument("must be 5 to 30 seconds").into_http(),
                })
            }
        })
    }

    #[tokio::test]
    async fn an_older_auth_service_is_followed_at_its_interval_and_asked_for_the_shorter_one_after_a_loss() {
        let (test, revocations) = (foundry_testkit::test_env(), Revocations::none());
        let asked: Arc<Mutex<Vec<i64>>> = Arc::default();
        let (tasks, _failures) = Tasks::new();
        let upstream = before_the_shorter_interval(Arc::clone(&asked));
        let observer = Arc::new(foundry_watch::NoObserver);
        keep_revocations(upstream, revocations, &test.env, &tasks, observer);
        let (step, most) = (Duration::from_millis(500), Duration::from_secs(40));
        let asked = || foundry_core::lock(&asked).clone();
        test.clock.advance_until(step, most, 1, || asked().len() >= 3).await;
        assert_eq!(asked()[..3], [1, 5, 1]);
        tasks.shutdown(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn a_silent_feed_is_noticed_and_opened_again_within_five_seconds() {
        let (test, revocations, opened) =
            (foundry_testkit::test_env(), Revocations::none(), Arc::new(AtomicUsize::new(0)));
        let (tasks, _failures) = Tasks::new();
        let upstream = silent(Arc::clone(&opened));
        keep_revocations(
            upstream,
            revocations.clone(),
            &test.env,
            &tasks,
            Arc::new(foundry_watch::NoObserver),
        );
        let (step, most) = (Duration::from_millis(100), Duration::from_secs(5));
        let noticed = test.clock.advance_until(step, most, 1, || revocations.lost_at().is_some()).await;
        let reopened = test.clock.advance_until(step, most, 1, || opened.load(Ordering::SeqCst) >= 2).await;
        assert!(noticed + reopened < most, "noticed after {noticed:?}, opened {reopened:?} later");
        tasks.shutdown(Duration::from_secs(1)).await;
    }
}
