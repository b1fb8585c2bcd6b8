//! foundry-demo-agent.
