//! The body beside tonic's own, and what it keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use foundry_core::Error;
use futures::FutureExt as _;
use futures::channel::mpsc;
use futures::stream::{self, Stream, StreamExt as _};
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use tonic::server::Grpc;
use tonic_prost::ProstCodec;

use super::*;

fn frame(seq: u64, size: usize) -> Frame {
    Frame { seq, from_rev: 300, body: vec![b'x'; size].into() }
}

/// The answer of tonic's server to a handler with this response.
async fn answered<S>(response: Response<S>) -> http::Response<Body>
where
    S: Stream<Item = Result<Frame, Status>> + Send + 'static,
{
    let mut response = Some(response);
    let handler = tower::service_fn(move |_: tonic::Request<Frame>| {
        std::future::ready(Ok::<_, Status>(response.take().unwrap()))
    });
    let request = http::Request::new(Body::new(Full::new(Bytes::from_static(&[0; 5]))));
    Grpc::new(ProstCodec::<Frame, Frame>::default()).server_streaming(handler, request).await
}

/// Headers, data and trailers.
async fn wire(answer: http::Response<Body>) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let (parts, body) = answer.into_parts();
    let whole = body.collect().await.unwrap();
    let trailers = whole.trailers().cloned();
    (parts.headers, whole.to_bytes(), trailers)
}

/// A body, and where its messages come from.
async fn open() -> (mpsc::UnboundedSender<Result<Frame, Status>>, Body) {
    let (sender, messages) = mpsc::unbounded();
    (sender, take_over(answered(framed(messages.boxed())).await).into_body())
}

/// The data that is ready.
fn ready(body: &mut (impl http_body::Body<Data = Bytes, Error = Status> + Unpin)) -> Vec<Bytes> {
    let next = || body.frame().now_or_never().map(|frame| frame.unwrap().unwrap().into_data().unwrap());
    std::iter::from_fn(next).collect()
}

#[tokio::test]
async fn an_answer_is_on_the_wire_what_tonic_makes_of_it() {
    let mut failed = Error::quota("watches", "user", 4, 4).into_status();
    failed.metadata_mut().insert("x-at-the-end", "kept".parse().unwrap());
    let script = |sizes: &[usize]| -> Vec<_> {
        (1..).zip(sizes).map(|(seq, size)| Ok(frame(seq, *size))).collect::<Vec<Result<Frame, Status>>>()
    };
    for messages in [
        Vec::new(),
        script(&[0, 100, 16 << 10, 1, 70_000, 3]),
        script(&[1_000; 100]),
        vec![Err(failed.clone())],
        [script(&[5, 40_000]), vec![Err(failed)]].concat(),
        [script(&[5]), vec![Err(Status::unavailable("a text: ü, %, \n"))]].concat(),
    ] {
        let tonics = wire(answered(Response::new(stream::iter(messages.clone()))).await).await;
        let unframed = wire(answered(framed(stream::iter(messages.clone()).boxed())).await).await;
        assert!(unframed == tonics, "without our stack it is tonic's");
        let ours = wire(take_over(answered(framed(stream::iter(messages).boxed())).await)).await;
        assert_eq!((&ours.0, &ours.2), (&tonics.0, &tonics.2));
        assert!(ours.1 == tonics.1);
    }
}

#[tokio::test]
async fn an_answer_ends_once() {
    let (sender, mut body) = open().await;
    drop(sender);
    assert!(!body.is_end_stream());
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_stream_keeps_nothing_of_a_snapshot_that_it_has_sent() {
    let (sender, mut body) = open().await;
    let snapshot = Bytes::from(vec![b'x'; 200_000]);
    for (seq, body) in [(1, Bytes::new()), (2, snapshot.clone()), (3, Bytes::from_static(b"end"))] {
        sender.unbounded_send(Ok(Frame { seq, from_rev: 0, body })).unwrap();
    }
    let sent = ready(&mut body);
    assert!(sent.iter().any(|data| data.as_ptr() == snapshot.as_ptr()), "it was copied");
    drop(sent);
    assert!(snapshot.is_unique(), "it is still held");

    // Smaller ones are copied, and the copies are given away whole.
    for size in [10, 15_000, 300] {
        sender.unbounded_send(Ok(frame(4, size))).unwrap();
        for data in ready(&mut body) {
            assert!(data.is_unique(), "the stream holds a buffer of {size} bytes");
        }
    }
}

#[test]
fn a_buffer_that_is_sent_has_no_memory() {
    let mut buffer = FrameBuffer::default();
    for sizes in [&[10][..], &[200_000], &[3, 20_000, 4, 20_000, 5]] {
        for size in sizes {
            buffer.push(frame(1, *size)).unwrap();
        }
        assert!(!buffer.is_empty());
        while buffer.pop().is_some() {}
        assert_eq!((buffer.is_empty(), buffer.allocated()), (true, 0));
    }
}

#[tokio::test]
async fn a_small_message_alone_takes_no_more_memory_than_its_bytes() {
    let (sender, mut body) = open().await;
    sender.unbounded_send(Ok(frame(1, 700))).unwrap();
    let [data] = <[Bytes; 1]>::try_from(ready(&mut body)).unwrap();
    let length = data.len();
    assert_eq!(data.try_into_mut().unwrap().capacity(), length);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_has_nothing_encoded_for_it() {
    for (size, most) in [(1_000, 34), (70_000, 1)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let endless = stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(frame(1, size))
        });
        let mut body = take_over(answered(framed(endless.boxed())).await).into_body();
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(taken.load(Ordering::Relaxed) <= most, "{size}");
        let mut read = first.len();
        while read < size {
            read += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        assert!(taken.load(Ordering::Relaxed) <= most, "{size}: more before the first was taken");
    }
}

#[tokio::test]
async fn messages_that_are_ready_together_are_sent_together() {
    let (sender, mut body) = open().await;
    for seq in 1..=5 {
        sender.unbounded_send(Ok(frame(seq, 100))).unwrap();
    }
    assert_eq!(ready(&mut body).len(), 1);
}

#[tokio::test]
async fn messages_are_polled_only_after_they_woke_the_stream() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polls);
    let silent = stream::poll_fn(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Poll::<Option<Result<Frame, Status>>>::Pending
    });
    let mut body = take_over(answered(framed(silent.boxed())).await).into_body();
    for _ in 0..10 {
        assert!(ready(&mut body).is_empty());
    }
    assert_eq!(polls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_that_is_compressed_stays_tonics() {
    let mut answer = answered(framed(stream::iter([Ok(frame(1, 9))]).boxed())).await;
    answer.headers_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let (_, data, _) = wire(take_over(answer)).await;
    assert!(!data.is_empty(), "its messages are gone");
}
