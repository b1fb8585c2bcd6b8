//! What both ways by a browser have in common: how the sign-in begins and where its session is kept.

use std::process::ExitCode;
use std::time::Duration;

use foundry_core::Clock;
use foundry_proto::auth::v1::{
    BeginProgramSignInRequest, BeginProgramSignInResponse, CompleteProgramSignInResponse, LoopbackReturn,
    SignOutRequest,
};

use crate::cli::Global;
use crate::client::Gateway;
use crate::credentials::{Credential, Credentials};
use crate::failure::Failure;
use crate::output;

/// The name of this program, as its user sees it in the browser and in the list of sessions.
pub(super) const NAME: &str = "foundry";
/// Most characters of the machine's name that are sent.
const MAX_NAME: usize = 48;
/// How long the user may take, as at the mesh.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the end of a former session may take.
const SIGN_OUT: Duration = Duration::from_secs(5);

/// The name of this machine.
pub(super) fn machine() -> String {
    let known = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let known = known.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = known.trim().chars().filter(plain).take(MAX_NAME).collect();
    if name.is_empty() { "a machine without a name".to_owned() } else { name }
}

/// Begins; the address to open is complete afterwards.
pub(super) async fn begin(
    global: &Global,
    gateway: &Gateway,
    loopback: Option<LoopbackReturn>,
) -> Result<BeginProgramSignInResponse, Failure> {
    let request = BeginProgramSignInRequest { program: NAME.to_owned(), device: machine(), loopback };
    let mut begun = gateway.auth().begin_program_sign_in(request).await?.into_inner();
    if begun.verification_address.starts_with('/') {
        let base = global.address.trim_end_matches('/');
        begun.verification_address = format!("{base}{}", begun.verification_address);
    }
    Ok(begun)
}

/// What comes of the user's answer, if it comes in time.
pub(super) async fn in_time<T>(
    clock: &dyn Clock,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        answered = answer => answered,
        () = clock.sleep(PATIENCE) => {
            let text = "the sign-in was not confirmed and completed within ten minutes";
            Err(Failure::new(text).next("run `foundry login` again"))
        }
    }
}

/// Stores the session in place of the former one, which ends, and says who is signed in.
pub(super) async fn keep(global: &Global, done: &CompleteProgramSignInResponse) -> Result<ExitCode, Failure> {
    let organization = done.organization.clone().unwrap_or_default();
    let credential = Credential {
        token: done.session_token.clone(),
        organization_id: organization.organization_id.clone(),
    };
    let credentials = Credentials::of_user()?;
    let former = credentials.get(&global.address)?;
    credentials.put(&global.address, credential)?;
    if let Some(former) = former {
        end(global, former.token).await;
    }
    let user = done.user.clone().unwrap_or_default();
    output::one(global.output, &user, |user| {
        let mut line = format!("signed in to {} as {}", global.address, user.login);
        if !organization.name.is_empty() {
            line.push_str(&format!(", organization {}", organization.name));
        }
        output::line(&line);
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Ends a session that no program has any more; it would count for a month. If that fails, it can be ended on the page.
async fn end(global: &Global, token: String) {
    let former = Global { token: Some(token), ..global.clone() };
    let Ok(gateway) = Gateway::signed_in(&former) else { return };
    let mut auth = gateway.auth();
    let _ = tokio::time::timeout(SIGN_OUT, auth.sign_out(SignOutRequest {})).await;
}
