//! The secrets of webhooks: made here, and decrypted for the check of one delivery.

use foundry_core::{Env, Error, Result};
use foundry_secrets::{Column, Sealed, Secret};

use crate::context::Context;
use crate::domain::webhook::Webhook;
use crate::store::webhooks::WEBHOOKS;

/// A new secret, in letters that every form of a host takes.
pub fn new_secret(env: &Env) -> Secret {
    let mut bytes = [0; 32];
    env.random.fill(&mut bytes);
    Secret::new(hex::encode(bytes))
}

/// Encrypts a secret for the row of a webhook.
///
/// # Errors
/// When it cannot be encrypted.
pub fn seal(cx: &Context, webhook: &Webhook, secret: &Secret) -> Result<bytes::Bytes, Error> {
    let sealed = cx.broker.keys.seal(column(&webhook.binding()), secret)?;
    Ok(bytes::Bytes::copy_from_slice(sealed.as_bytes()))
}

/// The secret of a webhook.
///
/// # Errors
/// `SECRET_UNREADABLE` when the key that encrypted it is missing.
pub fn open(cx: &Context, webhook: &Webhook) -> Result<Secret> {
    cx.broker.keys.open(column(&webhook.binding()), &Sealed::from_bytes(webhook.sealed.as_ref()))
}

/// A secret that nobody knows, for a delivery to a webhook that does not exist; it takes as long to get as one that does.
///
/// # Errors
/// When it cannot be encrypted.
pub fn decoy(cx: &Context) -> Result<Secret> {
    let secret = new_secret(&cx.env);
    cx.broker.keys.seal(column(""), &secret)?;
    Ok(secret)
}

const fn column(row: &str) -> Column<'_> {
    Column { service: "repo", table: WEBHOOKS.name(), row, column: "secret" }
}
