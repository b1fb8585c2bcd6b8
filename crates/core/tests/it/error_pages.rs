//! Every error reason in the sources, those of the workbench page too, has its page in `docs/errors/`, and every page
//! has its reason.
//!
//! Reasons are found in the source text by the few forms in which they are written; add a new form to [`reasons`] and
//! its test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::source::{Token, is_page_source, root, sources, tokens, without_tests};

/// Functions whose arguments hold a reason, besides the `new` of an error type.
const CONSTRUCTORS: [&str; 14] = [
    "precondition",
    "unavailable",
    "corrupt",
    "with_kind",
    "retry",
    "fail",
    "failed",
    "refused",
    "read",
    "restart_session",
    "end",
    "plain",
    "problem",
    "denied",
];

/// Types whose values stand right before a reason in tables and tuples.
const CLASSES: [&str; 2] = ["GitErrorKind", "Class"];

fn is_reason(text: &str) -> bool {
    let shape = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    text.len() >= 4 && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(shape)
}

/// The literals shaped like a reason from `start` on, until `done` accepts a token at the depth where the scan began.
fn texts(code: &[Token], start: usize, done: impl Fn(&Token) -> bool) -> Vec<&str> {
    let (mut found, mut depth) = (Vec::new(), 0);
    for token in &code[start.min(code.len())..] {
        depth += token.step();
        if depth < 0 || (depth == 0 && done(token)) {
            break;
        }
        if let Token::Text(text) = token {
            found.push(text.as_str());
        }
    }
    found.into_iter().filter(|t| is_reason(t)).collect()
}

/// The literals shaped like a reason among the direct arguments of the call that opens at `open`.
fn arguments(code: &[Token], open: usize) -> Vec<&str> {
    let (mut found, mut depth) = (Vec::new(), 0);
    for token in &code[open..] {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') => depth -= 1,
            Token::Text(text) if depth == 1 && is_reason(text) => found.push(text.as_str()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// The reasons that a source makes, tests apart.
fn reasons(source: &str) -> BTreeSet<String> {
    let code = without_tests(tokens(source));
    let at = |i: usize| code.get(i).unwrap_or(&Token::Mark(' '));
    let before = |i: usize, n: usize| i.checked_sub(n).map_or("", |i| at(i).word());
    let mut found = BTreeSet::new();
    for (i, token) in code.iter().enumerate() {
        let next = at(i + 1);
        let made = match token {
            Token::Word(word) if word == "fn" && next.word().contains("reason") => {
                let body = code[i..].iter().position(|t| t.is('{') || t.is(';')).unwrap_or(0) + i;
                texts(&code, body, |t| t.is('}') || t.is(';'))
            }
            Token::Word(word) if word == "let" && !matches!(before(i, 1), "if" | "while") => {
                let pattern = code[i..].iter().take_while(|t| !t.is('=') && !t.is(';'));
                let names = pattern.filter(|t| t.word() == "reason").count() > 0;
                if names { texts(&code, i, |t| t.is(';')) } else { Vec::new() }
            }
            Token::Word(word) if word == "reason" => {
                let sets =
                    (next.is('=') || next.is(':')) && !matches!(at(i + 2), Token::Mark('=' | '>' | ':'));
                if sets { texts(&code, i + 2, |t| t.is(',') || t.is(';')) } else { Vec::new() }
            }
            Token::Word(word) if next.is('(') => {
                let class = before(i, 3);
                let error = word == "new" && (class == "Self" || class.ends_with("Error"));
                let known = before(i, 1) != "fn" && CONSTRUCTORS.contains(&word.as_str());
                if error || known { arguments(&code, i + 1) } else { Vec::new() }
            }
            Token::Text(text) => {
                let after_class = i >= 5 && at(i - 1).is(',') && CLASSES.contains(&before(i, 5));
                let assigned = next.is('.') && at(i + 2).word() == "clone_into";
                if is_reason(text) && (after_class || assigned) { vec![text.as_str()] } else { Vec::new() }
            }
            _ => Vec::new(),
        };
        found.extend(made.into_iter().map(str::to_owned));
    }
    found
}

/// The reasons that a source of the workbench page makes: `reason: 'NAME'`.
fn page_reasons(source: &str) -> BTreeSet<String> {
    let made = source.split("reason: '").skip(1).filter_map(|rest| rest.split('\'').next());
    made.filter(|text| is_reason(text)).map(str::to_owned).collect()
}

/// Each reason with the files that make it.
fn all_reasons() -> BTreeMap<String, BTreeSet<String>> {
    let root = root();
    let mut files = Vec::new();
    for part in ["crates", "services", "web"] {
        for package in fs::read_dir(root.join(part)).unwrap() {
            let dir = package.unwrap().path().join("src");
            if dir.is_dir() {
                sources(&dir, &mut files);
            }
        }
    }
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let shown = file.strip_prefix(&root).unwrap().display().to_string();
        let source = fs::read_to_string(&file).unwrap();
        let found = if is_page_source(&shown) { page_reasons(&source) } else { reasons(&source) };
        for reason in found {
            all.entry(reason).or_default().insert(shown.clone());
        }
    }
    all
}

/// Each page's text by its name.
fn pages() -> BTreeMap<String, String> {
    let files = fs::read_dir(root().join("docs/errors")).unwrap().map(|e| e.unwrap().path());
    let named = files.map(|p| (p.file_stem().unwrap().to_str().unwrap().to_owned(), p));
    named.filter(|(n, _)| n != "README").map(|(n, p)| (n, fs::read_to_string(p).unwrap())).collect()
}

#[test]
fn every_reason_has_a_page_and_every_page_a_reason() {
    let (reasons, pages) = (all_reasons(), pages());
    let mut wrong = Vec::new();
    for (reason, files) in reasons.iter().filter(|(r, _)| !pages.contains_key(*r)) {
        wrong.push(format!("{reason} (made in {files:?}) has no page docs/errors/{reason}.md"));
    }
    for page in pages.keys().filter(|p| !reasons.contains_key(*p)) {
        wrong.push(format!("docs/errors/{page}.md: nothing in the sources makes this reason"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_page_says_its_name_its_code_what_happened_and_what_to_do() {
    for (name, text) in pages() {
        assert!(text.starts_with(&format!("# {name}\n")), "{name}: another title");
        for part in ["Code ", "Retryable: ", "**What happened.** ", "**What to do.** "] {
            assert!(text.contains(&format!("\n{part}")), "{name}: nothing begins with {part:?}");
        }
    }
}

#[test]
fn the_index_lists_exactly_the_pages() {
    let index = fs::read_to_string(root().join("docs/errors/README.md")).unwrap();
    let rows = index.lines().filter_map(|l| l.strip_prefix("| [")?.split_once(']'));
    let listed: Vec<(&str, &str)> = rows.collect();
    for (name, rest) in &listed {
        assert!(rest.starts_with(&format!("({name}.md) |")), "{name} leads elsewhere");
    }
    let (listed, pages) = (listed.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), pages());
    let pages = pages.keys().map(String::as_str).collect();
    let wrong: Vec<_> = listed.symmetric_difference(&pages).collect();
    assert!(wrong.is_empty(), "in the index or a page, not in both: {wrong:?}");
}

#[test]
fn reads_a_reason_in_every_form_in_which_one_is_made() {
    let source = r##"
        // Error::new(Code::Internal, "IN_A_COMMENT", "") and a quotation mark: "
        const QUOTE: char = '"'; /* fail("IN_A_BLOCK") */ const ESCAPE: char = '\'';
        const TABLE: &[(&str, Kind, &str)] = &[("NOT THIS", GitErrorKind::Auth, "FROM_A_TABLE")];
        impl<'a> TokenError {
            fn reason(&self) -> &'static str { match self { Self::A => "FROM_A_MATCH", _ => "FROM_THE_REST" } }
        }
        #[cfg(test)]
        fn only_in_tests(of: &[u8]) -> Error { Error::new(Code::Internal, "FROM_A_TEST", "") }
        fn make(e: Error) -> Outcome {
            Error::new(
                Code::NotFound,
                "FROM_A_NEW", r#"a text with "NO_REASON" in it"#,
            ).with("limit", "NO_REASON");
            command.env("NO_REASON", "1").arg(std::env::var("NO_REASON"));
            let (reason, text) = match e { A => ("FROM_A_LET", "the text"), B => ("FROM_ANOTHER_ARM", "") };
            if let Err(reason) = e.reason() { return Command::new("NO_REASON"); }
            row.status.reason = "ASSIGNED".to_owned();
            "CLONED".clone_into(&mut row.status.reason);
            let condition = Condition { reason: "FROM_A_FIELD".to_owned(), message: "NO_REASON".to_owned() };
            if e.reason() == "COMPARED" || e.reason == "COMPARED_TOO" {}
            Outcome::fail("FROM_A_STAGE", "message")
        }
        #[cfg(test)]
        mod tests { #[test] fn fails() { Outcome::retry("FROM_A_TEST", "}") } }
    "##;
    let expected = [
        "ASSIGNED",
        "CLONED",
        "FROM_ANOTHER_ARM",
        "FROM_A_FIELD",
        "FROM_A_LET",
        "FROM_A_MATCH",
        "FROM_A_NEW",
        "FROM_A_STAGE",
        "FROM_A_TABLE",
        "FROM_THE_REST",
    ];
    assert_eq!(reasons(source), BTreeSet::from(expected.map(str::to_owned)));
}
