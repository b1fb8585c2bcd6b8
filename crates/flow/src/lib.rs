//! foundry-flow.
