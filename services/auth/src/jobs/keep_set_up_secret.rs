//! Keeps the file of the set-up secret while somebody has to set the mesh up, and removes it afterwards.

use std::sync::Arc;

use foundry_core::Result;

use crate::auth::Auth;
use crate::store::organizations;

pub(crate) async fn run(auth: Arc<Auth>) -> Result<()> {
    if auth.sign_in.providers.is_empty() {
        return Ok(());
    }
    match organizations::home(&auth.store).await? {
        Some(_) => auth.sign_in.set_up.remove().await,
        None => auth.sign_in.set_up.secret(&auth.env).await.map(drop),
    }
}
