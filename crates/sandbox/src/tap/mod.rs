//! The tap.

/// The key below `_meta` in which `initialize` carries what is for the tap only.
pub(crate) const META: &str = "foundry";
/// A notification that only ends a half-written message.
pub(crate) const RESYNC: &str = "_foundry/resync";
/// Error code of the tap: the request id was passed on before.
pub(crate) const DUPLICATE_REQUEST: i64 = -32_098;
/// Error code of the tap: the request could not be recorded, so it was not passed on.
pub(crate) const UNRECORDED_REQUEST: i64 = -32_097;
