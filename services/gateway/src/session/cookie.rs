//! The cookie of a session: its name, how it is read, set and cleared. Cookies do not distinguish ports, so over
//! plain HTTP the port is in the name; `__Host-` binds the cookie to the host where the origin is secure.

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::SECRET;
use super::rules::Page;

const SECURE_NAME: &str = "__Host-foundry_session";
const PLAIN_PREFIX: &str = "foundry_session_";
/// Most cookies of one name that are checked: others on this host may have set more of them.
const MAX_COOKIES: usize = 8;

fn name(page: &Page) -> String {
    if page.is_secure() { SECURE_NAME.to_owned() } else { format!("{PLAIN_PREFIX}{}", page.port()) }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// Whether the cookie of any session is present, for any port.
pub(super) fn is_present(headers: &HeaderMap) -> bool {
    pairs(headers).any(|(name, _)| name == SECURE_NAME || name.starts_with(PLAIN_PREFIX))
}

/// The secrets of all cookies that may belong to the page's session.
pub(super) fn secrets(headers: &HeaderMap, page: &Page) -> Vec<String> {
    let name = name(page);
    let own = pairs(headers).filter(|(n, value)| *n == name && value.starts_with(SECRET));
    own.take(MAX_COOKIES).map(|(_, value)| value.to_owned()).collect()
}

/// The `Set-Cookie` of a session's secret.
pub(super) fn set(page: &Page, secret: &str, lifetime: Duration) -> Option<HeaderValue> {
    line(page, secret, lifetime.as_secs())
}

/// The `Set-Cookie` that removes it.
pub(super) fn clear(page: &Page) -> Option<HeaderValue> {
    line(page, "", 0)
}

fn line(page: &Page, value: &str, seconds: u64) -> Option<HeaderValue> {
    let secure = if page.is_secure() { "; Secure" } else { "" };
    let text =
        format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", name(page));
    let mut line = HeaderValue::try_from(text).ok()?;
    line.set_sensitive(true);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(origin: &str) -> Page {
        Page::parse(origin).unwrap()
    }

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|l| (COOKIE, HeaderValue::from_static(l))).collect()
    }

    #[test]
    fn two_gateways_of_one_host_have_cookies_of_their_own() {
        let it = headers(&["foundry_session_7100=fdc_a; foundry_session_7200=fdc_b", "x=y"]);
        assert!(is_present(&it));
        assert_eq!(secrets(&it, &page("http://127.0.0.1:7100")), ["fdc_a"]);
        assert_eq!(secrets(&it, &page("http://127.0.0.1:7200")), ["fdc_b"]);
        assert!(secrets(&it, &page("http://127.0.0.1:7300")).is_empty());
        assert!(secrets(&it, &page("https://127.0.0.1:7100")).is_empty());
        assert!(!is_present(&headers(&["session=fdc_a", "foundry=1"])));
    }

    #[test]
    fn takes_nothing_but_sessions_and_not_without_end() {
        let it = headers(&["foundry_session_80=fpat_a;foundry_session_80=fds_a;foundry_session_80= fdc_x"]);
        assert!(secrets(&it, &page("http://localhost")).is_empty());
        let many = "foundry_session_80=fdc_a;".repeat(1_000);
        let it = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(many).unwrap())]);
        assert_eq!(secrets(&it, &page("http://localhost")).len(), MAX_COOKIES);
    }

    #[test]
    fn is_bound_to_its_host_where_the_origin_is_secure() {
        let set = |origin| set(&page(origin), "fdc_a", Duration::from_secs(90)).unwrap();
        let plain = "foundry_session_7100=fdc_a; Path=/; Max-Age=90; HttpOnly; SameSite=Strict";
        assert_eq!(set("http://localhost:7100"), plain);
        let secure = "__Host-foundry_session=fdc_a; Path=/; Max-Age=90; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(set("https://foundry.example"), secure);
        let gone = "foundry_session_80=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict";
        assert_eq!(clear(&page("http://localhost")).unwrap(), gone);
    }
}
