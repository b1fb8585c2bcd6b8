//! Secrets as text and as values of headers.

use foundry_secrets::Secret;
use http::HeaderValue;
use zeroize::Zeroizing;

/// The text of a secret; those of calls have one.
pub(crate) fn text(secret: &Secret) -> &str {
    secret.expose_str().unwrap_or_default()
}

/// As the value of a header, marked sensitive, with `before` in front; none where it cannot stand in a header.
pub(crate) fn header(secret: &Secret, before: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("{before}{}", text(secret)));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
