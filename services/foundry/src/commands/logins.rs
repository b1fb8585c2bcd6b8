//! `foundry logins`: where the user is signed in.

use std::process::ExitCode;

use foundry_proto::auth::v1::{ListSessionsRequest, RevokeSessionRequest, Session, SignInMeans};

use crate::cli::Output;
use crate::cli::login::Logins;
use crate::client::{Gateway, request_id};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Logins) -> Result<ExitCode, Failure> {
    match command {
        Logins::List => list(gateway, output).await?,
        Logins::End { session_id } => {
            let request = RevokeSessionRequest { request_id: request_id(), credential_id: session_id };
            let answer = gateway.auth().revoke_session(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("ended"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(gateway: &Gateway, output: Output) -> Result<(), Failure> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest { page_size: 0, page_token };
        let page = gateway.auth().list_sessions(request).await?.into_inner();
        sessions.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output == Output::Json {
        return sessions.iter().try_for_each(|it| output::json(it).map(|text| output::line(&text)));
    }
    let rows = sessions.iter().map(|it| {
        vec![
            it.credential_id.clone(),
            if it.current { format!("{} (this one)", device(it)) } else { device(it) },
            means(it),
            it.address.clone(),
            output::time(it.create_time.as_ref()),
            output::time(it.last_use_time.as_ref()),
            output::time(it.expire_time.as_ref()),
        ]
    });
    output::table(&["id", "device", "signed in", "from", "since", "last seen", "ends"], rows.collect());
    Ok(())
}

/// The device of a session, in words.
pub(super) fn device(session: &Session) -> String {
    if session.device.is_empty() { "unknown".to_owned() } else { session.device.clone() }
}

/// How the user of a session signed in, in words.
pub(super) fn means(session: &Session) -> String {
    match session.means() {
        SignInMeans::Unspecified => "in a way that is not recorded".to_owned(),
        SignInMeans::Development => "with the development secret".to_owned(),
        SignInMeans::Provider => format!("at {}", session.provider),
        SignInMeans::DeviceCode => "by device code".to_owned(),
        SignInMeans::Browser => "by browser".to_owned(),
    }
}
