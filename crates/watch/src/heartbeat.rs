//! The interval in which a stream sends at least one frame.

use std::time::Duration;

use foundry_core::{Error, Result};

/// The interval when the client requests none.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// The shortest interval that a user's watch may have.
pub const MIN_HEARTBEAT: Duration = Duration::from_secs(5);
/// The shortest interval of a watch between services of the mesh, which must notice a silent stream sooner.
pub const MIN_SERVICE_HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest interval allowed.
const MAX_HEARTBEAT: Duration = Duration::from_secs(30);

/// The interval that a user requests in this field.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is not 5 to 30 s.
pub fn parse_heartbeat(asked: Option<prost_types::Duration>, field: &str) -> Result<Duration> {
    parse_from(MIN_HEARTBEAT, asked, field)
}

/// The interval that a service of the mesh requests in this field.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is not 1 to 30 s.
pub fn parse_service_heartbeat(asked: Option<prost_types::Duration>, field: &str) -> Result<Duration> {
    parse_from(MIN_SERVICE_HEARTBEAT, asked, field)
}

fn parse_from(shortest: Duration, asked: Option<prost_types::Duration>, field: &str) -> Result<Duration> {
    let refused = || {
        let text = format!("must be {} to {} seconds", shortest.as_secs(), MAX_HEARTBEAT.as_secs());
        Error::invalid_field(field, text)
    };
    let heartbeat = match asked {
        None => DEFAULT_HEARTBEAT,
        Some(d) => Duration::try_from(d).map_err(|_| refused())?,
    };
    if (shortest..=MAX_HEARTBEAT).contains(&heartbeat) { Ok(heartbeat) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_may_ask_for_a_second_and_users_for_five() {
        let asked = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for (seconds, user, service) in
            [(0, false, false), (1, false, true), (4, false, true), (5, true, true), (31, false, false)]
        {
            assert_eq!(parse_heartbeat(asked(seconds), "h").is_ok(), user, "{seconds}");
            assert_eq!(parse_service_heartbeat(asked(seconds), "h").is_ok(), service, "{seconds}");
        }
        assert_eq!(parse_service_heartbeat(None, "h").unwrap(), DEFAULT_HEARTBEAT);
    }
}
