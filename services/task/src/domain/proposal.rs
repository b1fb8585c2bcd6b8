//! Texts for a commit and a pull request, from what the agent has said. The same words give the same texts.

use super::validate::prefix;

/// Longest title in characters.
const MAX_TITLE: usize = 72;
/// Longest body in bytes: with the title it fits into the message of a commit.
const MAX_BODY: usize = 3 << 10;

/// Title and body. The title is the heading with which the agent's last message begins, or else the agent's title for the
/// conversation, or that of the task; the body is the rest of the message.
pub fn texts(said: &str, agent_title: &str, task_title: &str) -> (String, String) {
    let said = plain(said);
    let (heading, body) = match said.trim_start().split_once('\n') {
        Some((first, rest)) => match heading(first) {
            Some(heading) => (heading, rest),
            None => (String::new(), said.as_str()),
        },
        None => (String::new(), said.as_str()),
    };
    let given = [heading.as_str(), agent_title, task_title].map(|title| one_line(&plain(title)));
    let title = given.into_iter().find(|title| !title.is_empty()).unwrap_or_default();
    (cut_title(&title), cut_body(body.trim()))
}

/// The words of a line that is a heading in Markdown, or is wholly bold.
fn heading(line: &str) -> Option<String> {
    let line = line.trim();
    let marks = line.chars().take_while(|c| *c == '#').count();
    let words = match marks {
        1..=6 => line[marks..].strip_prefix(' ')?,
        _ => line.strip_prefix("**")?.strip_suffix("**").filter(|words| !words.contains("**"))?,
    };
    let words = words.trim().trim_end_matches(['#', ':', '.', ' ']).trim_matches('*');
    (!words.is_empty()).then(|| words.to_owned())
}

/// Without what no commit may have.
fn plain(text: &str) -> String {
    let kept = |c: &char| !c.is_control() || *c == '\n' || *c == '\t';
    text.chars().filter(kept).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut_title(title: &str) -> String {
    if title.chars().count() <= MAX_TITLE {
        return title.to_owned();
    }
    let cut: String = title.chars().take(MAX_TITLE - 1).collect();
    let end = cut.rfind(' ').filter(|at| *at > cut.len() / 2).unwrap_or(cut.len());
    format!("{}…", cut[..end].trim_end())
}

/// Cut at the end of a paragraph, or else of a line.
fn cut_body(body: &str) -> String {
    let cut = prefix(body, MAX_BODY);
    if cut.len() == body.len() {
        return body.to_owned();
    }
    let end = cut.rfind("\n\n").or_else(|| cut.rfind('\n')).filter(|at| *at > 0);
    cut[..end.unwrap_or(cut.len())].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &str) -> (String, String) {
        texts(said, "", "The task")
    }

    #[test]
    fn a_heading_is_the_title_and_the_rest_the_body() {
        let both = |title: &str, body: &str| (title.to_owned(), body.to_owned());
        assert_eq!(of("## Add a parser\n\nIn Rust.\n"), both("Add a parser", "In Rust."));
        assert_eq!(of("**Fix the build:**\nIt failed."), both("Fix the build", "It failed."));
        assert_eq!(of("I have added it.\n\nIt works."), both("The task", "I have added it.\n\nIt works."));
        assert_eq!(of("#hashtag\nx"), both("The task", "#hashtag\nx"));
        assert_eq!(of(""), both("The task", ""));
        assert_eq!(texts("Done.", "Parser in Rust", "x"), both("Parser in Rust", "Done."));
    }

    #[test]
    fn texts_are_bounded_and_without_control_characters() {
        let (title, body) = of(&format!("# {}\n\n{}", "wörter ".repeat(40), "é".repeat(5_000)));
        assert!(title.chars().count() <= MAX_TITLE && title.ends_with('…'), "{title}");
        assert!(body.len() <= MAX_BODY, "{}", body.len());
        let (_, body) = of(&format!("first\n\nsecond\n\n{}", "x".repeat(5_000)));
        assert_eq!(body, "first\n\nsecond");
        assert_eq!(of("# A\u{1b}[31m b\u{7}\n\nc\u{0}d\r\n").0, "A[31m b");
        assert_eq!(of("# A\n\nc\u{0}d\r\n").1, "cd");
    }
}
