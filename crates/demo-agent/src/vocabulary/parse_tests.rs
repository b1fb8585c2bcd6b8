//! How prompts are parsed.

use super::*;

fn steps(prompt: &str) -> Vec<Instruction> {
    read(prompt).steps.into_iter().map(|s| s.instruction).collect()
}

fn one(prompt: &str) -> Instruction {
    let mut found = steps(prompt);
    assert_eq!(found.len(), 1, "{prompt:?} is {found:?}");
    found.remove(0)
}

fn write(file: &str, content: &str) -> Instruction {
    Instruction::Edit(Edit::Write { file: file.into(), content: content.into() })
}

#[test]
fn understands_each_instruction_whatever_its_case_and_courtesy() {
    let run = |c: &str| Instruction::Run { command: c.into() };
    for (prompt, meaning) in [
        ("say hello there", Instruction::Say("hello there".into())),
        ("SAY: \"hello\"", Instruction::Say("hello".into())),
        ("think about it. twice", Instruction::Think("about it. twice".into())),
        ("write a.txt: Hello. World", write("a.txt", "Hello. World\n")),
        ("Please create the file docs/a.md: # A", write("docs/a.md", "# A\n")),
        ("write `my file`: x", write("my file", "x\n")),
        ("write empty.txt:", write("empty.txt", "")),
        (
            "append a.txt: more",
            Instruction::Edit(Edit::Append { file: "a.txt".into(), content: "more\n".into() }),
        ),
        (
            "add \"a line. Yes\" to README.md.",
            Instruction::Edit(Edit::Append { file: "README.md".into(), content: "a line. Yes\n".into() }),
        ),
        (
            "replace one in two with `three in` in src/a.rs",
            Instruction::Edit(Edit::Replace {
                old: "one in two".into(),
                new: "three in".into(),
                file: "src/a.rs".into(),
            }),
        ),
        ("- delete old.txt.", Instruction::Edit(Edit::Delete { file: "old.txt".into() })),
        (
            "2. rename a.txt to b.txt",
            Instruction::Edit(Edit::Rename { from: "a.txt".into(), to: "b.txt".into() }),
        ),
        (
            "create 3 files in data/x",
            Instruction::Edit(Edit::CreateMany { count: 3, directory: "data/x".into() }),
        ),
        ("run echo a. b; echo c", run("echo a. b; echo c")),
        ("then run `make test`.", run("make test")),
        ("read README.md", Instruction::Read { file: "README.md".into() }),
        ("wait 1.5 seconds", Instruction::Wait { millis: 1500 }),
        ("wait for two minutes", Instruction::Wait { millis: 120_000 }),
        ("stream 5000 chunks", Instruction::Stream { chunks: 5000 }),
        ("print a 64 KiB line", Instruction::LongLine { kib: 64 }),
        ("print a 2 MiB line", Instruction::LongLine { kib: 2048 }),
        ("emit hostile text", Instruction::Hostile),
        ("show environment", Instruction::ShowEnvironment),
        ("show attachments", Instruction::ShowAttachments),
        ("show a picture", Instruction::ShowPicture { kib: 0 }),
        ("show a 4000 KiB picture", Instruction::ShowPicture { kib: 4000 }),
        ("help", Instruction::Help),
        ("fail with no luck", Instruction::Fail { message: "no luck".into() }),
        ("refuse", Instruction::Refuse),
        ("Crash!", Instruction::Crash),
        ("hang until cancelled", Instruction::Hang),
        ("ask for permission", Instruction::Ask { reason: "go on".into(), count: 1 }),
        (
            "ask permission to refactor everything",
            Instruction::Ask { reason: "refactor everything".into(), count: 1 },
        ),
        ("ask for 3 permissions at once", Instruction::Ask { reason: "go on".into(), count: 3 }),
    ] {
        assert_eq!(one(prompt), meaning, "{prompt:?}");
    }
}

#[test]
fn asks_first_where_the_prompt_says_so() {
    for (prompt, meaning) in [
        ("ask permission to run rm -rf target", Instruction::Run { command: "rm -rf target".into() }),
        ("Ask me before running `make`", Instruction::Run { command: "make".into() }),
        ("ask for permission before you write a.txt: x", write("a.txt", "x\n")),
        ("ask before deleting a.txt", Instruction::Edit(Edit::Delete { file: "a.txt".into() })),
    ] {
        let script = read(prompt);
        assert_eq!(script.steps, [Step { instruction: meaning, ask: true, slow: false }], "{prompt:?}");
    }
}

#[test]
fn reads_several_instructions_from_sentences_and_lines_in_order() {
    let found = steps("Wait 2 seconds, then delete a.txt. Hello there. Then fail.\nrun ls");
    assert_eq!(found[0], Instruction::Wait { millis: 2000 });
    assert_eq!(found[1], Instruction::Edit(Edit::Delete { file: "a.txt".into() }));
    assert_eq!(found[2], Instruction::Answer("Hello there.".into()));
    assert!(matches!(found[3], Instruction::Fail { .. }));
    assert_eq!(found[4], Instruction::Run { command: "ls".into() });
    assert_eq!(found.len(), 5);
}

#[test]
fn goes_on_after_an_asked_instruction_in_the_same_line() {
    let script = read("Ask before running `make`. Then wait a second.");
    assert_eq!(script.steps[1].instruction, Instruction::Wait { millis: 1000 });
}

#[test]
fn takes_a_fenced_block_as_content_and_reads_no_instructions_in_it() {
    let found = steps("write src/a.sh:\n```sh\nrun this\n\n  indented\n```\nrun sh src/a.sh");
    assert_eq!(
        found,
        [write("src/a.sh", "run this\n\n  indented\n"), Instruction::Run { command: "sh src/a.sh".into() },]
    );
    assert_eq!(steps("say x\n```\ncrash\n```").len(), 2, "a quoted block is words");
}

#[test]
fn keeps_to_the_plan_that_is_spelled_out() {
    let script = read("plan: look; change it.; check\nrun ls");
    assert_eq!(script.plan.unwrap(), ["look", "change it", "check"]);
    assert_eq!(read("plan: look; check").steps.len(), 2, "a plan alone is told step by step");
}

#[test]
fn slows_down_from_the_word_on() {
    let script = read("say one\nslowly say two\nquickly\nsay three");
    assert_eq!(script.steps.iter().map(|s| s.slow).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn takes_ordinary_requests_for_words_and_notes_them() {
    for prompt in [
        "Add a greeting to README",
        "Run the tests and fix what fails",
        "Fail gracefully when the file is missing",
        "Rename the function foo to bar",
        "Delete the old code",
        "Write a poem about ships: short, please",
        "Refuse connections without a token",
        "Wait for the server before connecting",
        "Create three endpoints",
        "Please",
    ] {
        let found = steps(prompt);
        assert_eq!(
            found,
            [Instruction::Note { prompt: prompt.into() }, Instruction::Introduce],
            "{prompt:?}"
        );
    }
    assert_eq!(one("What is this?"), Instruction::Help);
    assert_eq!(one("  \n"), Instruction::Help);
}

#[test]
fn bounds_every_amount_and_survives_odd_text() {
    assert_eq!(one("stream 999999999 chunks"), Instruction::Stream { chunks: MAX_CHUNKS });
    assert_eq!(one("wait 1000000 minutes"), Instruction::Wait { millis: 86_400_000 });
    for odd in [
        "wait . seconds",
        "run `",
        "write : x",
        "say",
        "write ``: x",
        "replace  with  in ",
        "ask",
        "plan:;",
        "“say",
        "é",
        "1.",
        "```",
    ] {
        assert!(!steps(odd).is_empty(), "{odd:?}");
    }
}
