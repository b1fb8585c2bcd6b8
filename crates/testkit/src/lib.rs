//! foundry-testkit.
