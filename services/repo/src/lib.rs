//! foundry-repo.
