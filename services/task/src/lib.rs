//! foundry-task.
