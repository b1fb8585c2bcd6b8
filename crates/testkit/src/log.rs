//! What the code under test logs.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// The log of this thread, from its creation until it is dropped.
pub struct Log {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps warnings and errors.
    pub fn of_warnings() -> Self {
        Self::up_to(Level::WARN)
    }

    /// Keeps everything.
    pub fn of_everything() -> Self {
        Self::up_to(Level::TRACE)
    }

    fn up_to(level: Level) -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&foundry_core::lock(&self.written.0)).into_owned()
    }

    /// How many lines contain this text.
    pub fn count(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }
}

impl io::Write for Written {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        foundry_core::lock(&self.0).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
