//! foundry-sandbox.
