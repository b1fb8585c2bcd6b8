//! The service's rules without a database: names, roles, secrets, proofs, key rotation.

pub(crate) mod account;
pub(crate) mod device;
pub(crate) mod guesses;
pub(crate) mod membership;
pub(crate) mod name;
pub(crate) mod program;
pub(crate) mod proof;
pub(crate) mod rotation;
pub(crate) mod secret;
pub(crate) mod session;
pub(crate) mod sign_in;
