//! foundry-git.
