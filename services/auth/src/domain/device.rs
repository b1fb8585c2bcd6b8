//! What a browser is called in the list of sessions, in plain words. A user agent is a claim, and much too long.

use foundry_core::Result;

use super::name::parse_label;

/// Most characters of a label.
const MAX: usize = 64;

/// Browsers by a word of their user agents; the first that occurs counts, as later ones are in those of others too.
const BROWSERS: [(&str, &str); 9] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

const SYSTEMS: [(&str, &str); 8] = [
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "macOS"),
    ("FreeBSD", "FreeBSD"),
    ("Linux", "Linux"),
];

/// The browser and its system, or the name of another program; empty if nothing of it can be shown.
pub(crate) fn of_user_agent(agent: &str) -> String {
    let find = |all: &[(&str, &'static str)]| {
        all.iter().find(|(word, _)| agent.contains(word)).map(|(_, name)| *name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) => {
            let product = agent.split(['/', ' ']).next().unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let fits = product.len() <= MAX && product.chars().all(plain) && product != "Mozilla";
            if fits { product.to_owned() } else { String::new() }
        }
    }
}

/// A program and its machine, by the names that it gives.
///
/// # Errors
/// `INVALID_ARGUMENT` for a name that is empty, too long or cannot be shown on one line.
pub(crate) fn of_program(program: &str, device: &str) -> Result<(String, String)> {
    Ok((parse_label("program", program, MAX)?, parse_label("device", device, MAX)?))
}

/// The name that a program gives itself; empty stays empty.
///
/// # Errors
/// As [`of_program`].
pub(crate) fn named(device: &str) -> Result<String> {
    if device.is_empty() { Ok(String::new()) } else { parse_label("device", device, MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_and_systems_have_plain_names() {
        for (agent, name) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0 Safari/537.36",
                "Chrome on Linux",
            ),
            ("grpcurl/1.9.3 grpc-go/1.61.0", "grpcurl"),
            ("tonic/0.14.2", "tonic"),
            ("", ""),
            ("Mozilla/5.0 (unknown)", ""),
        ] {
            assert_eq!(of_user_agent(agent), name, "{agent}");
        }
    }

    #[test]
    fn nothing_hostile_of_a_user_agent_is_kept() {
        for agent in ["<script>alert(1)</script>", "\u{202e}x/1", "a;b", &"x".repeat(65)] {
            assert_eq!(of_user_agent(agent), "", "{agent}");
        }
        assert_eq!(of_user_agent("Firefox/1 <img> \u{202e}"), "Firefox");
    }

    #[test]
    fn a_program_has_names_that_can_be_shown() {
        let of = |program, device| of_program(program, device).map_err(|e| e.violations()[0].field.clone());
        assert_eq!(of(" foundry 0.1.0 ", "laptop"), Ok(("foundry 0.1.0".into(), "laptop".into())));
        assert_eq!(of("", "laptop"), Err("program".into()));
        assert_eq!(of("foundry", "a\nb"), Err("device".into()));
        assert_eq!(of("foundry", "\u{202e}potpal"), Err("device".into()));
        assert_eq!(named("").unwrap(), "");
    }
}
