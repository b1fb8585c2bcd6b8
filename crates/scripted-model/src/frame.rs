//! The pieces of a stream, before they are sent.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::turn::{Answer, Piece};

/// The next action of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// Send at once.
    Event(Bytes),
    /// Send after the pace's interval.
    Token(Bytes),
    /// The interval from here on.
    Pace(Duration),
    Wait(Duration),
    Hold(String),
    /// Send the same bytes again and again, as fast as they are read.
    Repeat {
        bytes: Bytes,
        times: u64,
    },
    /// Break the connection.
    Cut,
    /// Send nothing more.
    Stall,
}

/// How many bytes of text one event of a flood has.
const FLOOD_TEXT: usize = 16 * 1024;
/// How many events of a flood go out in one piece.
const FLOOD_EVENTS: u64 = 4;

/// One server-sent event, named where the provider names its events.
pub(crate) fn event(name: Option<&str>, data: &Value) -> Bytes {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n").into(),
        None => format!("data: {data}\n\n").into(),
    }
}

/// The words of an answer as events that `token` makes of each word.
pub(crate) fn speak(answer: &Answer, mut token: impl FnMut(&str) -> Bytes) -> Vec<Frame> {
    let mut frames = Vec::new();
    for piece in &answer.pieces {
        match piece {
            Piece::Words(words) => frames.extend(split(words).map(|word| Frame::Token(token(word)))),
            Piece::Pace(pace) => frames.push(Frame::Pace(*pace)),
            Piece::Wait(time) => frames.push(Frame::Wait(*time)),
            Piece::Hold(name) => frames.push(Frame::Hold(name.clone())),
            Piece::Flood(bytes) => {
                frames.push(Frame::Event(token("Here it comes.\n")));
                let events = bytes.div_ceil(FLOOD_TEXT as u64);
                let one = token(&flood_text(FLOOD_TEXT));
                let many = one.repeat(FLOOD_EVENTS as usize).into();
                frames.push(Frame::Repeat { bytes: many, times: events / FLOOD_EVENTS });
                frames.push(Frame::Repeat { bytes: one, times: events % FLOOD_EVENTS });
            }
        }
    }
    frames
}

/// `bytes` bytes of text in lines.
pub(crate) fn flood_text(bytes: usize) -> String {
    let mut text =
        "All work and no play makes a long line of sixty-four letters ok\n".repeat(bytes.div_ceil(64));
    text.truncate(bytes);
    text
}

/// Words, each with the space after it.
fn split(words: &str) -> impl Iterator<Item = &str> {
    words.split_inclusive(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_one_by_one_and_lose_nothing() {
        let answer = Answer { pieces: vec![Piece::Words(" Two  words\n".to_owned())], ..Answer::default() };
        let mut said = String::new();
        let frames = speak(&answer, |word| {
            said.push_str(word);
            Bytes::new()
        });
        assert_eq!((said.as_str(), frames.len()), (" Two  words\n", 4));
    }

    #[test]
    fn a_flood_begins_at_once_and_has_its_size() {
        let answer = Answer { pieces: vec![Piece::Flood(10 * FLOOD_TEXT as u64)], ..Answer::default() };
        let frames = speak(&answer, |text| text.to_owned().into());
        assert!(matches!(&frames[0], Frame::Event(first) if first.len() < 100));
        let size: u64 = frames[1..]
            .iter()
            .map(|frame| match frame {
                Frame::Repeat { bytes, times } => bytes.len() as u64 * times,
                _ => 0,
            })
            .sum();
        assert_eq!(size, 10 * FLOOD_TEXT as u64);
    }
}
