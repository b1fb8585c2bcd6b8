//! The interval in which a stream sends at least one frame.

use std::time::Duration;

use foundry_core::{Error, Result};

/// The interval when the client requests none.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// The shortest interval allowed.
pub const MIN_HEARTBEAT: Duration = Duration::from_secs(5);
/// The longest interval allowed.
const MAX_HEARTBEAT: Duration = Duration::from_secs(30);

/// The interval that a client requests in this field.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is not 5 to 30 s.
pub fn parse_heartbeat(asked: Option<prost_types::Duration>, field: &str) -> Result<Duration> {
    let refused = || Error::invalid_field(field, "must be 5 to 30 seconds");
    let heartbeat = match asked {
        None => DEFAULT_HEARTBEAT,
        Some(d) => Duration::try_from(d).map_err(|_| refused())?,
    };
    if (MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&heartbeat) { Ok(heartbeat) } else { Err(refused()) }
}
