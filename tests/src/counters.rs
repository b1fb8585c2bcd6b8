//! The cost of a command: statements and commits in each service's database, and the rpcs that the services answer
//! until the mesh is at rest.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Mesh;
use crate::story::PATIENCE;

/// Time without a commit after which the mesh counts as at rest: more than any delayed write (usage 1 s, work 2 s).
const REST: Duration = Duration::from_millis(2500);

/// Counts by service and kind: `commits`, `write_sets`, `rolled_back`, `statements` and `loads` of its database, and
/// `requests` that it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<(String, String), u64>);

impl Counters {
    /// Reads the counters from the metrics of a mesh in one process.
    ///
    /// # Panics
    /// When its admin page does not respond.
    pub fn read(mesh: &Mesh) -> Self {
        let at = mesh.admin_url();
        let at = at.strip_prefix("http://").expect("an address without TLS");
        let mut stream = TcpStream::connect(at).expect("the admin page");
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {at}\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("metrics");
        let mut counters = BTreeMap::new();
        for (labels, count) in text.lines().filter_map(|line| line.rsplit_once(' ')) {
            let kind = if labels.starts_with("foundry_store_work_total{") {
                label(labels, "kind")
            } else if labels.starts_with("foundry_requests_total{") {
                Some("requests")
            } else {
                None
            };
            let (Some(kind), Some(service)) = (kind, label(labels, "service")) else { continue };
            let count: f64 = count.parse().expect("a number");
            *counters.entry((service.to_owned(), kind.to_owned())).or_default() += count as u64;
        }
        Self(counters)
    }

    /// Waits until no service has committed for `REST`, and reads the counters.
    ///
    /// # Panics
    /// When the mesh does not come to rest in time.
    pub async fn at_rest(mesh: &Mesh) -> Self {
        Self::until_none(mesh, |counters| counters.all("commits")).await
    }

    /// The same for one service; others may renew their leases.
    ///
    /// # Panics
    /// When the service does not come to rest in time.
    pub async fn rests(mesh: &Mesh, service: &str) -> Self {
        Self::until_none(mesh, |counters| counters.get(service, "commits")).await
    }

    async fn until_none(mesh: &Mesh, commits: impl Fn(&Self) -> u64) -> Self {
        let begun = Instant::now();
        let (mut last, mut since) = (Self::read(mesh), Instant::now());
        while since.elapsed() < REST {
            assert!(begun.elapsed() < PATIENCE, "the mesh does not rest: {last:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = Self::read(mesh);
            if commits(&now) != commits(&last) {
                since = Instant::now();
            }
            last = now;
        }
        last
    }

    /// The difference to earlier counters; only what has increased.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let counted =
            self.0.iter().map(|(key, count)| (key.clone(), count - before.0.get(key).unwrap_or(&0)));
        Self(counted.filter(|(_, count)| *count > 0).collect())
    }

    /// One counter; 0 if it does not exist.
    pub fn get(&self, service: &str, kind: &str) -> u64 {
        self.0.get(&(service.to_owned(), kind.to_owned())).copied().unwrap_or(0)
    }

    /// The sum of one kind over all services.
    pub fn all(&self, kind: &str) -> u64 {
        self.0.iter().filter(|((_, k), _)| k == kind).map(|(_, count)| count).sum()
    }
}

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut service = "";
        for ((of, kind), count) in &self.0 {
            if of == service {
                write!(f, ", {count} {kind}")?;
            } else {
                write!(f, "{}{of}: {count} {kind}", if service.is_empty() { "" } else { "\n" })?;
                service = of;
            }
        }
        Ok(())
    }
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels
        .split_once(&format!("{name}=\""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(value, _)| value)
}
