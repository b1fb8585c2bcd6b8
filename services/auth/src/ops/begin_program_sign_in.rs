//! BeginProgramSignIn: remembers a program that wants to be signed in, and returns what its user needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use foundry_authn::Client;
use foundry_core::{ProgramSignInId, Result};
use foundry_proto::auth::v1::{BeginProgramSignInRequest, BeginProgramSignInResponse};
use foundry_server::PeerAddress;
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
    let network = client.address.map(network);
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
        program_sign_ins::insert(&mut set, &row, network);
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

/// What a client is counted by, where its address is known: the network of one customer, and all of this machine as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        ip => PeerAddress(SocketAddr::new(ip, 0)).network(),
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::auth::v1::{CompleteProgramSignInRequest, LoopbackReturn};

    use super::*;
    use crate::store::program_sign_ins::{MAX_PER_NETWORK, MAX_PER_SHARE};
    use crate::testing::{Fixture, HERE};
    use crate::{jobs, ops};

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

    /// Begins from addresses until it is refused; returns how often it was not.
    async fn until_refused(f: &Fixture, mut next: impl FnMut(u16) -> Option<IpAddr>) -> i64 {
        let mut begun = 0;
        for n in 0..=1_000 {
            let client = Client { address: next(n), ..HERE };
            match begin_program_sign_in(&f.auth, &client, request()).await {
                Ok(_) => begun += 1,
                Err(refused) => {
                    assert_eq!(refused.reason(), "LIMIT_REACHED");
                    return begun;
                }
            }
        }
        panic!("it is never refused");
    }

    #[tokio::test]
    async fn clients_of_unknown_networks_and_those_of_known_ones_do_not_keep_each_other_out() {
        let f = Fixture::new().await;
        // As behind a proxy, or with the header of one.
        assert_eq!(until_refused(&f, |_| None).await, MAX_PER_SHARE);
        let many = |n: u16| Some(IpAddr::from([192, 0, 2, u8::try_from(n / 31).unwrap()]));
        assert_eq!(until_refused(&f, many).await, MAX_PER_SHARE);

        let f = Fixture::new().await;
        assert_eq!(until_refused(&f, many).await, MAX_PER_SHARE);
        assert_eq!(until_refused(&f, |_| None).await, MAX_PER_SHARE);
    }

    #[tokio::test]
    async fn the_addresses_of_one_customer_and_of_this_machine_count_as_one() {
        let f = Fixture::new().await;
        let customer = |n| Some(IpAddr::from([0x2001, 0xdb8, 1, 2, n, 0, 0, 1]));
        assert_eq!(until_refused(&f, customer).await, MAX_PER_NETWORK);
        let machine = |n: u16| Some(IpAddr::from([127, 0, 0, u8::try_from(n).unwrap() + 1]));
        assert_eq!(until_refused(&f, machine).await, MAX_PER_NETWORK);
        let neighbour = Client { address: Some("2001:db8:1:3::1".parse().unwrap()), ..HERE };
        assert!(begin_program_sign_in(&f.auth, &neighbour, request()).await.is_ok());
    }

    #[tokio::test]
    async fn one_address_cannot_hold_more_than_some_and_those_that_expired_make_room() {
        let f = Fixture::new().await;
        let first = begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap();
        for _ in 1..MAX_PER_NETWORK {
            begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap();
        }
        let refused = begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap_err();
        assert_eq!(refused.reason(), "LIMIT_REACHED");
        let elsewhere = Client { address: Some(IpAddr::from([192, 0, 2, 7])), ..HERE };
        begin_program_sign_in(&f.auth, &elsewhere, request()).await.unwrap();
        f.clock.advance(LIFETIME);
        jobs::retire::run(f.auth.clone()).await.unwrap();
        begin_program_sign_in(&f.auth, &HERE, request()).await.unwrap();
        let expired = CompleteProgramSignInRequest {
            program_sign_in_id: first.program_sign_in_id,
            device_code: first.device_code,
            ..Default::default()
        };
        let refused = ops::complete_program_sign_in::complete_program_sign_in(&f.auth, &HERE, expired).await;
        assert_eq!(refused.unwrap_err().reason(), "SIGN_IN_EXPIRED", "its program can still see why");
    }
}
