//! Sign-in by a code that the user types in a browser on any machine: for machines without one.

use std::process::ExitCode;
use std::time::Duration;

use foundry_core::Env;
use foundry_proto::auth::v1::CompleteProgramSignInRequest;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::program;
use crate::cli::Global;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// The pause between two questions if the mesh names none.
const PAUSE: Duration = Duration::from_secs(5);

/// Shows the code, and asks until a user has confirmed it.
pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let gateway = Gateway::anonymous(global)?;
    let begun = program::begin(global, &gateway, None).await?;
    // Beside the result, which programs read from the standard output.
    eprintln!("Open {} in a browser", output::inert(&begun.verification_address));
    eprintln!("and enter the code {} within ten minutes.", output::inert(&begun.user_code));
    let named = begun.poll_interval.and_then(|pause| pause.try_into().ok());
    let mut pause = named.unwrap_or(PAUSE);
    let clock = Env::system().clock;
    loop {
        clock.sleep(pause).await;
        let request = CompleteProgramSignInRequest {
            program_sign_in_id: begun.program_sign_in_id.clone(),
            device_code: begun.device_code.clone(),
            ..Default::default()
        };
        match gateway.auth().complete_program_sign_in(request).await {
            Ok(done) => return program::keep(global, done.get_ref()),
            Err(status) => pause = again(&status, pause).ok_or_else(|| Failure::from(status))?,
        }
    }
}

/// The pause before the next question; none if there is none to ask.
fn again(status: &Status, pause: Duration) -> Option<Duration> {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str()).unwrap_or_default();
    match reason {
        "SIGN_IN_PENDING" => Some(pause),
        "SIGN_IN_ASKED_TOO_SOON" => {
            let named = details.retry_info().and_then(|info| info.retry_delay);
            Some(named.unwrap_or(pause + PAUSE).max(pause))
        }
        // The mesh is being restarted, or was not reached this once.
        _ if status.code() == tonic::Code::Unavailable => Some(pause),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::{Code, Error};

    use super::*;

    #[test]
    fn goes_on_while_nobody_has_answered_and_slower_when_asked_to_and_ends_at_a_refusal() {
        let after = |error: Error| again(&error.into_status(), PAUSE);
        assert_eq!(after(Error::unavailable("SIGN_IN_PENDING", "x", PAUSE)), Some(PAUSE));
        let slower = Duration::from_secs(20);
        let hasty = Error::new(Code::ResourceExhausted, "SIGN_IN_ASKED_TOO_SOON", "x").retry_after(slower);
        assert_eq!(after(hasty), Some(slower));
        assert_eq!(after(Error::unavailable("STARTING", "x", PAUSE)), Some(PAUSE));
        for reason in ["SIGN_IN_DENIED", "SIGN_IN_EXPIRED", "SIGN_IN_USED"] {
            assert_eq!(after(Error::new(Code::PermissionDenied, reason, "x")), None, "{reason}");
        }
    }
}
