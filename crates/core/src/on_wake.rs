//! A future or stream that is polled again only after it has woken its task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::Stream;
use futures::task::AtomicWaker;

/// A future or stream that is polled again only after it has woken its task.
///
/// A task that waits for several things polls all of them whenever one of them is ready. For one that is silent for
/// minutes while another is ready a hundred times a second, each of these polls is a lock and often a registration
/// that is made and dropped. This keeps its registration and answers such a poll from one flag.
pub struct OnWake<T> {
    inner: T,
    wakes: Arc<Wakes>,
    waker: Waker,
}

struct Wakes {
    /// Whether it has woken its task, or was never polled.
    has_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<T> OnWake<T> {
    /// Wraps a future or stream; the first poll reaches it.
    pub fn new(inner: T) -> Self {
        let wakes = Arc::new(Wakes { has_woken: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&wakes));
        Self { inner, wakes, waker }
    }

    /// What is wrapped.
    pub fn get(&self) -> &T {
        &self.inner
    }

    /// Replaces what is wrapped; the next poll reaches it.
    pub fn set(&mut self, inner: T) {
        self.inner = inner;
        self.wakes.has_woken.store(true, Ordering::Release);
    }

    fn poll_woken<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        // Before the flag is read: a wake in between then reaches this task.
        self.wakes.task.register(cx.waker());
        if !self.wakes.has_woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let polled = poll(&mut self.inner, &mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            // Nothing is registered behind an item.
            self.wakes.has_woken.store(true, Ordering::Release);
        }
        polled
    }
}

impl<F: Future + Unpin> Future for OnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.poll_woken(cx, |inner, cx| Pin::new(inner).poll(cx))
    }
}

impl<S: Stream + Unpin> Stream for OnWake<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.poll_woken(cx, |inner, cx| Pin::new(inner).poll_next(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::StreamExt as _;
    use futures::channel::mpsc;
    use futures::stream::BoxStream;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counter {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A stream that is filled by hand, and how often it was polled.
    fn counted() -> (mpsc::UnboundedSender<u8>, OnWake<BoxStream<'static, u8>>, Arc<Counter>) {
        let (sender, mut items) = mpsc::unbounded();
        let polls = Arc::new(Counter::default());
        let counter = Arc::clone(&polls);
        let stream = futures::stream::poll_fn(move |cx| {
            counter.0.fetch_add(1, Ordering::Relaxed);
            items.poll_next_unpin(cx)
        });
        (sender, OnWake::new(stream.boxed()), polls)
    }

    #[test]
    fn a_silent_stream_is_polled_once_however_often_its_task_runs() {
        let (sender, mut stream, polls) = counted();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            assert!(stream.poll_next_unpin(&mut cx).is_pending());
        }
        assert_eq!(polls.count(), 1);
        sender.unbounded_send(7).unwrap();
        assert_eq!(stream.poll_next_unpin(&mut cx), Poll::Ready(Some(7)));
        assert!(stream.poll_next_unpin(&mut cx).is_pending());
        assert_eq!(polls.count(), 3, "behind an item it is polled again");
    }

    #[test]
    fn a_wake_reaches_the_task_that_polled_last_and_the_stream_behind_it() {
        let (sender, mut stream, _) = counted();
        let [first, last] = [(); 2].map(|()| Arc::new(Counter::default()));
        for task in [&first, &last] {
            let waker = Waker::from(Arc::clone(task));
            assert!(stream.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        sender.unbounded_send(1).unwrap();
        assert_eq!((first.count(), last.count()), (0, 1));
        drop(sender);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(stream.poll_next_unpin(&mut cx), Poll::Ready(Some(1)));
        assert_eq!(stream.poll_next_unpin(&mut cx), Poll::Ready(None));
    }

    #[test]
    fn a_replaced_future_is_polled() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut timer = OnWake::new(Box::pin(std::future::pending()) as Pin<Box<dyn Future<Output = u8>>>);
        assert!(Pin::new(&mut timer).poll(&mut cx).is_pending());
        timer.set(Box::pin(std::future::ready(3)));
        assert_eq!(Pin::new(&mut timer).poll(&mut cx), Poll::Ready(3));
    }
}
