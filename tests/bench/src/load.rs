//! Closed-loop load: each client starts its next operation when the last one is answered.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::task::JoinSet;

use crate::figures::{Figures, cpu_of};

/// The operation that a client repeats; the argument counts its runs.
pub type Operation = Box<dyn FnMut(u64) -> BoxFuture<'static, Result<(), String>> + Send>;

/// Boxes a closure as an operation.
pub fn operation<F, Fut>(mut code: F) -> Operation
where
    F: FnMut(u64) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    Box::new(move |number| Box::pin(code(number)))
}

/// Runs clients concurrently and measures them, and the processor time that the server uses.
pub async fn run(server: u32, length: Duration, clients: Vec<Operation>) -> Figures {
    let (begun, cpu) = (Instant::now(), cpu_of(server));
    let mut running = JoinSet::new();
    for mut operation in clients {
        running.spawn(async move {
            let mut figures = Figures::default();
            let mut number = 0;
            while begun.elapsed() < length {
                let sent = Instant::now();
                match operation(number).await {
                    Ok(()) => figures.add(sent.elapsed()),
                    Err(e) => figures.fail(e),
                }
                number += 1;
            }
            figures
        });
    }
    let mut all = Figures::default();
    while let Some(figures) = running.join_next().await {
        all.merge(figures.expect("a client does not panic"));
    }
    all.elapsed = begun.elapsed();
    all.cpu = cpu_of(server).saturating_sub(cpu);
    all
}
