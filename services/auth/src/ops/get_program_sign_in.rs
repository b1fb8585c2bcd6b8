//! GetProgramSignIn: which program waits, so that its user sees what would be signed in before confirming it.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::auth::v1::{GetProgramSignInRequest, GetProgramSignInResponse};

use super::waiting_program::{page_user, waiting};
use crate::auth::Auth;

pub(crate) async fn get_program_sign_in(
    auth: &Auth,
    caller: &Caller,
    request: GetProgramSignInRequest,
) -> Result<GetProgramSignInResponse> {
    let user = page_user(auth, caller).await?;
    let row = waiting(auth, user, &request.program_sign_in_id, &request.user_code).await?;
    Ok(GetProgramSignInResponse { program_sign_in: Some(row.message()) })
}

#[cfg(test)]
mod tests {
    use foundry_proto::auth::v1::BeginProgramSignInRequest;
    use tokio::task::JoinSet;

    use super::*;
    use crate::domain::guesses::{MAX_WRONG, WINDOW};
    use crate::ops;
    use crate::testing::{Fixture, HERE};

    fn typed(code: &str) -> GetProgramSignInRequest {
        GetProgramSignInRequest { user_code: code.into(), ..Default::default() }
    }

    #[tokio::test]
    async fn says_what_waits_and_from_where_to_the_page_of_a_signed_in_user_only() {
        let f = Fixture::new().await;
        let request =
            BeginProgramSignInRequest { program: "foundry".into(), device: "laptop".into(), loopback: None };
        let begun = ops::begin_program_sign_in::begin_program_sign_in(&f.auth, &HERE, request).await.unwrap();
        let (program, acme) = f.member("alice", "acme").await;
        let page = f.in_the_page("alice", "acme").await;
        let shown =
            get_program_sign_in(&f.auth, &page, typed(&begun.user_code.to_lowercase())).await.unwrap();
        let shown = shown.program_sign_in.unwrap();
        let (what, from) = ((shown.program.as_str(), shown.device.as_str()), shown.address.as_str());
        assert_eq!((what, from), (("foundry", "laptop"), "127.0.0.1"));
        let token = f.access_token(&page, &acme, None).await;
        for other in [program, f.caller(&token.secret).await.unwrap()] {
            let refused = get_program_sign_in(&f.auth, &other, typed(&begun.user_code)).await.unwrap_err();
            assert_eq!(refused.reason(), "PAGE_SESSION_REQUIRED");
        }
        let by_id = GetProgramSignInRequest {
            program_sign_in_id: begun.program_sign_in_id.clone(),
            ..Default::default()
        };
        let link = get_program_sign_in(&f.auth, &page, by_id).await.unwrap_err();
        assert_eq!(link.reason(), "SIGN_IN_UNKNOWN", "a link must not spare the typing");
        let neither = get_program_sign_in(&f.auth, &page, typed("")).await.unwrap_err();
        assert_eq!(neither.violations()[0].field, "user_code");
    }

    #[tokio::test]
    async fn codes_that_are_guessed_at_the_same_time_are_bounded_as_those_one_by_one() {
        let f = Fixture::new().await;
        let mallory = f.in_the_page("mallory", "").await;
        let mut guesses = JoinSet::new();
        for _ in 0..2 * MAX_WRONG {
            let (auth, mallory) = (f.auth.clone(), mallory.clone());
            guesses.spawn(
                async move { get_program_sign_in(&auth, &mallory, typed("BBBB-BBBB")).await.map(drop) },
            );
        }
        let answers = guesses.join_all().await;
        let looked_up =
            answers.iter().filter(|it| it.as_ref().is_err_and(|e| e.reason() == "USER_CODE_UNKNOWN")).count();
        assert_eq!((answers.len(), looked_up), (2 * MAX_WRONG, MAX_WRONG));
    }

    #[tokio::test]
    async fn who_guesses_codes_is_stopped_and_others_are_not() {
        let f = Fixture::new().await;
        let request =
            BeginProgramSignInRequest { program: "foundry".into(), device: "laptop".into(), loopback: None };
        let begun = ops::begin_program_sign_in::begin_program_sign_in(&f.auth, &HERE, request).await.unwrap();
        let mallory = f.in_the_page("mallory", "").await;
        let guess = if begun.user_code == "BBBB-BBBB" { "CCCC-CCCC" } else { "BBBB-BBBB" };
        for _ in 0..MAX_WRONG {
            let refused = get_program_sign_in(&f.auth, &mallory, typed(guess)).await.unwrap_err();
            assert_eq!(refused.reason(), "USER_CODE_UNKNOWN");
        }
        let right = get_program_sign_in(&f.auth, &mallory, typed(&begun.user_code)).await.unwrap_err();
        assert_eq!(right.reason(), "LIMIT_REACHED", "not even the right one is looked up any more");
        let alice = f.in_the_page("alice", "").await;
        assert!(get_program_sign_in(&f.auth, &alice, typed(&begun.user_code)).await.is_ok());
        f.clock.advance(WINDOW);
        let late = get_program_sign_in(&f.auth, &mallory, typed(&begun.user_code)).await.unwrap_err();
        assert_eq!(late.reason(), "USER_CODE_UNKNOWN", "the code has expired, and looks as if it never was");
    }
}
