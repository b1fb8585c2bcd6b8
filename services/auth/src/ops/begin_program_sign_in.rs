//! BeginProgramSignIn: remembers a program that wants to be signed in, and returns what its user needs.

use foundry_authn::Client;
use foundry_core::{ProgramSignInId, Result};
use foundry_proto::auth::v1::{BeginProgramSignInRequest, BeginProgramSignInResponse};
use foundry_store::WriteSet;

use crate::auth::Auth;
use crate::domain::device;
use crate::domain::program::{self, LIFETIME, POLL_SECONDS, ProgramRow, ProgramState, Return, seconds};
use crate::domain::sign_in::{hash, new_secret};
use crate::store::program_sign_ins;

/// Where the page asks the user.
const PATH: &str = "/device";

pub(crate) async fn begin_program_sign_in(
    auth: &Auth,
    client: &Client,
    request: BeginProgramSignInRequest,
) -> Result<BeginProgramSignInResponse> {
    let (name, machine) = device::of_program(&request.program, &request.device)?;
    let back = request.loopback.as_ref().map(program::parse_return).transpose()?;
    let address = client.address.map(|ip| ip.to_string()).unwrap_or_default();
    // A user code that another one waits for is chosen again.
    let decide = || async {
        let now = auth.env.clock.now();
        let (device_code, user_code) = match &back {
            Some(_) => (String::new(), String::new()),
            None => (new_secret(&auth.env), program::new_user_code(&auth.env)),
        };
        let user_code_hash = match &back {
            Some(_) => Vec::new(),
            None => program::user_code_hash(&user_code)?.to_vec(),
        };
        let (back, secret_hash) = match back.clone() {
            Some(it) => it,
            None => (Return::default(), hash(&device_code).to_vec()),
        };
        let row = ProgramRow {
            program_sign_in_id: ProgramSignInId::generate(&auth.env),
            state: ProgramState::Begun,
            program: name.clone(),
            device: machine.clone(),
            address: address.clone(),
            secret_hash,
            user_code_hash,
            back,
            code_hash: Vec::new(),
            user_id: None,
            poll_seconds: POLL_SECONDS,
            polled_at: None,
            created_at: now,
            expires_at: now.plus(LIFETIME),
        };
        let mut set = WriteSet::new();
        program_sign_ins::insert(&mut set, &row);
        let id = row.program_sign_in_id.to_string();
        let path = if row.returns() { format!("{PATH}/{id}") } else { PATH.to_owned() };
        let response = BeginProgramSignInResponse {
            program_sign_in_id: id,
            verification_address: format!("{}{path}", auth.public_url),
            user_code,
            device_code,
            poll_interval: seconds(POLL_SECONDS).try_into().ok(),
            expire_time: Some(row.expires_at.to_proto()),
        };
        Ok((set, response))
    };
    Ok(auth.store.retry_on_conflict(decide).await?.1)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use foundry_proto::auth::v1::LoopbackReturn;

    use super::*;
    use crate::jobs;
    use crate::store::program_sign_ins::MAX_PER_ADDRESS;
    use crate::testing::{Fixture, HERE};

    fn request() -> BeginProgramSignInRequest {
        BeginProgramSignInRequest { program: "foundry".into(), device: "laptop".into(), loopback: None }
    }

    #[tokio::test]
    async fn only_hashes_of_the_codes_are_stored_and_the_page_is_at_its_own_path() {
        let f = Fixture::new().await;
        let begun = begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap();
        assert_eq!(begun.verification_address, "/device");
        assert_eq!((begun.user_code.len(), begun.poll_interval.unwrap().seconds), (9, 5));
        let row = program_sign_ins::find(&f.auth.store, &begun.program_sign_in_id.parse().unwrap()).await;
        let row = format!("{:?}", row.unwrap().unwrap());
        assert!(!row.contains(&begun.user_code) && !row.contains(&begun.device_code), "{row}");
    }

    #[tokio::test]
    async fn a_return_has_no_user_code_and_must_be_on_the_machine() {
        let f = Fixture::new().await;
        let back = |uri: &str| LoopbackReturn {
            redirect_uri: uri.into(),
            state: "s".repeat(32),
            code_challenge: "A".repeat(43),
        };
        let with = |uri| BeginProgramSignInRequest { loopback: Some(back(uri)), ..request() };
        let begun = begin_program_sign_in(&f.auth, &HERE, with("http://127.0.0.1:4000/")).await.unwrap();
        assert_eq!((begun.user_code.as_str(), begun.device_code.as_str()), ("", ""));
        assert_eq!(begun.verification_address, format!("/device/{}", begun.program_sign_in_id));
        let refused = begin_program_sign_in(&f.auth, &HERE, with("https://evil.example/")).await.unwrap_err();
        assert_eq!(refused.violations()[0].field, "loopback.redirect_uri");
    }

    #[tokio::test]
    async fn one_address_cannot_hold_more_than_some_and_those_that_expired_make_room() {
        let f = Fixture::new().await;
        for _ in 0..MAX_PER_ADDRESS {
            begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap();
        }
        let refused = begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap_err();
        assert_eq!(refused.reason(), "LIMIT_REACHED");
        let elsewhere = Client { address: Some(IpAddr::from([192, 0, 2, 7])), ..HERE };
        begin_program_sign_in(&f.auth, &elsewhere, request()).await.unwrap();
        f.clock.advance(LIFETIME + seconds(300));
        jobs::retire::run(f.auth.clone()).await.unwrap();
        begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap();
    }
}
