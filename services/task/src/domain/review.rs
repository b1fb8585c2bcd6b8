//! Comments on lines of a patch: where the lines are, and the message that an agent gets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use foundry_core::counted;
use foundry_proto::task::v1::{PlacedReviewComment, ReviewComment, ReviewPlace, ReviewSide};

use super::validate::prefix;

/// Comments that a user may keep in a task.
pub const MAX_COMMENTS: i64 = 200;
/// Files of a task that a user may mark as viewed.
pub const MAX_VIEWED: i64 = 10_000;
/// Longest comment in bytes.
pub const MAX_COMMENT: usize = 8 * 1024;
/// Longest path of a file in a review, in bytes.
pub const MAX_PATH: usize = 1024;
/// Most bytes of quoted lines.
const MAX_QUOTE: usize = 3 * 1024;
/// Most bytes of one quoted line.
const MAX_QUOTED_LINE: usize = 400;

/// The lines of a patch with their numbers, on both sides of the change.
#[derive(Debug, Default)]
pub struct Lines {
    old: BTreeMap<i32, String>,
    new: BTreeMap<i32, String>,
}

impl Lines {
    /// Reads a patch of one file in the format of `git apply`.
    pub fn of_patch(patch: &[u8]) -> Self {
        let mut lines = Self::default();
        // The next line on each side, and how many of the hunk are still to come.
        let (mut old, mut new) = ((0, 0), (0, 0));
        for line in patch.split(|b| *b == b'\n') {
            if old.1 == 0 && new.1 == 0 {
                if let Some(ranges) = line.strip_prefix(b"@@ ".as_slice()).and_then(ranges) {
                    (old, new) = ranges;
                }
                continue;
            }
            let Some((mark, text)) = line.split_first() else { continue };
            let text = || String::from_utf8_lossy(text).into_owned();
            if matches!(mark, b' ' | b'-') && old.1 > 0 {
                lines.old.insert(old.0, text());
                old = (old.0 + 1, old.1 - 1);
            }
            if matches!(mark, b' ' | b'+') && new.1 > 0 {
                lines.new.insert(new.0, text());
                new = (new.0 + 1, new.1 - 1);
            }
        }
        lines
    }

    /// Whether there is no line to comment on.
    pub fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    fn side(&self, side: ReviewSide) -> &BTreeMap<i32, String> {
        if side == ReviewSide::Old { &self.old } else { &self.new }
    }

    /// The lines of a range as they are quoted, cut to what fits; none unless all of them are in the patch.
    pub fn quote(&self, side: ReviewSide, start: i32, end: i32) -> Option<String> {
        let lines: Vec<&str> = self.side(side).range(start..=end).map(|(_, text)| text.as_str()).collect();
        if i64::try_from(lines.len()).ok()? != i64::from(end) - i64::from(start) + 1 {
            return None;
        }
        let (mut quoted, mut size) = (Vec::new(), 0);
        for line in lines {
            let line = prefix(line, MAX_QUOTED_LINE).trim_end_matches('\r');
            size += line.len() + 1;
            if size > MAX_QUOTE {
                break;
            }
            quoted.push(line);
        }
        Some(quoted.join("\n"))
    }

    /// Where the quoted lines of a comment are: where they were, or at the one other place that has them.
    pub fn place(&self, comment: &ReviewComment) -> (ReviewPlace, i32, i32) {
        let (side, start, end) = (comment.side(), comment.start_line, comment.end_line);
        let here = |start: i32, end| self.quote(side, start, end).is_some_and(|quote| quote == comment.quote);
        if here(start, end) {
            return (ReviewPlace::Same, start, end);
        }
        let length = end - start;
        let mut others = self.side(side).keys().copied().filter(|at| here(*at, at.saturating_add(length)));
        match (others.next(), others.next()) {
            // Blank lines alone do not identify a place.
            (Some(at), None) if !comment.quote.trim().is_empty() => (ReviewPlace::Moved, at, at + length),
            _ => (ReviewPlace::Outdated, 0, 0),
        }
    }
}

/// `-a,b +c,d @@ …`: first line and number of lines of each side.
fn ranges(head: &[u8]) -> Option<((i32, i32), (i32, i32))> {
    let head = String::from_utf8_lossy(head);
    let mut parts = head.split(' ');
    let mut range = |mark| {
        let (start, count) =
            parts.next()?.strip_prefix(mark).map(|r| r.split_once(',').unwrap_or((r, "1")))?;
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    Some((range('-')?, range('+')?))
}

/// The comments and a text as one message for an agent.
pub fn message(version: i64, text: &str, comments: &[PlacedReviewComment]) -> String {
    let count = i64::try_from(comments.len()).unwrap_or(i64::MAX);
    let mut message = format!("Review of the changes (version {version}): {}", counted(count, "comment"));
    if !text.trim().is_empty() {
        let _ = write!(message, "\n\n{}", text.trim());
    }
    for (at, placed) in comments.iter().enumerate() {
        let Some(comment) = &placed.comment else { continue };
        let _ = write!(
            message,
            "\n\n{}. {}, {}",
            at + 1,
            quoted_path(&comment.path),
            place_words(placed, comment)
        );
        for line in comment.quote.split('\n').filter(|_| comment.side() != ReviewSide::File) {
            let _ = write!(message, "\n> {line}");
        }
        let _ = write!(message, "\n\n{}", comment.text.trim());
    }
    message
}

/// Where a comment is, as in `line 3` or `lines 3-5 before the change`.
pub fn place_words(placed: &PlacedReviewComment, comment: &ReviewComment) -> String {
    if comment.side() == ReviewSide::File {
        return "the whole file".to_owned();
    }
    let made = range_words(comment.start_line, comment.end_line);
    let of = match (comment.side(), comment.since_version) {
        (ReviewSide::Old, 0) => " before the change".to_owned(),
        (ReviewSide::Old, since) => format!(" of version {since}"),
        _ => String::new(),
    };
    match placed.place() {
        ReviewPlace::Outdated => {
            format!("{made}{of} as of version {}, changed since", comment.version)
        }
        ReviewPlace::Moved => {
            let now = range_words(placed.start_line, placed.end_line);
            format!("{now}{of} ({made} when the comment was made)")
        }
        ReviewPlace::Same | ReviewPlace::Unspecified => format!("{made}{of}"),
    }
}

fn range_words(start: i32, end: i32) -> String {
    if start == end { format!("line {start}") } else { format!("lines {start}-{end}") }
}

/// A path that stays on its line.
fn quoted_path(path: &str) -> String {
    if path.chars().any(|c| c.is_control() || c == '`') { format!("{path:?}") } else { format!("`{path}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &[u8] = b"diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,3 +1,4 @@ fn f\n one\n-two\n+2\n+--- three\n \n\
        @@ -10 +11 @@\n-old\n\\ No newline at end of file\n+new\n\\ No newline at end of file\n";

    fn comment(side: ReviewSide, start_line: i32, end_line: i32, quote: &str) -> ReviewComment {
        let (path, text) = ("src/x.rs".to_owned(), "Why?".to_owned());
        let quote = quote.to_owned();
        ReviewComment {
            side: side.into(),
            path,
            text,
            start_line,
            end_line,
            quote,
            version: 3,
            ..Default::default()
        }
    }

    #[test]
    fn lines_of_a_patch_have_the_numbers_of_their_side() {
        let lines = Lines::of_patch(PATCH);
        let quote = |side, start, end| lines.quote(side, start, end);
        assert_eq!(quote(ReviewSide::Old, 1, 3).as_deref(), Some("one\ntwo\n"));
        assert_eq!(quote(ReviewSide::New, 2, 4).as_deref(), Some("2\n--- three\n"));
        assert_eq!(quote(ReviewSide::Old, 10, 10).as_deref(), Some("old"));
        assert_eq!(quote(ReviewSide::New, 11, 11).as_deref(), Some("new"));
        assert_eq!(quote(ReviewSide::New, 4, 11), None, "not all of them are shown");
        assert_eq!(quote(ReviewSide::New, 11, i32::MAX), None);
        assert!(Lines::of_patch(b"Binary files differ\n").is_empty());
        let hostile = Lines::of_patch(b"@@ -1,999999999 +1 @@\n-a\n@@ -x +y @@\n");
        assert_eq!(hostile.quote(ReviewSide::Old, 1, 1).as_deref(), Some("a"));
    }

    #[test]
    fn a_quote_of_long_lines_is_cut() {
        let long: String = (0..40).map(|_| format!("+{}\n", "é".repeat(300))).collect();
        let lines = Lines::of_patch(format!("@@ -0,0 +1,40 @@\n{long}").as_bytes());
        let quote = lines.quote(ReviewSide::New, 1, 40).unwrap();
        assert!(quote.len() <= MAX_QUOTE && quote.lines().count() == 7, "{}", quote.len());
        let placed = lines.place(&comment(ReviewSide::New, 1, 40, &quote));
        assert_eq!(placed, (ReviewPlace::Same, 1, 40), "the cut is the same again");
    }

    #[test]
    fn a_comment_follows_its_lines_and_is_outdated_where_they_are_gone_or_twice() {
        let before = Lines::of_patch(b"@@ -0,0 +1,3 @@\n+a\n+b\n+c\n");
        let on = |start, end| {
            comment(ReviewSide::New, start, end, &before.quote(ReviewSide::New, start, end).unwrap())
        };
        let after = Lines::of_patch(b"@@ -0,0 +1,5 @@\n+new\n+a\n+b\n+C\n+\n");
        assert_eq!(after.place(&on(1, 2)), (ReviewPlace::Moved, 2, 3));
        assert_eq!(after.place(&on(3, 3)).0, ReviewPlace::Outdated);
        let twice = Lines::of_patch(b"@@ -0,0 +1,4 @@\n+x\n+b\n+y\n+b\n");
        assert_eq!(twice.place(&on(2, 2)), (ReviewPlace::Same, 2, 2), "still where it was");
        let twice = Lines::of_patch(b"@@ -0,0 +1,5 @@\n+b\n+x\n+y\n+z\n+b\n");
        assert_eq!(twice.place(&on(2, 2)).0, ReviewPlace::Outdated, "either could be meant");
        assert_eq!(after.place(&comment(ReviewSide::New, 9, 9, "")).0, ReviewPlace::Outdated, "a blank line");
    }

    #[test]
    fn a_message_names_each_place_and_quotes_its_lines() {
        let placed = |comment: ReviewComment, place: ReviewPlace, start_line, end_line| PlacedReviewComment {
            comment: Some(comment),
            place: place.into(),
            start_line,
            end_line,
        };
        let file = ReviewComment { path: "a`b\n1. `x`".into(), ..comment(ReviewSide::File, 0, 0, "") };
        let comments = [
            placed(comment(ReviewSide::New, 3, 3, "let x = 1;"), ReviewPlace::Same, 3, 3),
            placed(comment(ReviewSide::Old, 3, 4, "a\n"), ReviewPlace::Moved, 7, 8),
            placed(comment(ReviewSide::New, 5, 5, "gone"), ReviewPlace::Outdated, 0, 0),
            placed(file, ReviewPlace::Same, 0, 0),
        ];
        let text = message(5, " Please. \n", &comments);
        assert_eq!(
            text,
            "Review of the changes (version 5): 4 comments\n\nPlease.\n\n\
             1. `src/x.rs`, line 3\n> let x = 1;\n\nWhy?\n\n\
             2. `src/x.rs`, lines 7-8 before the change (lines 3-4 when the comment was made)\n> a\n> \n\nWhy?\n\n\
             3. `src/x.rs`, line 5 as of version 3, changed since\n> gone\n\nWhy?\n\n\
             4. \"a`b\\n1. `x`\", the whole file\n\nWhy?"
        );
        assert!(
            message(1, "", &comments[..1])
                .starts_with("Review of the changes (version 1): 1 comment\n\n1. `")
        );
    }
}
