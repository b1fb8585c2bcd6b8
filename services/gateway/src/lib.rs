//! foundry-gateway.
