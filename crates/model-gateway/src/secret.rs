//! Secrets as text and as values of headers.

use foundry_secrets::Secret;
use http::HeaderValue;
use zeroize::Zeroizing;

/// The text of a secret; secrets of calls are always text.
pub(crate) fn text(secret: &Secret) -> &str {
    secret.expose_str().unwrap_or_default()
}

/// A header value marked sensitive, with `before` in front; `None` if it is not a valid header value.
pub(crate) fn header(secret: &Secret, before: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("{before}{}", text(secret)));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
