//! The provider's answer on its way to the agent: each piece passes as it comes, and is parsed on the side.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Tasks, lock};
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::BoxError;
use crate::call::Call;
use crate::classify;
use crate::condition::ConditionKind;
use crate::include_usage::WithoutUsage;
use crate::shape::{Problem, Retry};
use crate::silence::Silence;
use crate::usage::Reader;

/// The body of an answer. Dropping it ends the call to the provider.
pub(crate) struct Relay {
    flow: Arc<Mutex<Flow>>,
    /// Dropped to end the watch over this relay.
    _watched: oneshot::Sender<()>,
}

struct Flow {
    call: Call,
    upstream: reqwest::Body,
    /// The part that was read before the answer was classified.
    front: Option<Bytes>,
    reader: Reader,
    filter: Option<WithoutUsage>,
    silence: Silence,
    stage: Stage,
    /// Whether the answer is a success: only then its end has a meaning.
    success: bool,
    /// How often the agent asked for more, and whether there was none yet at the last time.
    asked: u64,
    waits: bool,
    /// Ended because the agent asked for no more.
    unread: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// The provider has ended; the rest of the filter goes out.
    Emptying,
    Ended,
}

/// How an answer ends.
enum End {
    Whole,
    Cut,
    Silent,
    /// The agent disconnected.
    Left,
}

impl Relay {
    /// The watch over agents that do not read runs on `tasks`.
    #[allow(clippy::too_many_arguments)] // all of them are of one answer
    pub(crate) fn new(
        mut call: Call,
        upstream: reqwest::Body,
        front: Option<Bytes>,
        reader: Reader,
        filter: Option<WithoutUsage>,
        silence: Duration,
        success: bool,
        tasks: &Tasks,
    ) -> Self {
        if !success {
            call.reservation = None;
        }
        let (clock, every) = (call.env.clock.clone(), silence);
        let flow = Flow {
            silence: Silence::new(&call.env, call.access.place(), silence),
            call,
            upstream,
            front,
            reader,
            filter,
            stage: Stage::Flowing,
            success,
            asked: 0,
            waits: false,
            unread: false,
        };
        let flow = Arc::new(Mutex::new(flow));
        let watched = Arc::downgrade(&flow);
        let (_watched, dropped) = oneshot::channel::<()>();
        let stop = tasks.cancellation().clone();
        tasks.spawn("answer of a model", async move {
            let (mut asked, mut idle) = (0, 0);
            let watch = async {
                loop {
                    clock.sleep(every).await;
                    if Flow::is_over(&watched, &mut asked, &mut idle) {
                        break;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                _ = dropped => {}
                () = watch => {}
            }
        });
        Self { flow, _watched }
    }
}

impl Flow {
    /// Ends a call whose agent has read nothing since the last check: otherwise it would hold its share of a limit for
    /// ever.
    fn is_over(watched: &Weak<Mutex<Self>>, asked: &mut u64, idle: &mut u32) -> bool {
        let Some(flow) = watched.upgrade() else { return true };
        let mut flow = lock(&flow);
        if flow.stage == Stage::Ended {
            return true;
        }
        if flow.asked != *asked {
            (*asked, *idle) = (flow.asked, 0);
            return false;
        }
        *idle += 1;
        // While the agent waits for data, only the provider's silence counts, and that timer fires first.
        if *idle <= u32::from(flow.waits) {
            return false;
        }
        tracing::debug!(owner = ?flow.call.access.owner, "an agent is not reading a response; ending the call");
        flow.end(End::Left);
        flow.unread = true;
        flow.upstream = reqwest::Body::from("");
        (flow.front, flow.filter) = (None, None);
        true
    }

    fn take(&mut self, data: Bytes) -> Bytes {
        self.reader.feed(&data);
        match &mut self.filter {
            Some(filter) => filter.pass(data),
            None => data,
        }
    }

    fn end(&mut self, end: End) {
        if self.stage == Stage::Ended {
            return;
        }
        self.stage = Stage::Ended;
        if self.success && self.call.api.generates() {
            self.report(end);
        }
        // The remaining bytes hold no share of a limit.
        self.call.reservation = None;
    }

    fn report(&mut self, end: End) {
        self.reader.finish();
        let seen = &self.reader.seen;
        let finished = seen.finished;
        let whole = match end {
            End::Whole => finished || !self.reader.expects_end(),
            // Agents disconnect after the last event, before the provider closes.
            End::Left => finished,
            End::Cut | End::Silent => false,
        };
        // A provider that fails before the first token has not worked.
        let worked = seen.usage.is_some() || seen.failure.is_none() || seen.words.tokens() > 0;
        match &seen.usage {
            Some(usage) if whole => self.call.count(seen, usage.clone()),
            _ if worked => self.call.count_guess(seen, matches!(end, End::Whole) && whole),
            _ => {}
        }
        let (kind, words) = match end {
            _ if seen.failure.is_some() => {
                classify::failure(&seen.failure.clone().unwrap_or_default(), self.call.now())
            }
            End::Whole if self.reader.expects_end() && !finished => {
                (ConditionKind::Failing, "the provider's stream ended before its last event".to_owned())
            }
            End::Cut => (ConditionKind::Failing, "the provider's response was cut off".to_owned()),
            End::Silent => (ConditionKind::Silent, self.silence.words()),
            End::Left if !finished => return,
            End::Whole | End::Left => (ConditionKind::Working, String::new()),
        };
        self.call.report(kind, &words);
    }

    /// The last event of a stream that the gateway itself ends.
    fn parting(&self) -> Result<Frame<Bytes>, BoxError> {
        if !self.reader.expects_end() {
            // Half of an answer in one piece must not be taken for a whole one.
            return Err(self.silence.words().into());
        }
        Ok(Frame::data(silent(&self.silence).event(self.call.family)))
    }
}

/// The gateway's answer to a provider that sends nothing.
pub(crate) fn silent(silence: &Silence) -> Problem {
    Problem {
        status: StatusCode::GATEWAY_TIMEOUT,
        reason: "MODEL_SILENT",
        words: silence.words(),
        retry: Retry::Free,
    }
}

impl HttpBody for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut flow = lock(&self.flow);
        flow.asked += 1;
        let next = flow.next(cx);
        flow.waits = next.is_pending();
        next
    }

    fn is_end_stream(&self) -> bool {
        let flow = lock(&self.flow);
        flow.stage == Stage::Ended && !flow.unread
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Flow {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self;
        if std::mem::take(&mut this.unread) {
            // An incomplete answer must end with an error.
            return Poll::Ready(Some(Err("the response was not read in time".into())));
        }
        if let Some(front) = this.front.take().filter(|front| !front.is_empty()) {
            let front = this.take(front);
            if !front.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(front))));
            }
        }
        while this.stage == Stage::Flowing {
            let Poll::Ready(frame) = Pin::new(&mut this.upstream).poll_frame(cx) else {
                ready!(this.silence.poll(cx));
                let parting = this.parting();
                this.end(End::Silent);
                return Poll::Ready(Some(parting));
            };
            match frame {
                Some(Ok(frame)) => {
                    this.silence.broken();
                    // Trailers belong to the connection that ends here.
                    let Ok(data) = frame.into_data() else { continue };
                    let data = this.take(data);
                    // With a content length, hyper asks for no more after the last byte.
                    if this.filter.is_none() && this.upstream.is_end_stream() {
                        this.end(End::Whole);
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => {
                    this.end(End::Cut);
                    return Poll::Ready(Some(Err(error.without_url().into())));
                }
                None => this.stage = Stage::Emptying,
            }
        }
        if this.stage == Stage::Emptying {
            this.end(End::Whole);
            let held = this.filter.as_mut().map(WithoutUsage::finish).unwrap_or_default();
            if !held.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(held))));
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        lock(&self.flow).end(End::Left);
    }
}
