//! foundry-store.
