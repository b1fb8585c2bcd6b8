//! Messages on their way to an agent: a bounded queue and the thread that writes them to the pipe.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::watch;

/// Lines in the queue.
const MAX_LINES: usize = 256;
/// Bytes in the queue; an empty queue takes a message of any size.
const MAX_BYTES: usize = 64 << 20;
/// Extra lines for the runtime's own answers to the agent's requests.
const MAX_ANSWERS: usize = 1024;

pub(crate) struct Input {
    lines: Option<Sender<Vec<u8>>>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
}

impl Input {
    /// Starts the thread. `closed` becomes true when the agent closes its input.
    pub fn to(pipe: io::PipeWriter, closed: watch::Sender<bool>) -> io::Result<Self> {
        let (lines, queue) = channel();
        let waiting = Arc::new(Waiting::default());
        let counted = Arc::clone(&waiting);
        let work = move || {
            if write(&queue, pipe, &counted).is_err() {
                closed.send_replace(true);
            }
        };
        std::thread::Builder::new().name("agent input".to_owned()).spawn(work)?;
        Ok(Self { lines: Some(lines), waiting })
    }

    /// Whether lines are accepted.
    pub fn is_open(&self) -> bool {
        self.lines.is_some()
    }

    /// Whether a line of this size fits.
    pub fn has_room(&self, bytes: usize) -> bool {
        let (lines, waiting) =
            (self.waiting.lines.load(Ordering::Acquire), self.waiting.bytes.load(Ordering::Acquire));
        lines == 0 || (lines < MAX_LINES && waiting + bytes <= MAX_BYTES)
    }

    /// Queues a line. It is dropped when the agent has closed its input; the log still has it.
    pub fn push(&self, line: Vec<u8>) {
        let Some(lines) = &self.lines else { return };
        self.waiting.lines.fetch_add(1, Ordering::AcqRel);
        self.waiting.bytes.fetch_add(line.len(), Ordering::AcqRel);
        // Fails only when the thread has ended because the agent closed its input.
        let _ = lines.send(line);
    }

    /// Queues an answer of the runtime; drops it when the agent sends requests without reading answers.
    pub fn push_answer(&self, line: Vec<u8>) {
        if self.waiting.lines.load(Ordering::Acquire) < MAX_LINES + MAX_ANSWERS {
            self.push(line);
        }
    }

    /// Accepts no more lines; the agent's input ends after the queued ones.
    pub fn close(&mut self) {
        self.lines = None;
    }
}

fn write(queue: &Receiver<Vec<u8>>, mut pipe: io::PipeWriter, waiting: &Waiting) -> io::Result<()> {
    for line in queue {
        pipe.write_all(&line)?;
        waiting.lines.fetch_sub(1, Ordering::AcqRel);
        waiting.bytes.fetch_sub(line.len(), Ordering::AcqRel);
    }
    Ok(())
}
