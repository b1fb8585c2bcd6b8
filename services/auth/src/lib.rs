//! foundry-auth.
