//! Durations in the configuration: `250ms`, `8s`, `5m`, `2h`, `1d`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer};

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Parses a duration; `None` when the text has another form.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(*factor)?))
}

/// Formats a duration in the largest unit that represents it exactly; parts of a millisecond are dropped.
pub fn format(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (name, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| millis != 0 && millis.is_multiple_of(*factor))
        .unwrap_or(&UNITS[0]);
    format!("{}{name}", millis / factor)
}

/// For `#[serde(with = …)]`.
///
/// # Errors
/// When the serializer fails.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with = …)]`.
///
/// # Errors
/// When the text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is not a duration; use for example 250ms, 8s, 5m or 2h"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["0ms", "250ms", "8s", "5m", "2h", "1d", "90s"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn refuses_bare_numbers_and_unknown_units() {
        for bad in ["", "8", "s", "8 parsecs", "-1s", "99999999999999999999s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
