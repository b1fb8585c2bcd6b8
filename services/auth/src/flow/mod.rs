//! The service's durable flows.

mod admit;
pub(crate) mod sign_in;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use foundry_flow::Binding;

use crate::auth::Auth;

/// All flows of the service.
pub(crate) fn bindings(auth: &Arc<Auth>) -> Vec<Binding> {
    vec![sign_in::SIGN_IN.bind(auth).projection(sign_in::Shown)]
}
