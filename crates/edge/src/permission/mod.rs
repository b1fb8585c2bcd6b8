//! Whether a caller may see what it watches: asked of the owner of each watch under the caller's newest token, and
//! asked again whenever a revocation concerns that caller.

mod authorize;
mod credential;
mod guard;
mod question;

pub(crate) use authorize::Grant;
pub(crate) use credential::{Credential, Judgement, Tokens, membership_lost};
pub(crate) use guard::{Guard, Notice};
pub(crate) use question::{Asking, ask};
