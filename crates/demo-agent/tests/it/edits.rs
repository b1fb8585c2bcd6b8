//! Instructions that change files.

use crate::client::Client;

/// The tool calls among a turn's updates.
fn calls(summary: Vec<String>) -> Vec<String> {
    summary.into_iter().filter(|t| t.starts_with("call-")).collect()
}

#[tokio::test]
async fn shows_each_edit_as_a_tool_call_with_its_difference() {
    let mut client = Client::start().await;
    client.put("old.txt", "one two");
    let turn = client
        .turn("write new/a.txt: hello\nappend old.txt: three\nreplace two with 2 in old.txt\nrename old.txt to b.txt\ndelete new/a.txt")
        .await;
    assert_eq!(turn.stop_reason(), "end_turn");
    let last = turn.said();
    assert_eq!(
        calls(turn.summary()),
        [
            "call-1 edit: Write new/a.txt",
            "call-1 in_progress",
            "call-1 completed null → \"hello\\n\"",
            "call-2 edit: Append to old.txt",
            "call-2 in_progress",
            "call-2 completed \"one two\" → \"one two\\nthree\\n\"",
            "call-3 edit: Replace “two” in old.txt",
            "call-3 in_progress",
            "call-3 completed \"one two\\nthree\\n\" → \"one 2\\nthree\\n\"",
            "call-4 move: Rename old.txt to b.txt",
            "call-4 in_progress",
            "call-4 completed \"old.txt is now b.txt.\"",
            "call-5 delete: Delete new/a.txt",
            "call-5 in_progress",
            "call-5 completed \"hello\\n\" → \"\"",
        ]
    );
    assert!(last.ends_with("new/a.txt deleted."), "{last}");
    assert_eq!(client.file("b.txt"), "one 2\nthree\n");
    assert!(!client.dir.path().join("new/a.txt").exists() && !client.dir.path().join("old.txt").exists());
}

#[tokio::test]
async fn names_the_files_of_an_edit_by_their_absolute_paths() {
    let mut client = Client::start().await;
    let turn = client.turn("write a.txt: x").await;
    let path = client.dir.path().join("a.txt");
    let call =
        turn.updates.iter().map(|u| &u["params"]["update"]).find(|u| u["sessionUpdate"] == "tool_call");
    assert_eq!(call.unwrap()["locations"][0]["path"], path.to_str().unwrap());
    let diff =
        turn.updates.iter().map(|u| &u["params"]["update"]["content"][0]).find(|c| c["type"] == "diff");
    assert_eq!(diff.unwrap()["path"], path.to_str().unwrap());
}

#[tokio::test]
async fn writes_a_fenced_block_as_it_is() {
    let mut client = Client::start().await;
    client.turn("write src/main.py:\n```python\nif True:\n    print('run this')\n```\nthen say done").await;
    assert_eq!(client.file("src/main.py"), "if True:\n    print('run this')\n");
}

#[tokio::test]
async fn creates_many_files_with_one_instruction() {
    let mut client = Client::start().await;
    let turn = client.turn("create 200 files in data/many").await;
    assert_eq!(std::fs::read_dir(client.dir.path().join("data/many")).unwrap().count(), 200);
    assert_eq!(client.file("data/many/file-007.txt"), "File 7 of 200.\n");
    assert_eq!(calls(turn.summary()).len(), 3);
}

#[tokio::test]
async fn refuses_to_leave_its_directory_says_so_and_goes_on() {
    let mut client = Client::start().await;
    let outside = client.dir.path().parent().unwrap().join("demo-agent-escaped.txt");
    std::os::unix::fs::symlink("/", client.dir.path().join("root")).unwrap();
    let prompt = format!(
        "write ../demo-agent-escaped.txt: x\nwrite {}: x\nappend root/tmp/demo-agent-escaped.txt: x\nread ../../etc/passwd\nwrite in.txt: y",
        outside.display()
    );
    let turn = client.turn(&prompt).await;
    assert_eq!(turn.stop_reason(), "end_turn");
    let summary = calls(turn.summary());
    let refused =
        summary.iter().filter(|t| t.contains("failed") && t.contains("outside the working directory"));
    assert_eq!(refused.count(), 4, "{summary:#?}");
    assert!(!outside.exists() && !std::path::Path::new("/tmp/demo-agent-escaped.txt").exists());
    assert_eq!(client.file("in.txt"), "y\n");
}

#[tokio::test]
async fn fails_an_impossible_edit_with_its_reason() {
    let mut client = Client::start().await;
    client.put("a.txt", "text");
    std::fs::write(client.dir.path().join("binary"), [0xff, 0xfe]).unwrap();
    for (prompt, reason) in [
        ("delete missing.txt", "there is no file missing.txt"),
        ("replace z with y in a.txt", "a.txt does not contain “z”"),
        ("replace x with y in binary", "binary is not a text file"),
        ("rename a.txt to binary", "binary already exists"),
        ("read nothing", "there is no file nothing"),
    ] {
        let turn = client.turn(prompt).await;
        assert_eq!(turn.stop_reason(), "end_turn");
        let summary = calls(turn.summary());
        assert!(summary[2].contains("failed") && summary[2].contains(reason), "{prompt}: {summary:?}");
    }
    assert_eq!(client.file("a.txt"), "text");
}

#[tokio::test]
async fn notes_a_request_without_instructions_in_the_readme() {
    let mut client = Client::start().await;
    client.put("README.md", "# Project");
    let turn = client.turn("Add a greeting\nto README").await;
    assert_eq!(turn.stop_reason(), "end_turn");
    assert_eq!(
        client.file("README.md"),
        "# Project\n\n> Noted by the demo agent: Add a greeting to README\n"
    );
    let said = turn.said();
    assert!(said.contains("no model behind me") && said.contains("`run COMMAND`"), "{said}");
    assert!(said.ends_with("Done: README.md appended to."), "{said}");
}

#[tokio::test]
async fn notes_it_in_a_new_file_where_there_is_no_readme() {
    let mut client = Client::start().await;
    client.turn("Make it faster").await;
    assert_eq!(client.file("NOTES.md"), "> Noted by the demo agent: Make it faster\n");
}
