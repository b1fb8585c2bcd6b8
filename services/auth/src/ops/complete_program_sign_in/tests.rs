//! Sign-ins of programs from their beginning to the session, and those who try to get one that is not theirs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId};
use foundry_proto::auth::v1::{
    BeginProgramSignInRequest, BeginProgramSignInResponse, ConfirmProgramSignInRequest,
    DenyProgramSignInRequest, ListSessionsRequest, LoopbackReturn, SessionKind, SignInMeans,
};
use url::Url;

use super::*;
use crate::domain::program::{CODE_LIFETIME, LIFETIME};
use crate::domain::sign_in::hash;
use crate::ops;
use crate::testing::{Fixture, HERE};

const VERIFIER: &str = "a-secret-of-the-program-that-never-leaves-it";
const STATE: &str = "0123456789abcdef0123456789abcdef";

async fn begin(f: &Fixture, loopback: bool) -> BeginProgramSignInResponse {
    let back = LoopbackReturn {
        redirect_uri: "http://127.0.0.1:40123/".into(),
        state: STATE.into(),
        code_challenge: URL_SAFE_NO_PAD.encode(hash(VERIFIER)),
    };
    let request = BeginProgramSignInRequest {
        program: "foundry".into(),
        device: "laptop".into(),
        loopback: loopback.then_some(back),
    };
    ops::begin_program_sign_in::begin_program_sign_in(&f.auth, &HERE, request).await.unwrap()
}

fn selected(begun: &BeginProgramSignInResponse) -> (String, String) {
    let by_id = begun.user_code.is_empty();
    (if by_id { begun.program_sign_in_id.clone() } else { String::new() }, begun.user_code.clone())
}

/// Confirms; returns the parameters that the browser brings back.
async fn confirm(f: &Fixture, by: &Caller, begun: &BeginProgramSignInResponse) -> Result<(String, String)> {
    let (program_sign_in_id, user_code) = selected(begun);
    let request = ConfirmProgramSignInRequest { program_sign_in_id, user_code };
    let answer = ops::confirm_program_sign_in::confirm_program_sign_in(&f.auth, by, request).await?;
    let Ok(to) = Url::parse(&answer.redirect_url) else { return Ok(Default::default()) };
    assert_eq!((to.host_str(), to.port(), to.path()), (Some("127.0.0.1"), Some(40_123), "/"));
    let get = |name: &str| to.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned());
    Ok((get("code").unwrap(), get("state").unwrap()))
}

async fn deny(f: &Fixture, by: &Caller, begun: &BeginProgramSignInResponse) -> String {
    let (program_sign_in_id, user_code) = selected(begun);
    let request = DenyProgramSignInRequest { program_sign_in_id, user_code };
    ops::deny_program_sign_in::deny_program_sign_in(&f.auth, by, request).await.unwrap().redirect_url
}

async fn complete(
    f: &Fixture,
    begun: &BeginProgramSignInResponse,
    code: &str,
    verifier: &str,
) -> Result<CompleteProgramSignInResponse> {
    let request = CompleteProgramSignInRequest {
        program_sign_in_id: begun.program_sign_in_id.clone(),
        device_code: begun.device_code.clone(),
        code: code.into(),
        code_verifier: verifier.into(),
    };
    complete_program_sign_in(&f.auth, &HERE, request).await
}

async fn poll(f: &Fixture, begun: &BeginProgramSignInResponse) -> &'static str {
    complete(f, begun, "", "").await.map_or_else(|e| e.reason(), |_| "OK")
}

async fn sessions(f: &Fixture, of: &Caller) -> Vec<foundry_proto::auth::v1::Session> {
    let request = ListSessionsRequest::default();
    ops::list_sessions::list_sessions(&f.auth, of, request).await.unwrap().sessions
}

async fn actions(f: &Fixture, organization: &OrganizationId) -> Vec<String> {
    f.audit(organization)
        .await
        .into_iter()
        .map(|record| format!("{} {}", record.actor, record.action))
        .collect()
}

#[tokio::test]
async fn a_program_with_a_device_code_acts_as_who_confirmed_it_and_once() {
    let f = Fixture::new().await;
    let (_, acme) = f.member("alice", "acme").await;
    let page = f.in_the_page("alice", "acme").await;
    let begun = begin(&f, false).await;
    assert_eq!(poll(&f, &begun).await, "SIGN_IN_PENDING");
    confirm(&f, &page, &begun).await.unwrap();
    let done = complete(&f, &begun, "", "").await.unwrap();
    assert_eq!(done.organization.unwrap().name, "acme");
    let program = f.caller(&done.session_token).await.unwrap();
    assert_eq!(program.actor(), page.actor());
    let seen = sessions(&f, &program).await;
    let own = seen.iter().find(|it| it.current).unwrap();
    assert_eq!((own.kind(), own.device.as_str()), (SessionKind::Program, "foundry on laptop"));
    assert_eq!(own.means(), SignInMeans::DeviceCode);
    assert_eq!(poll(&f, &begun).await, "SIGN_IN_USED");
    assert_eq!(sessions(&f, &program).await.len(), seen.len(), "and no second session");
    let alice = page.actor();
    let last: Vec<_> = [format!("{alice} program_sign_in.confirm"), format!("{alice} session.open")].into();
    for action in last {
        assert!(actions(&f, &acme).await.contains(&action), "{action}");
    }
    let again = confirm(&f, &page, &begun).await.unwrap_err();
    assert_eq!(again.reason(), "USER_CODE_UNKNOWN");
}

#[tokio::test]
async fn a_program_with_a_return_needs_the_code_of_the_browser_and_its_own_secret() {
    let f = Fixture::new().await;
    let page = f.in_the_page("alice", "acme").await;
    let begun = begin(&f, true).await;
    assert_eq!(poll(&f, &begun).await, "SIGN_IN_UNKNOWN", "there is nothing to ask for without a code");
    let (code, state) = confirm(&f, &page, &begun).await.unwrap();
    assert_eq!(state, STATE);
    for (code, verifier) in [
        (code.as_str(), "another secret"),
        (code.as_str(), ""),
        ("another code", VERIFIER),
        ("", VERIFIER),
        (VERIFIER, code.as_str()),
    ] {
        let refused = complete(&f, &begun, code, verifier).await.unwrap_err();
        assert_eq!(refused.reason(), "SIGN_IN_UNKNOWN", "{code} {verifier}");
    }
    let done = complete(&f, &begun, &code, VERIFIER).await.unwrap();
    let program = f.caller(&done.session_token).await.unwrap();
    assert_eq!(
        sessions(&f, &program).await.iter().find(|it| it.current).unwrap().means(),
        SignInMeans::Browser
    );
    assert_eq!(complete(&f, &begun, &code, VERIFIER).await.unwrap_err().reason(), "SIGN_IN_USED");
    assert_eq!(confirm(&f, &page, &begun).await.unwrap_err().reason(), "SIGN_IN_USED");
}

#[tokio::test]
async fn two_programs_cannot_use_each_others_codes() {
    let f = Fixture::new().await;
    let page = f.in_the_page("alice", "acme").await;
    let (mine, other, device) = (begin(&f, true).await, begin(&f, true).await, begin(&f, false).await);
    let (code, _) = confirm(&f, &page, &mine).await.unwrap();
    confirm(&f, &page, &other).await.unwrap();
    assert_eq!(complete(&f, &other, &code, VERIFIER).await.unwrap_err().reason(), "SIGN_IN_UNKNOWN");
    let crossed = BeginProgramSignInResponse { device_code: device.device_code, ..begin(&f, false).await };
    assert_eq!(poll(&f, &crossed).await, "SIGN_IN_UNKNOWN");
    let as_device = BeginProgramSignInResponse { device_code: VERIFIER.into(), ..mine.clone() };
    assert_eq!(poll(&f, &as_device).await, "SIGN_IN_UNKNOWN");
    assert!(complete(&f, &mine, &code, VERIFIER).await.is_ok());
}

#[tokio::test]
async fn who_confirms_is_whom_the_program_acts_as() {
    let f = Fixture::new().await;
    f.in_the_page("alice", "acme").await;
    let bob = f.in_the_page("bob", "").await;
    let begun = begin(&f, false).await;
    confirm(&f, &bob, &begun).await.unwrap();
    let done = complete(&f, &begun, "", "").await.unwrap();
    assert_eq!(done.user.unwrap().login, "bob");
    assert_eq!(f.caller(&done.session_token).await.unwrap().actor(), bob.actor());
}

#[tokio::test]
async fn only_the_page_confirms_and_not_after_it_was_signed_out() {
    let f = Fixture::new().await;
    let (session, acme) = f.member("alice", "acme").await;
    let page = f.in_the_page("alice", "acme").await;
    let begun = begin(&f, false).await;
    let token = f.access_token(&session, &acme, None).await;
    let token = f.caller(&token.secret).await.unwrap();
    for other in [&session, &token] {
        assert_eq!(confirm(&f, other, &begun).await.unwrap_err().reason(), "PAGE_SESSION_REQUIRED");
    }
    let refused = confirm(&f, &Caller::service("gateway"), &begun).await.unwrap_err();
    assert_eq!(refused.reason(), "PERMISSION_DENIED");
    ops::sign_out::sign_out(&f.auth, &page).await.unwrap();
    assert_eq!(confirm(&f, &page, &begun).await.unwrap_err().reason(), "PAGE_SESSION_REQUIRED");
    assert_eq!(poll(&f, &begun).await, "SIGN_IN_PENDING");
}

#[tokio::test]
async fn what_was_denied_stays_denied_and_the_browser_says_so() {
    let f = Fixture::new().await;
    let (_, acme) = f.member("alice", "acme").await;
    let page = f.in_the_page("alice", "acme").await;
    let (device, back) = (begin(&f, false).await, begin(&f, true).await);
    assert_eq!(deny(&f, &page, &device).await, "");
    assert_eq!(
        deny(&f, &page, &back).await,
        format!("http://127.0.0.1:40123/?error=access_denied&state={STATE}")
    );
    assert_eq!(poll(&f, &device).await, "SIGN_IN_DENIED");
    f.clock.advance(Duration::from_secs(30));
    assert_eq!(poll(&f, &device).await, "SIGN_IN_DENIED");
    assert_eq!(confirm(&f, &page, &device).await.unwrap_err().reason(), "USER_CODE_UNKNOWN");
    assert_eq!(confirm(&f, &page, &back).await.unwrap_err().reason(), "SIGN_IN_DENIED");
    let denied = format!("{} program_sign_in.deny", page.actor());
    assert_eq!(actions(&f, &acme).await.iter().filter(|it| **it == denied).count(), 2);
}

#[tokio::test]
async fn a_sign_in_ends_after_ten_minutes_and_a_code_of_the_browser_after_one() {
    let f = Fixture::new().await;
    let page = f.in_the_page("alice", "acme").await;
    let (device, confirmed, back) = (begin(&f, false).await, begin(&f, false).await, begin(&f, true).await);
    confirm(&f, &page, &confirmed).await.unwrap();
    let (code, _) = confirm(&f, &page, &back).await.unwrap();
    f.clock.advance(CODE_LIFETIME);
    assert_eq!(complete(&f, &back, &code, VERIFIER).await.unwrap_err().reason(), "SIGN_IN_EXPIRED");
    f.clock.advance(LIFETIME - CODE_LIFETIME);
    assert_eq!(poll(&f, &device).await, "SIGN_IN_EXPIRED");
    assert_eq!(poll(&f, &confirmed).await, "SIGN_IN_EXPIRED");
    assert_eq!(confirm(&f, &page, &device).await.unwrap_err().reason(), "USER_CODE_UNKNOWN");
}

#[tokio::test]
async fn a_program_that_asks_too_often_must_ask_less_and_still_gets_in() {
    let f = Fixture::new().await;
    let page = f.in_the_page("alice", "acme").await;
    let begun = begin(&f, false).await;
    let wait = |e: Error| {
        let status = e.into_status();
        tonic_types::StatusExt::get_error_details(&status).retry_info().unwrap().retry_delay.unwrap()
    };
    assert_eq!(wait(complete(&f, &begun, "", "").await.unwrap_err()), seconds(5));
    let hasty = complete(&f, &begun, "", "").await.unwrap_err();
    assert_eq!(hasty.reason(), "SIGN_IN_ASKED_TOO_SOON");
    assert_eq!(wait(hasty), seconds(10));
    f.clock.advance(seconds(9));
    assert_eq!(wait(complete(&f, &begun, "", "").await.unwrap_err()), seconds(15));
    f.clock.advance(seconds(15));
    assert_eq!(poll(&f, &begun).await, "SIGN_IN_PENDING");
    for _ in 0..20 {
        assert_eq!(poll(&f, &begun).await, "SIGN_IN_ASKED_TOO_SOON");
    }
    let id = begun.program_sign_in_id.parse().unwrap();
    let polled_at = async || program_sign_ins::find(&f.auth.store, &id).await.unwrap().unwrap().polled_at;
    let before = polled_at().await;
    f.clock.advance(seconds(59));
    assert_eq!(poll(&f, &begun).await, "SIGN_IN_ASKED_TOO_SOON");
    assert_eq!(polled_at().await, before, "nothing is written for it");
    f.clock.advance(seconds(1));
    assert_eq!(poll(&f, &begun).await, "SIGN_IN_PENDING", "a minute is the longest pause");
    confirm(&f, &page, &begun).await.unwrap();
    assert_eq!(poll(&f, &begun).await, "OK");
}

#[tokio::test]
async fn no_code_of_a_sign_in_is_stored() {
    let f = Fixture::new().await;
    let page = f.in_the_page("alice", "acme").await;
    let (device, back) = (begin(&f, false).await, begin(&f, true).await);
    let (code, _) = confirm(&f, &page, &back).await.unwrap();
    let done = complete(&f, &back, &code, VERIFIER).await.unwrap();
    f.auth.store.close().await;
    let letters = device.user_code.replace('-', "");
    let secrets =
        [device.user_code, letters, device.device_code, code, VERIFIER.to_owned(), done.session_token];
    for entry in std::fs::read_dir(f.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
                assert!(!found, "{secret} in {}", path.display());
            }
        }
    }
}
