//! The end of a process: its order, its limits, and what it does not wait for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Probe, SERVICE, bounded, client, get, http_get, limits, prompt_drain, reason, watch};
use foundry_core::{Clock, Env, SystemClock, Tasks, Timestamp};
use foundry_server::config::{AdminConfig, DrainConfig, ServerConfig};
use foundry_server::testing::TestServer;
use foundry_server::{Exit, Metrics, Phases, Process, Service, Signals};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Phases that record that they ran.
    fn phases(&self, name: &'static str) -> Phases {
        let note = |phase: &'static str| {
            let diary = self.clone();
            move |_: Duration| async move {
                diary.note(format!("{name} {phase}"));
                Vec::new()
            }
        };
        Phases::default()
            .stop_claiming(note("stop_claiming"))
            .drain_watches(note("drain_watches"))
            .finish_jobs(note("finish_jobs"))
            .close_store(note("close_store"))
    }
}

/// Real time, except that the serving delay passes at once and is recorded.
struct DelayClock(Diary);

#[async_trait::async_trait]
impl Clock for DelayClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn sleep(&self, d: Duration) {
        if d == DrainConfig::default().serving_delay {
            self.0.note("serving_delay");
        } else {
            SystemClock.sleep(d).await;
        }
    }
}

fn process(diary: &Diary, drain: DrainConfig) -> Process {
    let env = Env { clock: Arc::new(DelayClock(diary.clone())), ..Env::system() };
    Process::new(env, drain, Metrics::new().unwrap())
}

async fn start(process: &mut Process, service: Service) -> std::net::SocketAddr {
    let mounted =
        service.mount(&ServerConfig::default(), &Env::system(), &Metrics::new().unwrap()).await.unwrap();
    process.start(mounted).await.unwrap()
}

#[tokio::test]
async fn services_stop_claiming_first_and_then_drain_one_after_the_other_in_the_given_order() {
    let diary = Diary::default();
    let mut process =
        process(&diary, DrainConfig { watches: Duration::from_secs(3), ..DrainConfig::default() });
    for name in ["auth", "task", "gateway"] {
        start(
            &mut process,
            Service::new(name, [SERVICE], Probe::default().routes()).phases(diary.phases(name)),
        )
        .await;
    }
    process.drain_order(&["gateway", "task", "auth"]);
    let (stop, signals) = Signals::manual();
    stop.stop();
    assert_eq!(bounded(process.run(signals)).await, Exit::Clean);
    assert_eq!(
        diary.read(),
        [
            // There is no client and no watch: neither the delay nor drain_watches.
            "gateway stop_claiming",
            "task stop_claiming",
            "auth stop_claiming",
            "gateway finish_jobs",
            "gateway close_store",
            "task finish_jobs",
            "task close_store",
            "auth finish_jobs",
            "auth close_store",
        ]
    );
}

#[tokio::test]
async fn with_a_client_connected_it_goes_on_serving_and_says_that_it_is_not_ready() {
    let diary = Diary::default();
    let mut process = process(&diary, DrainConfig::default());
    let (probe, gate) = (Probe::default(), CancellationToken::new());
    let phases = diary.phases("task").stop_claiming({
        let (diary, gate) = (diary.clone(), gate.clone());
        move |_| async move {
            diary.note("task stop_claiming");
            gate.cancelled().await;
            Vec::new()
        }
    });
    let address = start(&mut process, Service::new("task", [SERVICE], probe.routes()).phases(phases)).await;
    let admin = AdminConfig { listen: "127.0.0.1:0".parse().unwrap(), ..AdminConfig::default() };
    let admin = process.start_admin(&admin).await.unwrap().unwrap();
    let readiness = process.readiness();
    let upstream = foundry_server::Upstream::remote(&format!("http://{address}")).unwrap();
    let mut health = HealthClient::new(upstream.clone());
    let (stop, signals) = Signals::manual();

    let run = process.run(signals);
    let client = async {
        let request = || HealthCheckRequest { service: SERVICE.to_owned() };
        assert_eq!(health.check(request()).await.unwrap().into_inner().status(), ServingStatus::Serving);
        assert!(http_get(admin, "/readyz").await.starts_with("HTTP/1.1 200"));
        let mut statuses = health.watch(request()).await.unwrap().into_inner();
        assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        stop.stop();
        // This event means that the stop has begun.
        assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(http_get(admin, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(http_get(admin, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(http_get(admin, "/metrics").await.contains("foundry_connections"));
        assert!(!readiness.is_ready());
        // Still serving while draining has not reached its calls.
        client(upstream.clone()).get_task(get("echo")).await.unwrap();
        gate.cancel();
    };
    let (exit, ()) = bounded(Box::pin(async { tokio::join!(run, client) })).await;
    assert_eq!(exit, Exit::Clean);
    assert_eq!(
        diary.read(),
        ["serving_delay", "task stop_claiming", "task finish_jobs", "task close_store"],
        "a health watch is nobody to wait for"
    );
}

#[tokio::test]
async fn a_call_in_progress_is_answered_and_an_open_watch_is_told() {
    let probe = Probe::default();
    let server = TestServer::start_with(probe.service(), limits(|_| {}), prompt_drain()).await.unwrap();
    let mut client = client(server.remote().unwrap());
    let mut frames = bounded(client.watch_task(watch("t"))).await.unwrap().into_inner();
    probe.entered().await;
    assert_eq!(bounded(frames.message()).await.unwrap().unwrap().seq, 1);

    let mut caller = client.clone();
    let call = caller.get_task(get("hang"));
    let rest = async {
        probe.entered().await;
        let signal = server.signal();
        signal.stop();
        // `Drain`, then a proper end.
        assert_eq!(frames.message().await.unwrap().unwrap().seq, 2);
        assert!(frames.message().await.unwrap().is_none());
        probe.release();
        server.ended().await
    };
    let (call, exit) = bounded(async { tokio::join!(call, rest) }).await;
    assert_eq!(call.unwrap().into_inner().task.unwrap().task_id, "hang");
    assert_eq!(exit, Exit::Clean);
}

#[tokio::test]
async fn new_work_is_refused_once_its_phase_has_passed() {
    let probe = Probe::default();
    let (inside, go_on) = (Arc::new(Notify::new()), CancellationToken::new());
    let service = probe.service().phases(Phases::default().finish_jobs({
        let (inside, go_on) = (inside.clone(), go_on.clone());
        move |_| async move {
            inside.notify_one();
            go_on.cancelled().await;
            Vec::new()
        }
    }));
    let server = TestServer::start_with(service, limits(|_| {}), prompt_drain()).await.unwrap();
    let mut local = client(server.local.clone());
    server.signal().stop();
    bounded(inside.notified()).await;
    for status in
        [local.get_task(get("echo")).await.unwrap_err(), local.watch_task(watch("t")).await.unwrap_err()]
    {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "DRAINING"));
    }
    go_on.cancel();
    assert_eq!(bounded(server.ended()).await, Exit::Clean);
}

/// A server that blocks in the phase that ends watches once it is stopped: a signal that it is there, and a token to
/// end it.
async fn telling_watches() -> (Arc<Notify>, CancellationToken, TestServer) {
    let (inside, go_on) = (Arc::new(Notify::new()), CancellationToken::new());
    let service = Probe::default().service().phases(Phases::default().drain_watches({
        let (inside, go_on) = (inside.clone(), go_on.clone());
        move |_| async move {
            inside.notify_one();
            go_on.cancelled().await;
            Vec::new()
        }
    }));
    // Far beyond the length of a test: no connection is closed by the end of the phase, or because it is silent.
    let long = Duration::from_secs(3_600);
    let drain = DrainConfig { watches: long, total: long, ..prompt_drain() };
    let server = TestServer::start_with(service, limits(|it| it.header_timeout = long), drain).await.unwrap();
    (inside, go_on, server)
}

#[tokio::test]
async fn while_watches_are_told_to_leave_none_can_come_back_and_calls_still_can() {
    let (inside, go_on, server) = telling_watches().await;
    let mut client = client(server.remote().unwrap());
    let frames = bounded(client.watch_task(watch("t"))).await.unwrap();
    bounded(client.get_task(get("echo"))).await.unwrap();
    server.signal().stop();
    bounded(inside.notified()).await;
    assert_eq!(reason(&bounded(client.watch_task(watch("t"))).await.unwrap_err()), "DRAINING");
    // On its open connection; new connections are not accepted any more.
    bounded(client.get_task(get("echo"))).await.unwrap();
    drop(frames);
    go_on.cancel();
    assert_eq!(bounded(server.ended()).await, Exit::Clean);
}

#[tokio::test]
async fn connections_that_rest_or_have_said_nothing_are_closed_before_watches_are_told() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (inside, go_on, server) = telling_watches().await;
    let mut client = client(server.remote().unwrap());
    let frames = bounded(client.watch_task(watch("t"))).await.unwrap();
    let mut resting = tokio::net::TcpStream::connect(server.address).await.unwrap();
    resting.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0u8; 12];
    bounded(resting.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 415", "an answer, and the connection rests");
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    server.signal().stop();
    bounded(inside.notified()).await;
    for connection in [&mut resting, &mut silent] {
        let mut rest = String::new();
        bounded(connection.read_to_string(&mut rest)).await.unwrap();
    }
    drop(frames);
    go_on.cancel();
    assert_eq!(bounded(server.ended()).await, Exit::Clean);
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_and_holds_nobody_up() {
    // Far beyond the length of a test, except for the cut.
    let long = Duration::from_secs(3_600);
    let drain =
        DrainConfig { watches: Duration::from_millis(200), unary: long, total: long, ..prompt_drain() };
    let probe = Probe::default();
    let config = limits(|it| it.header_timeout = long);
    let server = TestServer::start_with(probe.service(), config, drain).await.unwrap();
    let mut client = client(server.remote().unwrap());
    let mut unread = bounded(client.watch_task(watch("endless"))).await.unwrap().into_inner();
    assert_eq!(bounded(server.stop()).await, Exit::Clean);
    // After data in flight there must be an error, not more data.
    let cut = async {
        loop {
            if let Err(status) = unread.message().await {
                return status;
            }
        }
    };
    assert_ne!(bounded(cut).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_call_that_never_ends_is_cut_off_at_its_limit() {
    let drain = DrainConfig { unary: Duration::from_millis(100), ..prompt_drain() };
    let probe = Probe::default();
    let server = TestServer::start_with(probe.service(), limits(|_| {}), drain).await.unwrap();
    let mut client = client(server.remote().unwrap());
    let (status, exit) = bounded(async {
        tokio::join!(client.get_task(get("hang")), async {
            probe.entered().await;
            server.stop().await
        })
    })
    .await;
    status.unwrap_err();
    assert_eq!(exit, Exit::Clean);
}

/// A service whose store never closes, and the event that it was asked to close.
fn stuck() -> (Service, oneshot::Receiver<()>) {
    let (sender, asked) = oneshot::channel();
    let phases = Phases::default().close_store(move |_| async move {
        sender.send(()).unwrap();
        std::future::pending().await
    });
    (Probe::default().service().phases(phases), asked)
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (service, asked) = stuck();
    let server = TestServer::start_with(service, limits(|_| {}), prompt_drain()).await.unwrap();
    let signal = server.signal();
    signal.stop();
    bounded(asked).await.unwrap();
    signal.stop();
    let exit = bounded(server.ended()).await;
    assert_eq!((exit.code(), exit), (130, Exit::Forced));
}

#[tokio::test]
async fn the_hard_bound_ends_a_stop_that_takes_too_long() {
    let (service, asked) = stuck();
    let drain = DrainConfig { total: Duration::from_millis(300), ..prompt_drain() };
    let server = TestServer::start_with(service, limits(|_| {}), drain).await.unwrap();
    server.signal().stop();
    // On a busy machine the bound is reached before the store is asked.
    let _ = bounded(asked).await;
    let exit = bounded(server.ended()).await;
    assert_eq!((exit.code(), exit), (1, Exit::Overdue));
}

#[tokio::test]
async fn the_death_of_a_background_task_drains_the_process_and_fails_it() {
    let diary = Diary::default();
    let mut process = process(&diary, prompt_drain());
    let (tasks, failures) = Tasks::new();
    process.supervise(failures);
    let service = Service::new("task", [SERVICE], Probe::default().routes());
    start(&mut process, service.phases(diary.phases("task")).background(tasks.clone())).await;
    tasks.spawn("flow worker", async { panic!("planted") });
    let (_stop, signals) = Signals::manual();
    let exit = bounded(process.run(signals)).await;
    assert_eq!((exit.code(), exit), (1, Exit::WorkerDied("flow worker")));
    assert_eq!(diary.read(), ["task stop_claiming", "task finish_jobs", "task close_store"]);
}

#[tokio::test]
async fn background_tasks_end_before_the_store_closes() {
    let diary = Diary::default();
    let mut process = process(&diary, prompt_drain());
    let (tasks, failures) = Tasks::new();
    process.supervise(failures);
    let service = Service::new("task", [SERVICE], Probe::default().routes());
    start(&mut process, service.phases(diary.phases("task")).background(tasks.clone())).await;
    tasks.spawn("projection", {
        let (diary, cancelled) = (diary.clone(), tasks.cancellation().clone());
        async move {
            cancelled.cancelled().await;
            diary.note("projection ended");
        }
    });
    let (stop, signals) = Signals::manual();
    stop.stop();
    assert_eq!(bounded(process.run(signals)).await, Exit::Clean);
    let read = diary.read();
    assert_eq!(read[1..], ["task finish_jobs", "projection ended", "task close_store"]);
}
