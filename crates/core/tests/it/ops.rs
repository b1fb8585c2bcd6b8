//! No op names another op (`docs/style.md`). What two of them share belongs to `domain/`, to `view/`, or to a module of
//! `ops/` that has not the name of an rpc.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::source::{root, sources, tokens, without_tests};

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect()
}

/// The rpcs of all services by the names of their ops: `create_task` for `CreateTask`.
fn rpcs() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let versions = entries(&root().join("proto/foundry")).into_iter().flat_map(|package| entries(&package));
    for file in versions.flat_map(|version| entries(&version)) {
        let text = fs::read_to_string(&file).unwrap();
        let names = text.lines().filter_map(|l| l.trim_start().strip_prefix("rpc ")?.split('(').next());
        found.extend(names.map(snake_case));
    }
    found
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// The module of `ops` that a file belongs to: `create_task` for `create_task.rs` and all below `create_task/`.
fn module(file: &Path, ops: &Path) -> String {
    let first = file.strip_prefix(ops).unwrap().iter().next().unwrap();
    Path::new(first).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The ops besides `own` that a source names outside its tests. A method is not an op, nor is the line that declares
/// one.
fn named(source: &str, ops: &BTreeSet<String>, own: &str) -> BTreeSet<String> {
    let code = without_tests(tokens(source));
    let mut found = BTreeSet::new();
    for (i, token) in code.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| &code[i]);
        let other = before.is_some_and(|t| t.is('.') || t.word() == "mod");
        if ops.contains(token.word()) && token.word() != own && !other {
            found.insert(token.word().to_owned());
        }
    }
    found
}

#[test]
fn no_op_names_another_op() {
    let (root, rpcs) = (root(), rpcs());
    let mut wrong = Vec::new();
    for dir in entries(&root.join("services")).into_iter().map(|s| s.join("src/ops")).filter(|d| d.is_dir()) {
        let mut files = Vec::new();
        sources(&dir, &mut files);
        let modules = files.iter().map(|f| module(f, &dir));
        let ops: BTreeSet<String> = modules.filter(|m| rpcs.contains(m)).collect();
        assert!(!ops.is_empty(), "{}: no file has the name of an rpc", dir.display());
        for file in &files {
            let source = fs::read_to_string(file).unwrap();
            let shown = file.strip_prefix(&root).unwrap().display();
            let others = named(&source, &ops, &module(file, &dir));
            wrong.extend(others.into_iter().map(|other| format!("{shown} names {other}")));
        }
    }
    assert!(wrong.is_empty(), "an op must not name another op:\n{}", wrong.join("\n"));
}

#[test]
fn finds_an_op_in_every_form_in_which_one_is_named() {
    let ops = BTreeSet::from(["create_task", "kill_task"].map(str::to_owned));
    let found = |source: &str| named(source, &ops, "create_task").into_iter().collect::<Vec<_>>();
    for source in [
        "use super::kill_task::end;",
        "use crate::ops::{command::Command, kill_task};",
        "fn create_task() { super::kill_task::end() }",
    ] {
        assert_eq!(found(source), ["kill_task"], "{source}");
    }
    let none = r##"
        //! Not as kill_task does.
        mod kill_task;
        pub async fn create_task(client: Client) { client.kill_task("kill_task").await; }
        #[cfg(test)]
        mod tests { use crate::ops::kill_task::kill_task; }
    "##;
    assert_eq!(found(none), [""; 0]);
}
