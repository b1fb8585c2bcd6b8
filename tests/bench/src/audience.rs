//! Many watchers of one server. Messages are read as bytes: only the time stamps in them are parsed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Status, Streaming};

use crate::figures::Figures;
use crate::rest::Meter;
use crate::world::settle;

/// Concurrent publishers.
pub const PUBLISHERS: usize = 16;
/// Number of published entities; each is changed by one publisher only.
pub const SLOTS: usize = 64;
/// Begins a stamp: microseconds since the epoch in twelve digits, then the slot in two.
const MARK: u8 = b'~';
const DIGITS: usize = 14;
/// No stamp is that late: nothing is counted.
const NEVER: u64 = u64::MAX;
/// What all stamps of this process count from: entities keep the stamps of earlier audiences.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since the epoch.
fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_micros()).unwrap_or(NEVER)
}

/// The stamp of a change of the entity in a slot that is published now.
fn stamp(slot: usize) -> String {
    format!("~{:012}{slot:02}", now())
}

/// A codec that encodes requests and returns answers as undecoded bytes.
pub struct Undecoded<T>(std::marker::PhantomData<T>);

impl<T> Default for Undecoded<T> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Message + 'static> Codec for Undecoded<T> {
    type Encode = T;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T: Message> Encoder for Undecoded<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|e| Status::unknown(e.to_string()))
    }
}

impl<T> Decoder for Undecoded<T> {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The stamps in a message: time and slot.
fn stamps(message: &[u8]) -> impl Iterator<Item = (u64, usize)> {
    message.windows(DIGITS + 1).filter(|w| w[0] == MARK).filter_map(|w| {
        let number = w[1..]
            .iter()
            .try_fold(0, |n: u64, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))?;
        Some((number / 100, usize::try_from(number % 100).ok()?))
    })
}

/// What some watchers receive: messages, each with the number of its watcher.
pub struct Ears {
    /// How many watchers there are.
    pub watchers: usize,
    /// Their messages; ends when the server does.
    pub messages: BoxStream<'static, (usize, Bytes)>,
}

impl Ears {
    /// One watcher on a stream of its own.
    pub fn of(stream: Streaming<Bytes>) -> Self {
        let messages = stream.filter_map(|message| std::future::ready(message.ok().map(|m| (0, m))));
        Self { watchers: 1, messages: messages.boxed() }
    }
}

/// What one watcher has heard.
#[derive(Clone)]
struct Heard {
    /// The newest stamp of each slot.
    newest: [u64; SLOTS],
}

impl Heard {
    /// The latencies of the changes that a message shows for the first time, in microseconds. An entity also changes for
    /// other reasons, with a stamp that was already counted; events before `from` belong to an earlier slice.
    fn hear(&mut self, message: &[u8], from: u64, now: u64) -> impl Iterator<Item = u32> {
        stamps(message).filter_map(move |(sent, slot)| {
            let newest = self.newest.get_mut(slot)?;
            if sent < from || sent <= *newest {
                return None;
            }
            *newest = sent;
            Some(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX))
        })
    }
}

/// Publishes a stamp as a change of the entity in a slot.
pub type Publish = Arc<dyn Fn(usize, String) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// All watchers of one server.
pub struct Audience {
    /// Start of the current slice in microseconds since the epoch, [`NEVER`] between slices; older events are ignored.
    after: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    collected: mpsc::UnboundedSender<Vec<u32>>,
    collecting: mpsc::UnboundedReceiver<Vec<u32>>,
    slice: watch::Sender<u64>,
    watchers: usize,
    watching: JoinSet<()>,
}

impl Audience {
    /// These watchers.
    pub fn new(ears: Vec<Ears>) -> Self {
        let (collected, collecting) = mpsc::unbounded_channel();
        let mut audience = Self {
            after: Arc::new(AtomicU64::new(NEVER)),
            heard: Arc::default(),
            collected,
            collecting,
            slice: watch::Sender::new(0),
            watchers: 0,
            watching: JoinSet::new(),
        };
        ears.into_iter().for_each(|ears| audience.join(ears));
        audience
    }

    fn join(&mut self, mut ears: Ears) {
        self.watchers += ears.watchers;
        let (after, heard) = (Arc::clone(&self.after), Arc::clone(&self.heard));
        let (collected, mut slice) = (self.collected.clone(), self.slice.subscribe());
        self.watching.spawn(async move {
            let mut latencies = Vec::new();
            let mut watchers = vec![Heard { newest: [0; SLOTS] }; ears.watchers];
            loop {
                tokio::select! {
                    message = ears.messages.next() => {
                        let Some((watcher, message)) = message else { return };
                        let now = now();
                        let from = after.load(Ordering::Relaxed);
                        let before = latencies.len();
                        latencies.extend(watchers[watcher].hear(&message, from, now));
                        heard.fetch_add((latencies.len() - before) as u64, Ordering::Relaxed);
                    }
                    _ = slice.changed() => {
                        // The receiver lives as long as the audience.
                        let _ = collected.send(std::mem::take(&mut latencies));
                    }
                }
            }
        });
    }

    /// Publishes at a rate; returns the watchers' figures, and the number of published events.
    pub async fn slice(
        &mut self,
        (servers, patience): (&[u32], Duration),
        rate: u32,
        length: Duration,
        publish: &Publish,
    ) -> (Figures, usize) {
        let meter = Meter::start(servers);
        let begun = meter.begun();
        self.after.store(now(), Ordering::Relaxed);
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let publish = Arc::clone(publish);
            let period = Duration::from_secs(1) * u32::try_from(PUBLISHERS).unwrap_or(1) / rate;
            publishers.spawn(async move {
                let first = begun + period * u32::try_from(publisher).unwrap_or(0) / 16;
                let mut ticks = tokio::time::interval_at(first.into(), period);
                let (mut sent, mut failed) = (0, None);
                while ticks.tick().await.duration_since(begun.into()) < length {
                    let slot = publisher + PUBLISHERS * (sent % (SLOTS / PUBLISHERS));
                    match publish(slot, stamp(slot)).await {
                        Ok(()) => sent += 1,
                        Err(e) => failed = Some(e),
                    }
                }
                (sent, failed)
            });
        }
        let (mut sent, mut all) = (0, Figures::default());
        while let Some(publisher) = publishers.join_next().await {
            let (n, failed) = publisher.expect("a publisher does not panic");
            sent += n;
            if let Some(e) = failed {
                all.fail(e);
            }
        }
        self.all_heard(sent).await;
        all.elapsed = begun.elapsed();
        all.rested(meter.until_rest(patience).await);
        // What arrives from now on is counted neither here nor in the next slice.
        self.after.store(NEVER, Ordering::Relaxed);
        self.slice.send_modify(|n| *n += 1);
        for _ in 0..self.watching.len() {
            let latencies = tokio::time::timeout(Duration::from_secs(5), self.collecting.recv()).await;
            let Ok(Some(latencies)) = latencies else { break };
            latencies.into_iter().for_each(|micros| all.add_micros(micros.into()));
        }
        self.heard.store(0, Ordering::Relaxed);
        (all, sent)
    }

    /// Waits until every watcher has received everything, or nothing has arrived for a second.
    async fn all_heard(&self, sent: usize) {
        let (wanted, mut last, mut quiet) = ((sent * self.watchers) as u64, 0, 0);
        while quiet < 40 {
            let heard = self.heard.load(Ordering::Relaxed);
            if heard >= wanted {
                return;
            }
            quiet = if heard == last { quiet + 1 } else { 0 };
            last = heard;
            settle(Duration::from_millis(25)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::broadcast;
    use tokio_stream::wrappers::BroadcastStream;

    use super::*;

    #[test]
    fn finds_the_stamps_among_other_bytes() {
        let message = b"\x0a\x12~00000000012307 ~notastamp ~0000000004560864 ~1";
        assert_eq!(stamps(message).collect::<Vec<_>>(), [(123, 7), (456, 8)]);
    }

    #[test]
    fn a_watcher_counts_a_change_once_and_none_of_an_earlier_slice() {
        let mut watcher = Heard { newest: [0; SLOTS] };
        let mut hear = |message: &[u8], from| watcher.hear(message, from, 1_000).collect::<Vec<_>>();
        assert_eq!(hear(b"~00000000090007 ~00000000095008", 100), [100, 50]);
        assert!(hear(b"~00000000090007", 100).is_empty(), "the same change again");
        assert_eq!(hear(b"~00000000096007", 100), [40], "the next change of the same entity");
        assert!(hear(b"~00000000098009", 990).is_empty(), "before the slice");
        assert!(hear(b"~00000000099999", 100).is_empty(), "no slot");
    }

    /// A watcher, who first gets the newest stamps of all entities, as in a snapshot, and then each change.
    fn watcher(titles: &Mutex<Vec<String>>, changes: &broadcast::Sender<String>) -> Ears {
        let changes = BroadcastStream::new(changes.subscribe()).filter_map(|c| std::future::ready(c.ok()));
        let all = futures::stream::iter([titles.lock().unwrap().concat()]).chain(changes);
        Ears { watchers: 1, messages: all.map(|text| (0, Bytes::from(text))).boxed() }
    }

    #[tokio::test]
    async fn an_audience_does_not_count_what_an_earlier_one_heard() {
        let titles = Arc::new(Mutex::new(vec![String::new(); SLOTS]));
        let changes = broadcast::Sender::new(1_000);
        let (known, sender) = (Arc::clone(&titles), changes.clone());
        let publish: Publish = Arc::new(move |slot, stamp| {
            known.lock().unwrap()[slot].clone_from(&stamp);
            let sent = sender.send(stamp).map(|_| ()).map_err(|e| e.to_string());
            Box::pin(async move { sent })
        });
        let unmeasured = (&[][..], Duration::from_secs(10));
        let mut earlier = Audience::new(vec![watcher(&titles, &changes)]);
        earlier.slice(unmeasured, 500, Duration::from_millis(300), &publish).await;
        let mut audience = Audience::new(vec![watcher(&titles, &changes)]);
        let (figures, sent) = audience.slice(unmeasured, 500, Duration::from_millis(100), &publish).await;
        assert!(sent > 0 && figures.failed.0 == 0, "{sent}, {figures:?}");
        assert_eq!(figures.count(), sent, "each change is counted once");
    }
}
