//! A process: its services, when it must stop, and its exit code.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use foundry_core::{Env, Error, TaskFailure, Tasks};
use futures::StreamExt as _;
use futures::stream::SelectAll;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::drain::{Drain, Running};
use super::signals::Signals;
use crate::admin;
use crate::config::{AdminConfig, DrainConfig, Limits};
use crate::listen::{self, Listener, dispatch, routed};
use crate::open_routes::Health;
use crate::service::Mounted;
use crate::telemetry::Metrics;
use crate::tls::Certificates;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The drain completed; whatever was cut off at a limit is in the log, and durable.
    Clean,
    /// The hard bound of the stop was reached.
    Overdue,
    /// A second signal ended the process at once.
    Forced,
    /// A background task died; the process drained, and must be restarted.
    WorkerDied(&'static str),
}

impl Exit {
    /// The exit code: 0, or 1 when the stop was overdue or a worker died, or 130 when forced.
    pub fn code(&self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::Overdue | Exit::WorkerDied(_) => 1,
            Exit::Forced => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Whether the process takes new work; read by the admin listener.
#[derive(Clone, Debug)]
pub struct Readiness {
    ready: watch::Receiver<bool>,
    services: Arc<Mutex<Vec<Health>>>,
}

impl Readiness {
    /// Whether all services are up, their databases take writes, and no stop has begun.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow() && foundry_core::lock(&self.services).iter().all(Health::is_writable)
    }
}

/// The services of a process, from their start to the end of the drain.
pub struct Process {
    env: Env,
    drain: DrainConfig,
    metrics: Metrics,
    tasks: Tasks,
    failures: SelectAll<UnboundedReceiverStream<TaskFailure>>,
    services: Vec<Running>,
    order: Vec<&'static str>,
    admin: Option<Listener>,
    /// Sockets that were bound before their listeners start, by name.
    bound: HashMap<&'static str, TcpListener>,
    ready: watch::Sender<bool>,
    /// The health of each service, for the readiness.
    health: Arc<Mutex<Vec<Health>>>,
}

/// The name of the admin listener.
const ADMIN: &str = "admin";

impl Process {
    /// A process without services.
    pub fn new(env: Env, drain: DrainConfig, metrics: Metrics) -> Self {
        let (tasks, failures) = Tasks::new();
        let mut process = Self {
            env,
            drain,
            metrics,
            tasks,
            failures: SelectAll::new(),
            services: Vec::new(),
            order: Vec::new(),
            admin: None,
            bound: HashMap::new(),
            ready: watch::Sender::new(false),
            health: Arc::default(),
        };
        process.supervise(failures);
        process
    }

    /// Stops the process with a failure when a panic is reported here; call it once per set of background tasks.
    pub fn supervise(&mut self, failures: mpsc::UnboundedReceiver<TaskFailure>) {
        self.failures.push(UnboundedReceiverStream::new(failures));
    }

    /// Sets the order in which services drain, by name. Without it, the last one started drains first.
    pub fn drain_order(&mut self, names: &[&'static str]) {
        self.order = names.to_vec();
    }

    /// Binds the addresses of the services with these names, and that of the admin listener, before anything is built
    /// that has effects: an address that is taken is detected before any work has begun.
    ///
    /// # Errors
    /// `ADDRESS_UNAVAILABLE`.
    pub async fn bind(
        &mut self,
        services: &[(&'static str, SocketAddr)],
        admin: &AdminConfig,
    ) -> Result<(), Error> {
        let admin = admin.enabled.then_some((ADMIN, admin.listen));
        for (name, address) in services.iter().copied().chain(admin) {
            self.bound.insert(name, listen::bind(name, address).await?);
        }
        Ok(())
    }

    async fn socket(&mut self, name: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
        match self.bound.remove(name) {
            Some(socket) => Ok(socket),
            None => listen::bind(name, address).await,
        }
    }

    /// Starts the listener of a service and reports it healthy. Returns its address.
    ///
    /// # Errors
    /// When the address is not available.
    pub async fn start(&mut self, mut mounted: Mounted) -> Result<SocketAddr, Error> {
        let name = mounted.name;
        let socket = self.socket(name, mounted.config.listen).await?;
        let service = dispatch(&mounted);
        let certificates = mounted.certificates.take();
        if let Some(certificates) = certificates.clone() {
            self.keep_certificates(name, certificates);
        }
        let (metrics, tasks) = (&self.metrics, &self.tasks);
        let listener =
            Listener::start(name, socket, service, &mounted.config.limits, certificates, metrics, tasks)?;
        mounted.health.set(true).await;
        foundry_core::lock(&self.health).push(mounted.health.clone());
        let address = listener.address();
        tracing::info!(service = name, %address, "serving");
        self.services.push(Running {
            name,
            listener,
            active: mounted.active().clone(),
            health: mounted.health.clone(),
            phases: std::mem::take(&mut mounted.phases),
            background: mounted.background.take(),
        });
        Ok(address)
    }

    /// Takes new certificates from their files until the process stops. Those of a listener are kept by its start.
    pub fn keep_certificates(&self, name: &'static str, certificates: Certificates) {
        let (clock, metrics) = (self.env.clock.clone(), self.metrics.clone());
        let stop = self.tasks.cancellation().clone();
        self.tasks.spawn("certificates", async move {
            // They are looked at until the process stops.
            stop.run_until_cancelled(certificates.keep(name, clock, metrics)).await;
        });
    }

    /// Starts the admin listener: `/healthz`, `/readyz`, `/metrics`. Returns its address, if it is enabled.
    ///
    /// # Errors
    /// When the address is not available.
    pub async fn start_admin(&mut self, config: &AdminConfig) -> Result<Option<SocketAddr>, Error> {
        if !config.enabled {
            return Ok(None);
        }
        let service = routed(admin::router(self.readiness(), self.metrics.clone()));
        let limits = Limits { connections: 64, ..Limits::default() };
        let socket = self.socket(ADMIN, config.listen).await?;
        let (metrics, tasks) = (&self.metrics, &self.tasks);
        let listener = Listener::start(ADMIN, socket, service, &limits, None, metrics, tasks)?;
        let address = listener.address();
        tracing::info!(%address, "admin: /healthz, /readyz, /metrics");
        self.admin = Some(listener);
        Ok(Some(address))
    }

    /// Whether the process is ready.
    pub fn readiness(&self) -> Readiness {
        Readiness { ready: self.ready.subscribe(), services: Arc::clone(&self.health) }
    }

    /// Serves until a signal or the death of a background task, then drains. A second signal ends it at once.
    ///
    /// The caller must then exit the process with the result, so that nothing left over can delay the exit.
    pub async fn run(mut self, mut signals: Signals) -> Exit {
        self.ready.send_replace(true);
        let died = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "stopping");
                None
            }
            Some(failure) = self.failures.next() => {
                tracing::error!(task = failure.name, "stopping: a background task died");
                Some(failure.name)
            }
        };
        let total = self.drain.total;
        let clock = self.env.clock.clone();
        let exit = tokio::select! {
            biased;
            () = self.drain() => Exit::Clean,
            name = signals.next() => {
                tracing::warn!(signal = name, "terminating immediately");
                Exit::Forced
            }
            () = clock.sleep(total) => {
                tracing::error!(limit_s = total.as_secs(), "the drain took too long; terminating");
                Exit::Overdue
            }
        };
        match (exit, died) {
            (Exit::Clean, Some(name)) => Exit::WorkerDied(name),
            (exit, _) => exit,
        }
    }

    async fn drain(&mut self) {
        let services = self.in_drain_order();
        let drain = Drain::begin(&self.env, &self.drain, &self.metrics);
        drain.run(services, &self.ready).await;
        if let Some(admin) = self.admin.take() {
            admin.close(std::time::Duration::ZERO).await;
        }
        self.tasks.shutdown(drain.left()).await;
    }

    fn in_drain_order(&mut self) -> Vec<Running> {
        let mut services: Vec<Running> = self.services.drain(..).rev().collect();
        let place = |s: &Running| self.order.iter().position(|name| *name == s.name).unwrap_or(usize::MAX);
        services.sort_by_key(place);
        services
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("services", &self.services).finish_non_exhaustive()
    }
}
