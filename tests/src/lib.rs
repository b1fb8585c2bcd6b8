//! foundry-tests.
