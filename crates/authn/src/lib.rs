//! foundry-authn.
