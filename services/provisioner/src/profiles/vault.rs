//! The secrets of a row, encrypted and bound to it.

use bytes::Bytes;
use foundry_core::Error;
use foundry_secrets::{Column, Sealed};
use foundry_store::Table;

use crate::domain::Secrets;
use crate::shared::Shared;

/// The column of secrets in this row of a table; the encryption is bound to it.
pub(super) const fn column<'a>(table: &'a Table, row: &'a str) -> Column<'a> {
    Column { service: "provisioner", table: table.name(), row, column: "secrets" }
}

/// Encrypts the secrets of a row; none when there are no secrets.
///
/// # Errors
/// When they cannot be encrypted.
pub fn seal(shared: &Shared, table: &Table, row: &str, secrets: &Secrets) -> Result<Option<Bytes>, Error> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let sealed = shared.profiles.keys.seal(column(table, row), &secrets.to_secret()?)?;
    Ok(Some(Bytes::copy_from_slice(sealed.as_bytes())))
}

/// Decrypts the secrets of a row.
///
/// # Errors
/// `SECRET_UNREADABLE` when they were encrypted with other keys or for another row.
pub fn open(shared: &Shared, table: &Table, row: &str, sealed: Option<&Bytes>) -> Result<Secrets, Error> {
    let Some(sealed) = sealed else { return Ok(Secrets::default()) };
    let sealed = Sealed::from_bytes(sealed.as_ref());
    Secrets::from_secret(&shared.profiles.keys.open(column(table, row), &sealed)?)
}
