//! foundry-provisioner.
