//! The runtime's own log.

use std::io::{self, Write as _};

/// Writes a line to standard error.
pub(crate) fn say(words: &str) {
    let _ = writeln!(io::stderr(), "foundry runtime: {words}");
}
