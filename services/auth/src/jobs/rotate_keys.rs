//! Publishes a new signing key each month and drops old ones.

use std::sync::Arc;

use foundry_core::{Error, Result};

use crate::auth::Auth;

pub(crate) async fn run(auth: Arc<Auth>) -> Result<()> {
    // It may write a file, which blocks.
    tokio::task::spawn_blocking(move || auth.signing.rotate()).await.map_err(Error::internal)??;
    Ok(())
}
