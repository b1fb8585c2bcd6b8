//! The life cycle of signing keys: published, in use, still verifying, gone.

use std::time::Duration;

use foundry_authn::{LEEWAY, TOKEN_LIFETIME};
use foundry_core::Timestamp;

/// Age at which a key gets a successor.
pub(crate) const ROTATION: Duration = Duration::from_secs(30 * 86_400);
/// Time between a key's publication and its first use: longer than any verifier caches keys.
pub(crate) const PUBLISHED_FIRST: Duration = Duration::from_secs(600);

/// The changes that a set of keys needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whether a new key must be published.
    pub(crate) publish: bool,
    /// Indexes of keys whose last token has expired.
    pub(crate) retire: Vec<usize>,
}

/// The index of the key to sign with: the youngest that was published long enough ago, else the oldest. `created` is
/// ascending and not empty.
pub(crate) fn signing(created: &[Timestamp], now: Timestamp) -> usize {
    created.iter().rposition(|c| in_use_from(*c) <= now).unwrap_or(0)
}

/// The changes that are due now. `created` is ascending.
pub(crate) fn plan(created: &[Timestamp], now: Timestamp) -> Plan {
    let publish = created.last().is_none_or(|c| now.since(*c) >= ROTATION);
    // A key signs until its successor takes over; its tokens live a little longer.
    let gone = |successor: &Timestamp| in_use_from(*successor).plus(TOKEN_LIFETIME + LEEWAY * 2) <= now;
    let retire = created.iter().skip(1).enumerate().filter(|(_, s)| gone(s)).map(|(i, _)| i).collect();
    Plan { publish, retire }
}

fn in_use_from(created: Timestamp) -> Timestamp {
    created.plus(PUBLISHED_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    const MONTH: u64 = 30 * 86_400;

    #[test]
    fn the_first_key_is_used_at_once_and_a_later_one_only_after_its_publication() {
        assert_eq!(signing(&[at(100)], at(100)), 0);
        let keys = [at(0), at(MONTH)];
        assert_eq!(signing(&keys, at(MONTH + 599)), 0);
        assert_eq!(signing(&keys, at(MONTH + 600)), 1);
    }

    #[test]
    fn publishes_a_successor_each_month_and_retires_a_key_after_its_last_token() {
        assert_eq!(plan(&[], at(0)), Plan { publish: true, retire: vec![] });
        assert_eq!(plan(&[at(0)], at(MONTH - 1)), Plan { publish: false, retire: vec![] });
        assert_eq!(plan(&[at(0)], at(MONTH)), Plan { publish: true, retire: vec![] });
        let keys = [at(0), at(MONTH)];
        assert_eq!(plan(&keys, at(MONTH + 909)).retire, [] as [usize; 0]);
        assert_eq!(plan(&keys, at(MONTH + 910)).retire, [0]);
    }

    #[test]
    fn a_long_downtime_leaves_one_key_in_use_and_one_to_come() {
        let now = at(MONTH * 10);
        assert_eq!(plan(&[at(0)], now), Plan { publish: true, retire: vec![] });
        assert_eq!(signing(&[at(0), now], now), 0);
    }
}
