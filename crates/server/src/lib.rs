//! foundry-server.
