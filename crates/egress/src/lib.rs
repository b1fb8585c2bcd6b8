//! Outbound traffic of sandboxes that have a network of their own: an HTTP proxy (CONNECT and absolute-form requests)
//! behind a unix socket, which applies the policy of the sandbox that a connection comes from. See
//! `docs/adr/0012-a-network-for-each-sandbox.md`.
//!
//! A library: the implementer of [`Directory`] holds the sandboxes and their policies.

mod address;
mod answer;
mod dial;
mod host_network;
mod judge;
mod proxy;
mod reach;
mod refusal_log;
mod relay;
mod serve;
mod target;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Env, Tasks};
use foundry_sandbox::{Claim, Network, Shares};

pub use host_network::{HostNetwork, SystemNetwork};
pub use reach::{Reach, reach};
pub use upstream::Upstream;

/// Looks up sandboxes and their policies.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The network of the living sandbox that makes this claim; `None` when the claim is not proved.
    ///
    /// # Errors
    /// Why the look-up failed, for the log; the sandbox tries again.
    async fn network(&self, claim: &Claim) -> Result<Option<Network>, String>;
}

/// The proxy's limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a connection may take to claim its sandbox.
    pub claim: Duration,
    /// Connections of one sandbox at once; further ones are refused.
    pub connections_of_sandbox: usize,
    /// Connections of all sandboxes at once. A sandbox gets at most half of those still free, so that a few greedy ones
    /// leave room for the others.
    pub connections: usize,
    /// How long it may take to resolve a name and to connect to one of its addresses.
    pub connect: Duration,
    /// A tunnel without a byte in either direction is closed after this time, or at the latest after twice this time.
    pub idle: Duration,
    /// The same when one side has closed, as after the end of a sandbox.
    pub half_idle: Duration,
    /// How long connections may continue after the service's tasks were cancelled.
    pub drain: Duration,
}

impl Default for Settings {
    /// 5 s for the claim, 256 connections of a sandbox and 4,096 of all, 10 s to connect, 10 minutes of silence, 15 s
    /// when one side has closed, 3 s to drain.
    fn default() -> Self {
        Self {
            claim: Duration::from_secs(5),
            connections_of_sandbox: 256,
            connections: 4_096,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            half_idle: Duration::from_secs(15),
            drain: Duration::from_secs(3),
        }
    }
}

/// The proxy; clones share it.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    directory: Arc<dyn Directory>,
    host_network: Arc<dyn HostNetwork>,
    upstream: Option<Upstream>,
    settings: Settings,
    env: Env,
    tasks: Tasks,
    held: Shares<String>,
    refusals: refusal_log::RefusalLog,
}

impl Egress {
    /// A proxy that looks up policies in `directory` and reaches hosts through `host_network`, or through `upstream`
    /// where the operator configured it. Its background work runs on `tasks`.
    pub fn new(
        directory: Arc<dyn Directory>,
        host_network: Arc<dyn HostNetwork>,
        upstream: Option<Upstream>,
        settings: Settings,
        env: Env,
        tasks: Tasks,
    ) -> Self {
        let held = Shares::default();
        let refusals = refusal_log::RefusalLog::default();
        Self(Arc::new(Inner { directory, host_network, upstream, settings, env, tasks, held, refusals }))
    }
}

/// A description of a policy for users. `through_upstream`: the operator's own proxy resolves names.
pub fn describe(network: &Network, through_upstream: bool) -> String {
    let meaning = match network {
        Network::Host => {
            return "host: the network of this machine, including loopback and private addresses".to_owned();
        }
        Network::Own { rules } if rules.0.is_empty() => "no outbound access except models".to_owned(),
        Network::Own { rules } if rules.0.contains(&foundry_sandbox::Rule::Public) => {
            "isolated network; public hosts through a proxy, never this machine or private addresses"
                .to_owned()
        }
        Network::Own { .. } => "isolated network; only these hosts, through a proxy".to_owned(),
    };
    let by_name = through_upstream && *network != Network::none();
    let note = if by_name {
        "; hosts are checked by name only, because an upstream proxy resolves them"
    } else {
        ""
    };
    format!("{network}: {meaning}{note}")
}
