//! The cookie that binds a sign-in to its browser. It must come along when another site sends the browser back, so it is
//! `Lax`; it opens nothing by itself.

use http::HeaderMap;
use http::header::{COOKIE, HeaderName, HeaderValue, SET_COOKIE};

/// How long a sign-in may take, in seconds; auth has the last word.
const LIFETIME: u32 = 600;

/// Cookies do not distinguish ports, so over plain HTTP the port is in the name.
fn name(public: &HeaderValue) -> (String, bool) {
    let origin = public.to_str().unwrap_or_default();
    if origin.starts_with("https://") {
        return ("__Host-foundry_sign_in".to_owned(), true);
    }
    let port = origin.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    (format!("foundry_sign_in_{}", port.unwrap_or("80")), false)
}

/// The `Set-Cookie` of a sign-in that begins.
pub(super) fn set(public: &HeaderValue, binding: &str) -> Option<(HeaderName, HeaderValue)> {
    line(public, binding, LIFETIME)
}

/// The `Set-Cookie` that removes it.
pub(super) fn clear(public: &HeaderValue) -> Option<(HeaderName, HeaderValue)> {
    line(public, "", 0)
}

fn line(public: &HeaderValue, value: &str, seconds: u32) -> Option<(HeaderName, HeaderValue)> {
    let (name, secure) = name(public);
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut line = HeaderValue::try_from(text).ok()?;
    line.set_sensitive(true);
    Some((SET_COOKIE, line))
}

/// The value of the cookie; none without it, and none if there are several: one of them is not ours.
pub(super) fn read(headers: &HeaderMap, public: &HeaderValue) -> Option<String> {
    let (name, _) = name(public);
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut own = pairs.filter(|(n, _)| *n == name).map(|(_, value)| value.to_owned());
    let first = own.next()?;
    own.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belongs_to_one_gateway_and_counts_once() {
        let (plain, secure) = (
            HeaderValue::from_static("http://127.0.0.1:7100"),
            HeaderValue::from_static("https://foundry.example"),
        );
        let (_, line) = set(&plain, "abc").unwrap();
        assert_eq!(line, "foundry_sign_in_7100=abc; Path=/; Max-Age=600; HttpOnly; SameSite=Lax");
        let (_, line) = clear(&secure).unwrap();
        assert_eq!(line, "__Host-foundry_sign_in=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure");
        let headers = |text: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(text))]);
        assert_eq!(read(&headers("a=b; foundry_sign_in_7100=x"), &plain).as_deref(), Some("x"));
        assert_eq!(read(&headers("foundry_sign_in_7200=x"), &plain), None);
        assert_eq!(read(&headers("foundry_sign_in_7100=x; foundry_sign_in_7100=y"), &plain), None);
        assert_eq!(read(&headers("foundry_sign_in_7100=x"), &secure), None);
    }
}
