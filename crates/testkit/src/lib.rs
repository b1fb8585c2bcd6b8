//! What tests of every crate share: time and randomness under the test's control, its log, a temporary PostgreSQL, a
//! full disk, hosts of Git repositories over HTTP and ssh, the certificates and proxies on the way to them, and forges. Of our crates it depends on `foundry-core` alone, so that every other one can use it.

mod clock;
mod connect_proxy;
mod disk;
mod forge;
mod git_http;
pub mod hostile_git;
mod identity;
mod lfs;
mod log;
mod postgres;
mod random;
mod sshd;
mod tls;

use std::sync::Arc;

pub use clock::MockClock;
pub use connect_proxy::ConnectProxy;
pub use disk::{FULL_DISK, ROOMY_DISK};
pub use forge::{APP_KEY, Exchange, ForgeHost, GitHubApp};
use foundry_core::Env;
pub use git_http::GitHttp;
pub use identity::{IdentityHost, Person};
pub use lfs::{LfsBehaviour, LfsServer};
pub use log::Log;
pub use postgres::{
    PostgresCluster, PostgresDatabase, PostgresMissing, database_url, migrated_database_url, on_postgres,
};
pub use random::SeededRandom;
pub use sshd::Sshd;
pub use tls::Authority;

/// An environment with a clock that is stopped until it is advanced, and replayable randomness.
pub struct TestEnv {
    /// The environment for the code under test.
    pub env: Env,
    /// The clock of `env`, to advance it.
    pub clock: Arc<MockClock>,
}

/// A request as a service gets it once its caller is authenticated.
pub fn called_by<C: Clone + Send + Sync + 'static, T>(caller: &C, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}

/// A fresh environment: the clock at 2026-01-01T00:00:00Z, the randomness from seed 1.
pub fn test_env() -> TestEnv {
    seeded_env(1)
}

/// A fresh environment with the given seed.
pub fn seeded_env(seed: u64) -> TestEnv {
    let clock = Arc::new(MockClock::default());
    let env = Env { clock: Arc::clone(&clock) as _, random: Arc::new(SeededRandom::new(seed)) };
    TestEnv { env, clock }
}
