//! Which option answers an agent's permission request with "once".

/// The option that allows a request once, from `(option id, kind)` in the agent's order: the one of kind `allow_once`,
/// else the first whose kind begins with `allow` and does not allow always. `None` when every option allows always or
/// refuses; a permission is never given for longer than it was asked for.
pub fn permission_once<'a>(options: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    let mut second = None;
    for (id, kind) in options {
        if kind == "allow_once" {
            return Some(id);
        }
        let forever = |text: &str| text.to_ascii_lowercase().contains("always");
        if second.is_none() && kind.starts_with("allow") && !forever(kind) && !forever(id) {
            second = Some(id);
        }
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_once_though_always_stands_first() {
        let gemini =
            [("proceed_always", "allow_always"), ("proceed_once", "allow_once"), ("cancel", "reject_once")];
        assert_eq!(permission_once(gemini), Some("proceed_once"));
    }

    #[test]
    fn takes_another_allowing_kind_only_when_it_is_not_for_always() {
        let named = [("no", "reject_once"), ("all", "allow_always"), ("session", "allow_session")];
        assert_eq!(permission_once(named), Some("session"));
        assert_eq!(permission_once([("proceed_always", "allow"), ("yes", "allow")]), Some("yes"));
    }

    #[test]
    fn never_allows_always_and_never_refuses() {
        assert_eq!(permission_once([("all", "allow_always"), ("no", "reject_once")]), None);
        assert_eq!(permission_once([]), None);
    }
}
