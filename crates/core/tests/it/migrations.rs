//! Every step of a schema is in the list of its crate, in the order of the numbers: a file alone changes no database.

use std::fs;

use crate::source::root;

#[test]
fn every_migration_file_is_a_step() {
    let (root, mut wrong, mut seen) = (root(), Vec::new(), 0);
    for service in fs::read_dir(root.join("services")).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(files) = fs::read_dir(service.join("migrations/sqlite")) else { continue };
        let name = |file: fs::DirEntry| file.path().file_stem().unwrap().to_str().unwrap().to_owned();
        let mut files: Vec<String> = files.map(|file| name(file.unwrap())).collect();
        files.sort();
        let source = fs::read_to_string(service.join("src/store/mod.rs")).unwrap();
        let steps: Vec<&str> = source.split("step!(\"").skip(1).filter_map(|s| s.split('"').next()).collect();
        seen += steps.len();
        if steps != files {
            wrong.push(format!("{}: {steps:?} are not {files:?}", service.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} steps were seen");
}
