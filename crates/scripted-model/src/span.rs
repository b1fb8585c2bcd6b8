//! Durations in scripts: `250ms`, `2s`, `3m`, `1h`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Parses a duration; none if the text is not one.
pub(crate) fn read(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.checked_mul(millis)?))
}

/// The shortest text that [`read`] parses to the same duration (fractions of a millisecond are cut).
pub(crate) fn write(span: Duration) -> String {
    let millis = span.as_millis();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

pub(crate) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&write(*span))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    read(&text)
        .ok_or_else(|| D::Error::custom(format!("`{text}` is no length of time such as 250ms, 2s or 1h")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_what_it_reads() {
        for text in ["250ms", "2s", "90s", "3m", "1h"] {
            assert_eq!(write(read(text).unwrap()), text);
        }
        for text in ["", "2", "s", "2 s", "-1s", "99999999999999999999s"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
