//! Sign-in by a code that the user types in a browser on any machine: for machines without one.

use std::process::ExitCode;
use std::time::Duration;

use foundry_core::{Clock, Env};
use foundry_proto::auth::v1::CompleteProgramSignInRequest;
use tonic::{Response, Status};
use tonic_types::StatusExt as _;

use super::program;
use crate::cli::Global;
use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// The pause between two questions if the mesh names none.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause, whatever the mesh names.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Shows the code, and asks until a user has confirmed it.
pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let gateway = Gateway::anonymous(global)?;
    let begun = program::begin(global, &gateway, None).await?;
    // Beside the result, which programs read from the standard output.
    eprintln!("Open {} in a browser", output::inert(&begun.verification_address));
    eprintln!("and enter the code {} within ten minutes.", output::inert(&begun.user_code));
    let named = begun.poll_interval.and_then(|pause| pause.try_into().ok());
    let clock = Env::system().clock;
    let request = CompleteProgramSignInRequest {
        program_sign_in_id: begun.program_sign_in_id,
        device_code: begun.device_code,
        ..Default::default()
    };
    let ask = async || {
        let answer = gateway.auth().complete_program_sign_in(request.clone()).await;
        answer.map(Response::into_inner)
    };
    let answer = until_answered(&*clock, named.unwrap_or(PAUSE), ask);
    let done = program::in_time(&*clock, answer).await?;
    program::keep(global, &done).await
}

/// Asks again and again, until there is an answer of the user or a refusal.
async fn until_answered<T>(
    clock: &dyn Clock,
    first: Duration,
    ask: impl AsyncFn() -> Result<T, Status>,
) -> Result<T, Failure> {
    let mut pause = first.min(LONGEST_PAUSE);
    loop {
        clock.sleep(pause).await;
        match ask().await {
            Ok(done) => return Ok(done),
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
            Some(named.unwrap_or(pause + PAUSE).max(pause).min(LONGEST_PAUSE))
        }
        // The mesh is being restarted, or was not reached this once.
        _ if status.code() == tonic::Code::Unavailable => Some(pause),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use foundry_core::{Code, Error};

    use super::*;

    #[tokio::test]
    async fn a_mesh_that_never_answers_is_asked_for_ten_minutes_and_once_a_minute_at_least() {
        let clock = foundry_testkit::test_env().clock;
        let unreachable = || Error::unavailable("STARTING", "x", PAUSE).into_status();
        for refusal in [
            Error::new(Code::ResourceExhausted, "SIGN_IN_ASKED_TOO_SOON", "x")
                .retry_after(Duration::from_secs(315_360_000)),
            Error::unavailable("SIGN_IN_PENDING", "x", PAUSE),
        ] {
            let asked = AtomicUsize::new(0);
            let refusal = refusal.into_status();
            let ask = async || match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Err::<(), _>(refusal.clone()),
                _ => Err(unreachable()),
            };
            let login = program::in_time(&*clock, until_answered(&*clock, Duration::MAX, ask));
            let passing = async {
                for _ in 0..20 {
                    clock.wait_for_sleepers(1).await;
                    clock.advance(LONGEST_PAUSE);
                    tokio::task::yield_now().await;
                }
            };
            let ended = tokio::select! {
                ended = login => ended,
                () = passing => panic!("it goes on"),
            };
            assert!(ended.is_err_and(|failure| failure.message.contains("within ten minutes")));
            assert!(asked.load(Ordering::SeqCst) >= 5, "asked {asked:?} times");
        }
    }

    #[test]
    fn goes_on_while_nobody_has_answered_and_slower_when_asked_to_and_ends_at_a_refusal() {
        let after = |error: Error| again(&error.into_status(), PAUSE);
        assert_eq!(after(Error::unavailable("SIGN_IN_PENDING", "x", PAUSE)), Some(PAUSE));
        let slower = Duration::from_secs(20);
        let hasty = Error::new(Code::ResourceExhausted, "SIGN_IN_ASKED_TOO_SOON", "x").retry_after(slower);
        assert_eq!(after(hasty), Some(slower));
        let years = Error::new(Code::ResourceExhausted, "SIGN_IN_ASKED_TOO_SOON", "x")
            .retry_after(Duration::from_secs(315_360_000));
        assert_eq!(after(years), Some(LONGEST_PAUSE));
        assert_eq!(after(Error::unavailable("STARTING", "x", PAUSE)), Some(PAUSE));
        for reason in ["SIGN_IN_DENIED", "SIGN_IN_EXPIRED", "SIGN_IN_USED"] {
            assert_eq!(after(Error::new(Code::PermissionDenied, reason, "x")), None, "{reason}");
        }
    }
}
