//! Fifty watchers through severed streams, drained and killed hubs and lag, under the oracle.
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::*;
use foundry_core::{Env, Tasks};
use foundry_frame::RawBody;
use foundry_watch::Unrestricted;
use foundry_watch::oracle::{ClientLog, History, StreamLog, check};
use foundry_watch_hub::{Hub, HubConfig, WatchMetrics};
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;

const WATCHERS: usize = 50;
const WRITERS: usize = 16;
const COMMITS: i64 = 4_000;
/// How often each half of the watchers must at least resume from a position.
const RESUMES: usize = 200;
/// Commits between two restarts of the serving process.
const RESTART_EVERY: i64 = 500;

/// The current serving process, and the earlier ones.
struct Service {
    world: World,
    current: Mutex<(Hub, Tasks)>,
    retired: Mutex<Vec<Hub>>,
    head: watch::Sender<i64>,
    /// Set once all commits are made.
    last: AtomicI64,
    /// Streams that resumed from a position: of watchers of all things, and of the red ones.
    resumed: [AtomicUsize; 2],
}

impl Service {
    fn start(world: &World) -> (Hub, Tasks) {
        let tasks = Tasks::new().0;
        // A small ring, so that slow watchers fall behind it.
        let config = HubConfig { ring_bytes: 24 * 1024, ..HubConfig::default() };
        (Hub::new(world.store.clone(), world.env.clone(), tasks.clone(), config), tasks)
    }

    fn hub(&self) -> Hub {
        self.current.lock().unwrap().0.clone()
    }

    /// Replaces the serving process, by a drain or by killing it.
    async fn restart(&self, kindly: bool) {
        let (old, tasks) = std::mem::replace(&mut *self.current.lock().unwrap(), Self::start(&self.world));
        if kindly {
            old.drain(Duration::from_secs(1)).await;
        }
        assert!(tasks.shutdown(Duration::from_secs(60)).await, "tasks of a hub outlive it");
        self.retired.lock().unwrap().push(old);
    }
}

/// A position that a client was shown and may resume at.
#[derive(Clone)]
struct Shown {
    rev: i64,
    token: String,
}

struct Client {
    service: Arc<Service>,
    color: Option<&'static str>,
    random: StdRng,
    shown: Vec<Shown>,
    token: String,
    log: ClientLog,
}

impl Client {
    async fn run(mut self) -> ClientLog {
        loop {
            let last = self.service.last.load(Ordering::SeqCst);
            // Only a stream from the newest position counts as the end.
            let resume = if last > 0 { self.shown.last().cloned() } else { self.choose() };
            if self.stream(resume, last).await {
                return self.log;
            }
        }
    }

    /// The position to resume from: the last one, any earlier one, or none.
    fn choose(&mut self) -> Option<Shown> {
        match self.random.random_range(0..10) {
            0 => None,
            1..4 if !self.shown.is_empty() => {
                let at = self.random.random_range(0..self.shown.len());
                self.shown.get(at).cloned()
            }
            _ => self.shown.last().cloned(),
        }
    }

    /// Watches for a while. True when every commit has been shown.
    async fn stream(&mut self, resume: Option<Shown>, last: i64) -> bool {
        let options = options(resume.as_ref().map(|s| (s.token.as_str(), s.rev)));
        let view = self.service.world.view(self.color);
        let Ok(mut stream) = self.service.hub().watch(view, Some(options), Unrestricted) else {
            tokio::task::yield_now().await;
            return false;
        };
        let mut log = StreamLog { resumed_at: resume.as_ref().map(|s| s.rev), ..StreamLog::default() };
        // A later token is not valid for an earlier position.
        self.token = resume.map(|s| s.token).unwrap_or_default();
        let patience = if last > 0 { usize::MAX } else { self.random.random_range(1..150) };
        if last == 0 && self.random.random_range(0..4) == 0 {
            // A slow client, which falls behind before it reads.
            let until = *self.service.head.borrow() + 200;
            let _ = self.service.head.subscribe().wait_for(|head| *head >= until.min(COMMITS)).await;
        }
        let mut done = last > 0 && log.resumed_at == Some(last);
        while !done && log.frames.len() < patience {
            let Some(Ok(frame)) = stream.next().await else { break };
            done = self.take(&frame.raw().unwrap().body.unwrap(), last);
            log.frames.push(frame);
        }
        if log.resumed_at.is_some() {
            self.service.resumed[usize::from(self.color.is_some())].fetch_add(1, Ordering::SeqCst);
        }
        self.log.streams.push(log);
        done
    }

    /// Records the position after a frame; true at the final position.
    fn take(&mut self, body: &RawBody, last: i64) -> bool {
        let rev = match body {
            RawBody::SnapshotEnd(_) => {
                let end = snapshot_end(body.clone());
                self.token = end.resume_token;
                end.rev
            }
            RawBody::Bookmark(_) => {
                let bookmark = bookmark(body.clone());
                if bookmark.resume_token.is_empty() {
                    return false;
                }
                self.token = bookmark.resume_token;
                bookmark.rev
            }
            RawBody::Delta(delta) if !delta.more => delta.to_rev,
            _ => return false,
        };
        self.shown.push(Shown { rev, token: self.token.clone() });
        last > 0 && rev >= last
    }
}

/// Makes all commits; returns their histories for the views of all things and of the red ones.
async fn write(service: &Arc<Service>) -> (History, History) {
    let histories = Mutex::new((History::default(), History::default()));
    let made = AtomicUsize::new(0);
    let writer = |id: usize| {
        let (service, histories, made) = (service, &histories, &made);
        async move {
            let mut random = StdRng::seed_from_u64(1_000 + id as u64);
            loop {
                let n = i64::try_from(made.fetch_add(1, Ordering::SeqCst)).unwrap();
                // A fast machine finishes before the watchers have resumed often enough: it then continues, within
                // bounds.
                let resumed = service.resumed.iter().all(|r| r.load(Ordering::SeqCst) > RESUMES);
                if n >= COMMITS && (resumed || n >= 10 * COMMITS) {
                    return;
                }
                let rows: Vec<(String, Option<&str>, Vec<u8>)> = (0..random.random_range(3..9))
                    .map(|row| {
                        let key = format!("w{id}/{row}/{}", random.random_range(0..12));
                        let color = [Some("red"), Some("red"), Some("blue"), None][random.random_range(0..4)];
                        (key, color, vec![random.random(); random.random_range(10..80)])
                    })
                    .collect();
                let rows: Vec<_> = rows.iter().map(|(k, c, b)| (k.as_str(), *c, &b[..])).collect();
                let rev = service.world.put(&rows).await;
                {
                    let mut histories = histories.lock().unwrap();
                    record(&mut histories.0, rev, &rows, None);
                    record(&mut histories.1, rev, &rows, Some("red"));
                }
                service.head.send_if_modified(|head| std::mem::replace(head, rev.max(*head)) < rev);
                if n % RESTART_EVERY == RESTART_EVERY - 1 {
                    service.restart(n / RESTART_EVERY % 2 == 0).await;
                }
            }
        }
    };
    futures::future::join_all((0..WRITERS).map(writer)).await;
    histories.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_watchers_keep_the_contract_through_cuts_restarts_and_lag() {
    let world = World::with_env(Env::system(), Arc::default()).await;
    let current = Mutex::new(Service::start(&world));
    let service = Arc::new(Service {
        world,
        current,
        retired: Mutex::default(),
        head: watch::Sender::new(0),
        last: AtomicI64::new(0),
        resumed: Default::default(),
    });
    let mut clients = tokio::task::JoinSet::new();
    for id in 0..WATCHERS {
        let client = Client {
            service: Arc::clone(&service),
            color: [None, Some("red")][id % 2],
            random: StdRng::seed_from_u64(id as u64),
            shown: Vec::new(),
            token: String::new(),
            log: ClientLog { name: format!("client {id}"), ..ClientLog::default() },
        };
        clients.spawn(client.run());
    }
    let (all, red) = write(&service).await;
    service.last.store(all.head(), Ordering::SeqCst);
    // Watchers that still wait for a stream of an earlier process see it end.
    service.restart(false).await;
    let finished = tokio::time::timeout(Duration::from_secs(120), clients.join_all()).await;
    let logs = finished.expect("a client never saw the end");
    service.restart(false).await;

    assert!(all.changes() >= 20_000, "{}", all.changes());
    let (of_red, of_all): (Vec<_>, Vec<_>) = logs
        .into_iter()
        .partition(|log| log.name.rsplit(' ').next().unwrap().parse::<usize>().unwrap() % 2 == 1);
    for (history, logs) in [(&all, of_all), (&red, of_red)] {
        let summary = check(history, &logs).unwrap_or_else(|faults| {
            let first: Vec<_> = faults.iter().take(5).map(ToString::to_string).collect();
            panic!("{} faults:\n{}", faults.len(), first.join("\n"))
        });
        assert_eq!(summary.resets, 0, "every position stays good");
        assert!(summary.resumed > RESUMES as u64, "{summary:?}");
        assert!(summary.changes > 20_000, "{summary:?}");
    }
    let counted: Vec<_> = service.retired.lock().unwrap().iter().map(Hub::metrics).collect();
    let sum = |count: fn(&WatchMetrics) -> u64| counted.iter().map(count).sum::<u64>();
    let (pages, hits) = (sum(|m| m.page_reads), sum(|m| m.ring_hits));
    // The ratio depends on the load of the machine.
    assert!(pages > 50 && hits > 50, "both paths were taken: {pages} pages, {hits} from the ring");
    assert!(counted.iter().all(|m| m.watches.values().all(|n| *n == 0)), "no watch is left over");
}
