//! How often a stream is heard of, whatever it has to say.

use std::time::Duration;

use foundry_core::{Error, Result};

/// Unless its client asks for another.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// The shortest that is granted.
pub const MIN_HEARTBEAT: Duration = Duration::from_secs(5);
/// The longest that is granted.
const MAX_HEARTBEAT: Duration = Duration::from_secs(30);

/// The heartbeat that a client asks for in this field of its request.
///
/// # Errors
/// `INVALID_ARGUMENT` for one that is not 5 to 30 s.
pub fn parse_heartbeat(asked: Option<prost_types::Duration>, field: &str) -> Result<Duration> {
    let refused = || Error::invalid_field(field, "must be 5 to 30 seconds");
    let heartbeat = match asked {
        None => DEFAULT_HEARTBEAT,
        Some(d) => Duration::try_from(d).map_err(|_| refused())?,
    };
    if (MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&heartbeat) { Ok(heartbeat) } else { Err(refused()) }
}
