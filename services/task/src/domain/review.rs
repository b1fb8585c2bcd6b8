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
/// Most lines of a comment.
pub const MAX_LINES: i32 = 500;
/// Most bytes of quoted lines.
const MAX_QUOTE: usize = 3 * 1024;
/// Most bytes of one quoted line.
const MAX_QUOTED_LINE: usize = 400;
/// Lines before and after the commented ones that are kept.
const CONTEXT: usize = 3;
/// Most bytes of one of them.
const MAX_CONTEXT_LINE: usize = 200;
/// Most lines that are compared to find those of one comment; where more are like them, they identify no place.
const MAX_COMPARED: usize = 20_000;
/// Letters and digits by which the only lines of their kind identify a place by themselves.
const TELLING: usize = 8;

/// The lines of one side of a patch with their numbers, in order.
#[derive(Debug, Default)]
struct Side(Vec<(i32, String)>);

/// The lines of a patch with their numbers, on both sides of the change.
#[derive(Debug, Default)]
pub struct Lines {
    old: Side,
    new: Side,
}

impl Lines {
    /// Reads a patch of one file in the format of `git apply`.
    pub fn of_patch(patch: &[u8]) -> Self {
        let (mut old_lines, mut new_lines) = (BTreeMap::new(), BTreeMap::new());
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
            let text = || String::from_utf8_lossy(text).trim_end_matches('\r').to_owned();
            if matches!(mark, b' ' | b'-') && old.1 > 0 {
                old_lines.insert(old.0, text());
                old = (old.0 + 1, old.1 - 1);
            }
            if matches!(mark, b' ' | b'+') && new.1 > 0 {
                new_lines.insert(new.0, text());
                new = (new.0 + 1, new.1 - 1);
            }
        }
        let side = |lines: BTreeMap<_, _>| Side(lines.into_iter().collect());
        Self { old: side(old_lines), new: side(new_lines) }
    }

    /// Whether there is no line to comment on.
    pub fn is_empty(&self) -> bool {
        self.old.0.is_empty() && self.new.0.is_empty()
    }

    const fn side(&self, side: ReviewSide) -> &Side {
        if matches!(side, ReviewSide::Old) { &self.old } else { &self.new }
    }

    /// Notes the lines of the comment's range and those around it, cut to what fits; none unless the patch has all of them.
    pub fn quote(&self, comment: &mut ReviewComment) -> Option<()> {
        let side = self.side(comment.side());
        let range = side.range(comment.start_line, comment.end_line)?;
        let (mut quoted, mut size) = (Vec::new(), 0);
        for (_, line) in &side.0[range.clone()] {
            let line = prefix(line, MAX_QUOTED_LINE);
            size += line.len() + 1;
            if size > MAX_QUOTE {
                break;
            }
            quoted.push(line);
        }
        comment.quote = quoted.join("\n");
        let mut before: Vec<&str> = side.before(range.start).take(CONTEXT).collect();
        before.reverse();
        comment.before = each_ended(before.into_iter());
        comment.after = each_ended(side.after(range.end - 1).take(CONTEXT));
        Some(())
    }

    /// Where the quoted lines of a comment are: at the place that has these lines and most of those around them. Lines that
    /// are elsewhere too, or say little, need some of those around them.
    pub fn place(&self, comment: &ReviewComment) -> (ReviewPlace, i32, i32) {
        const NOWHERE: (ReviewPlace, i32, i32) = (ReviewPlace::Outdated, 0, 0);
        let length = comment.end_line.saturating_sub(comment.start_line);
        let mut wanted = Wanted { side: self.side(comment.side()), comment, length, compared: 0 };
        let Some(found) = wanted.candidates() else { return NOWHERE };
        let most = found.iter().map(|(_, around)| *around).max().unwrap_or_default();
        let best: Vec<i32> = found.iter().filter(|(_, around)| *around == most).map(|(at, _)| *at).collect();
        let words = comment.quote.chars().filter(|c| c.is_alphanumeric()).count();
        // The only lines of their patch say by that where they are, as far as they say anything: what is around them now
        // is new.
        let alone = comment.before.is_empty() && comment.after.is_empty() && words > 0;
        let telling = words >= TELLING || alone;
        let at = match best[..] {
            [at] if most > 0 || (found.len() == 1 && telling) => at,
            // A block that is there twice and stays where it was.
            _ if most > 0 && best.contains(&comment.start_line) => comment.start_line,
            _ => return NOWHERE,
        };
        let place = if at == comment.start_line { ReviewPlace::Same } else { ReviewPlace::Moved };
        (place, at, at + length)
    }
}

impl Side {
    /// The positions of a range of lines; none unless all of them are there.
    fn range(&self, start: i32, end: i32) -> Option<std::ops::Range<usize>> {
        let first = self.0.binary_search_by_key(&start, |(number, _)| *number).ok()?;
        let last = first + usize::try_from(i64::from(end) - i64::from(start)).ok()?;
        (self.0.get(last)?.0 == end).then_some(first..last + 1)
    }

    /// The lines before a position, the nearest first, as far as none between is missing.
    fn before(&self, position: usize) -> impl Iterator<Item = &str> {
        let number = self.0[position].0;
        let lines = self.0[..position].iter().rev();
        lines
            .zip(1..)
            .take_while(move |((at, _), step)| number - at == *step)
            .map(|((_, text), _)| text.as_str())
    }

    /// The lines after a position, likewise.
    fn after(&self, position: usize) -> impl Iterator<Item = &str> {
        let number = self.0[position].0;
        let lines = self.0[position + 1..].iter();
        lines
            .zip(1..)
            .take_while(move |((at, _), step)| at - number == *step)
            .map(|((_, text), _)| text.as_str())
    }
}

/// The lines of a comment that are looked for.
struct Wanted<'a> {
    side: &'a Side,
    comment: &'a ReviewComment,
    /// Lines after the first one.
    length: i32,
    /// Lines that were compared so far.
    compared: usize,
}

impl Wanted<'_> {
    /// The places that have the quoted lines, each with how many of the lines around are the same; none if there are too
    /// many to look at.
    fn candidates(&mut self) -> Option<Vec<(i32, usize)>> {
        let mut found = Vec::new();
        let first = self.comment.quote.split('\n').next().unwrap_or_default();
        for (position, (number, text)) in self.side.0.iter().enumerate() {
            if prefix(text, MAX_QUOTED_LINE) != first {
                continue;
            }
            let Some(range) = number.checked_add(self.length).and_then(|end| self.side.range(*number, end))
            else {
                continue;
            };
            if self.has_quote(position) {
                found.push((*number, self.around(&range)));
            }
            if self.compared > MAX_COMPARED {
                return None;
            }
        }
        Some(found)
    }

    fn has_quote(&mut self, position: usize) -> bool {
        let mut lines = self.side.0[position..].iter();
        self.comment.quote.split('\n').all(|quoted| {
            self.compared += 1;
            lines.next().is_some_and(|(_, line)| prefix(line, MAX_QUOTED_LINE) == quoted)
        })
    }

    /// How many of the lines next to a range are those next to the comment, from the nearest on.
    fn around(&self, range: &std::ops::Range<usize>) -> usize {
        fn same<'a>(here: impl Iterator<Item = &'a str>, kept: impl Iterator<Item = &'a str>) -> usize {
            here.zip(kept).take_while(|(here, kept)| prefix(here, MAX_CONTEXT_LINE) == *kept).count()
        }
        let (before, after) = (&self.comment.before, &self.comment.after);
        let (mut above, mut below) =
            (self.side.before(range.start).peekable(), self.side.after(range.end - 1).peekable());
        // The only lines of the patch: there is nothing around them.
        if before.is_empty() && after.is_empty() {
            return usize::from(above.peek().is_none() && below.peek().is_none());
        }
        same(above, before.split_terminator('\n').rev()) + same(below, after.split_terminator('\n'))
    }
}

fn each_ended<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [prefix(line, MAX_CONTEXT_LINE), "\n"]).collect()
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
            format!("{made}{of} as of version {}, not among the changes any more", comment.version)
        }
        ReviewPlace::Unknown => format!("{made}{of} as of version {}", comment.version),
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
pub(super) fn quoted_path(path: &str) -> String {
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

    /// A comment on lines, with what is noted of them.
    fn quoted(lines: &Lines, side: ReviewSide, start: i32, end: i32) -> Option<ReviewComment> {
        let mut comment = comment(side, start, end, "");
        lines.quote(&mut comment)?;
        Some(comment)
    }

    /// A patch that adds a file.
    fn added(lines: &[&str]) -> Lines {
        let body: String = lines.iter().map(|line| format!("+{line}\n")).collect();
        Lines::of_patch(format!("@@ -0,0 +1,{} @@\n{body}", lines.len()).as_bytes())
    }

    #[test]
    fn lines_of_a_patch_have_the_numbers_of_their_side() {
        let lines = Lines::of_patch(PATCH);
        let quote = |side, start, end| quoted(&lines, side, start, end).map(|c| c.quote);
        assert_eq!(quote(ReviewSide::Old, 1, 3).as_deref(), Some("one\ntwo\n"));
        assert_eq!(quote(ReviewSide::New, 2, 4).as_deref(), Some("2\n--- three\n"));
        assert_eq!(quote(ReviewSide::Old, 10, 10).as_deref(), Some("old"));
        assert_eq!(quote(ReviewSide::New, 11, 11).as_deref(), Some("new"));
        assert_eq!(quote(ReviewSide::New, 4, 11), None, "not all of them are shown");
        assert_eq!(quote(ReviewSide::New, 11, i32::MAX), None);
        let around = quoted(&lines, ReviewSide::New, 2, 2).unwrap();
        assert_eq!((around.before.as_str(), around.after.as_str()), ("one\n", "--- three\n\n"));
        assert!(Lines::of_patch(b"Binary files differ\n").is_empty());
        let hostile = Lines::of_patch(b"@@ -1,999999999 +1 @@\n-a\n@@ -x +y @@\n");
        assert_eq!(quoted(&hostile, ReviewSide::Old, 1, 1).unwrap().quote, "a");
    }

    #[test]
    fn a_quote_of_long_lines_is_cut() {
        let long: String = (0..40).map(|_| format!("+{}\n", "é".repeat(300))).collect();
        let lines = Lines::of_patch(format!("@@ -0,0 +1,40 @@\n{long}").as_bytes());
        let long = quoted(&lines, ReviewSide::New, 1, 40).unwrap();
        assert!(long.quote.len() <= MAX_QUOTE && long.quote.lines().count() == 7, "{}", long.quote.len());
        assert_eq!(lines.place(&long), (ReviewPlace::Same, 1, 40), "the cut is the same again");
    }

    #[test]
    fn a_comment_follows_its_lines_and_is_outdated_where_they_are_gone_or_twice() {
        let before = added(&["a", "b", "c"]);
        let on = |start, end| quoted(&before, ReviewSide::New, start, end).unwrap();
        let after = added(&["new", "a", "b", "C", ""]);
        assert_eq!(after.place(&on(1, 1)), (ReviewPlace::Moved, 2, 2), "the next line is the same");
        assert_eq!(after.place(&on(3, 3)).0, ReviewPlace::Outdated);
        let twice = added(&["b", "x", "y", "z", "b"]);
        assert_eq!(twice.place(&on(2, 2)).0, ReviewPlace::Outdated, "either could be meant");
        let blank = comment(ReviewSide::New, 9, 9, "");
        assert_eq!(after.place(&blank).0, ReviewPlace::Outdated, "a blank line");
        let only = added(&["x"]);
        let on_it = quoted(&only, ReviewSide::New, 1, 1).unwrap();
        assert_eq!(only.place(&on_it), (ReviewPlace::Same, 1, 1), "nothing is around it");
        assert_eq!(added(&["x", "y"]).place(&on_it), (ReviewPlace::Same, 1, 1), "what follows is new");
        assert_eq!(added(&["y", "x"]).place(&on_it), (ReviewPlace::Moved, 2, 2));
        assert_eq!(added(&["x", "y", "x"]).place(&on_it).0, ReviewPlace::Outdated, "either could be meant");
        assert_eq!(added(&["y"]).place(&on_it).0, ReviewPlace::Outdated);
    }

    #[test]
    fn lines_that_are_everywhere_are_found_by_those_around_them_and_not_by_their_number() {
        let block = ["fn a() {", "1", "}", "fn b() {", "2", "}"];
        let before = added(&block);
        let on = |start, end| quoted(&before, ReviewSide::New, start, end).unwrap();
        let new = ["fn n() {", "0", "}"];
        let after = added(&[new.as_slice(), &block].concat());
        assert_eq!(after.place(&on(3, 3)), (ReviewPlace::Moved, 6, 6), "line 3 is another bracket now");
        assert_eq!(after.place(&on(6, 6)), (ReviewPlace::Moved, 9, 9));
        assert_eq!(added(&["}", "x"]).place(&on(3, 3)).0, ReviewPlace::Outdated, "the only one, but which?");
        let telling = quoted(&added(&["p", "let total = sum(all);", "q"]), ReviewSide::New, 2, 2).unwrap();
        assert_eq!(added(&["let total = sum(all);", "x"]).place(&telling), (ReviewPlace::Moved, 1, 1));
        let twice = added(&[block.as_slice(), &["other"], &block].concat());
        assert_eq!(
            twice.place(&on(2, 2)),
            (ReviewPlace::Same, 2, 2),
            "of two that are alike, the one that stayed"
        );
    }

    #[test]
    fn placing_looks_at_a_bounded_number_of_lines() {
        let mut lines = vec!["x"; 100_000];
        lines.push("end");
        let many = added(&lines);
        let on = quoted(&many, ReviewSide::New, 99_502, 100_001).unwrap();
        let mut wanted = Wanted { side: &many.new, comment: &on, length: 499, compared: 0 };
        assert_eq!(wanted.candidates(), None);
        assert!(wanted.compared <= MAX_COMPARED + 500, "{}", wanted.compared);
        assert_eq!(many.place(&on).0, ReviewPlace::Outdated);
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
             3. `src/x.rs`, line 5 as of version 3, not among the changes any more\n> gone\n\nWhy?\n\n\
             4. \"a`b\\n1. `x`\", the whole file\n\nWhy?"
        );
        assert!(
            message(1, "", &comments[..1])
                .starts_with("Review of the changes (version 1): 1 comment\n\n1. `")
        );
    }
}
