//! Limits of a sandbox as the ledger records them: how they are enforced, and which have been reached.

use foundry_core::Timestamp;
use serde::{Deserialize, Serialize};

/// A limit that is reported when reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Processes and their threads.
    Processes,
    /// Memory in bytes.
    Memory,
    /// Disk in bytes.
    DiskBytes,
    /// Files and directories.
    DiskFiles,
}

impl LimitKind {
    /// The reason for the sandbox's condition.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Processes => "SANDBOX_PROCESS_LIMIT",
            Self::Memory => "SANDBOX_MEMORY_LIMIT",
            Self::DiskBytes | Self::DiskFiles => "SANDBOX_DISK_LIMIT",
        }
    }

    /// An amount with its unit, e.g. `512.0 MiB of memory`.
    pub fn amount(self, amount: u64) -> String {
        match self {
            Self::Processes => format!("{} processes", grouped(amount)),
            Self::Memory => format!("{} of memory", bytes(amount)),
            Self::DiskBytes => format!("{} on disk", bytes(amount)),
            Self::DiskFiles => format!("{} files", grouped(amount)),
        }
    }
}

/// A limit that a sandbox has reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedLimit {
    /// The limit that was reached.
    pub kind: LimitKind,
    /// The amount used when that was first seen.
    pub used: u64,
    /// The maximum amount.
    pub limit: u64,
    /// When it was first seen.
    pub since: Timestamp,
    /// Whether processes of the sandbox were killed because of it.
    pub ended: bool,
}

/// A provider's report on the limits of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitReport {
    /// The limits and how they are enforced, as a text for users; empty = unknown.
    pub limits: String,
    /// The limits reached now or shortly before, by kind; at most one of each.
    pub reached: Vec<ReachedLimit>,
}

/// A number of bytes for users, with one decimal place.
pub fn bytes(amount: u64) -> String {
    let (unit, name) = match amount {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    let tenths = u128::from(amount) * 10 / unit;
    format!("{}.{} {name}", grouped(u64::try_from(tenths / 10).unwrap_or(u64::MAX)), tenths % 10)
}

/// A number with separated thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_amounts_as_people_do() {
        assert_eq!(LimitKind::Memory.amount(512 << 20), "512.0 MiB of memory");
        assert_eq!(LimitKind::DiskBytes.amount((1 << 30) + (1 << 29)), "1.5 GiB on disk");
        assert_eq!(LimitKind::DiskFiles.amount(20_000), "20,000 files");
        assert_eq!(LimitKind::Processes.amount(200), "200 processes");
        assert_eq!((bytes(0), bytes(u64::MAX)), ("0.0 KiB".to_owned(), "17,179,869,183.9 GiB".to_owned()));
        assert_eq!(
            (grouped(999), grouped(1_000), grouped(1_234_567)),
            ("999".into(), "1,000".into(), "1,234,567".into())
        );
    }
}
