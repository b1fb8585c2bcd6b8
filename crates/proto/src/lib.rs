//! foundry-proto.
