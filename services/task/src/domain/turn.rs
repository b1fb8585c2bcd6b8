//! The newest turn of a task, and the version of the changes from which it started.

use std::cmp::Ordering;

use foundry_core::Timestamp;
use foundry_proto::repo::v1::{Work, WorkState};
use foundry_proto::task::v1::Turn;

/// A turn that is running: the id of its message, and since when, if that is known.
pub type Running<'a> = (&'a str, Option<prost_types::Timestamp>);

/// The newest turn that is known of: the one before, or one of those that are running. Work that was handed over before it
/// began and arrives later belongs to the turn before it.
pub fn newest<'a>(
    before: Option<Turn>,
    running: impl Iterator<Item = Running<'a>>,
    work: Option<&Work>,
    now: Timestamp,
) -> Option<Turn> {
    let mut turn = before;
    let begun = running.filter(|(id, _)| !id.is_empty()).max_by(|a, b| later(*a, *b));
    if let Some((id, since)) = begun
        && turn.as_ref().is_none_or(|turn| {
            turn.message_id != id && later((id, since), (&turn.message_id, turn.start_time)).is_gt()
        })
    {
        turn = Some(Turn {
            message_id: id.to_owned(),
            start_time: since.or_else(|| Some(now.to_proto())),
            version: work.map_or(0, |work| work.version),
            end_time: None,
        });
    }
    let (Some(newest), Some(work)) = (&mut turn, work) else { return turn };
    let time = |t: Option<&prost_types::Timestamp>| t.map(Timestamp::from_proto);
    let handed = time(work.hand_over_time.as_ref());
    let earlier = handed.is_some_and(|handed| Some(handed) < time(newest.start_time.as_ref()));
    if earlier && work.state() == WorkState::Ready && work.version > newest.version {
        newest.version = work.version;
    }
    turn
}

/// The turn with the time at which it ended, once its session says since when it rests; a time before its beginning is of
/// something else.
pub fn ended(turn: Turn, rests_since: Option<prost_types::Timestamp>) -> Turn {
    let time = |t: Option<prost_types::Timestamp>| t.map(|t| Timestamp::from_proto(&t));
    let known = rests_since.filter(|since| time(turn.start_time) <= Some(Timestamp::from_proto(since)));
    Turn { end_time: turn.end_time.or(known), ..turn }
}

/// The order of turns is that of their beginnings: a message may have waited in its queue for long. Where a beginning is not
/// known it is that of the ids, which are ordered by the time at which the messages were sent.
fn later(a: Running<'_>, b: Running<'_>) -> Ordering {
    let begun = match (a.1, b.1) {
        (Some(a), Some(b)) => Timestamp::from_proto(&a).cmp(&Timestamp::from_proto(&b)),
        _ => Ordering::Equal,
    };
    begun.then_with(|| a.0.cmp(b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn work(version: i64, handed: i64) -> Work {
        Work { version, hand_over_time: at(handed), state: WorkState::Ready.into(), ..Work::default() }
    }

    #[test]
    fn starts_from_the_version_before_it_also_when_that_arrives_after_its_beginning() {
        let now = Timestamp::from_micros(0);
        let none = || std::iter::empty::<Running<'static>>();
        assert_eq!(newest(None, none(), Some(&work(1, 5)), now), None);
        let begun = newest(None, [("msg_1", at(10))].into_iter(), Some(&work(1, 5)), now).unwrap();
        assert_eq!((begun.version, begun.start_time), (1, at(10)));
        let late = newest(Some(begun.clone()), none(), Some(&work(2, 9)), now).unwrap();
        assert_eq!(late.version, 2, "handed over before it began");
        let own = newest(Some(late), none(), Some(&work(3, 12)), now).unwrap();
        assert_eq!(own.version, 2, "that is what it changed");
        let same =
            newest(Some(own.clone()), [("msg_1", at(10)), ("", None)].into_iter(), Some(&work(3, 12)), now);
        assert_eq!(same, Some(own.clone()));
        let next =
            newest(Some(own), [("msg_2", at(20)), ("msg_1", at(10))].into_iter(), Some(&work(3, 12)), now)
                .unwrap();
        assert_eq!((next.message_id.as_str(), next.version), ("msg_2", 3));
        // The first one waited in the queue of its session while the third one ran.
        let queued = newest(
            Some(Turn { message_id: "msg_3".into(), start_time: at(30), version: 3, end_time: at(31) }),
            [("msg_1", at(40)), ("msg_3", at(30))].into_iter(),
            Some(&work(4, 35)),
            now,
        );
        let queued = queued.unwrap();
        assert_eq!((queued.message_id.as_str(), queued.version), ("msg_1", 4));
        assert_eq!(queued.end_time, None, "it has just begun");
        let unknown = [("msg_0", None), ("msg_1", at(40))].into_iter();
        assert_eq!(newest(Some(queued.clone()), unknown, Some(&work(4, 35)), now), Some(queued));
    }

    #[test]
    fn a_turn_ends_once_and_not_before_it_began() {
        let turn = Turn { message_id: "msg_1".into(), start_time: at(10), ..Turn::default() };
        assert_eq!(ended(turn.clone(), None).end_time, None);
        assert_eq!(ended(turn.clone(), at(9)).end_time, None);
        let over = ended(turn, at(12));
        assert_eq!(over.end_time, at(12));
        // What its session shows later is since another time.
        assert_eq!(ended(over, at(20)).end_time, at(12));
    }
}
