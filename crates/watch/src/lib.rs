//! foundry-watch.
