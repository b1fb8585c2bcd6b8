//! The order of a start: addresses are bound before any data is opened.

use std::path::Path;

use foundry_tests::{Mesh, Shape, services};

fn databases(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let found = entries.flatten().flat_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() { databases(&entry.path()) } else { vec![name] }
    });
    found.filter(|name| name.contains(".db")).collect()
}

#[test]
fn a_taken_address_ends_the_start_before_any_database_is_opened() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    assert!(!databases(&mesh.data()).is_empty(), "this would not notice a database");
    let data = tempfile::tempdir().unwrap();
    // The gateway starts last.
    let taken = mesh.url("gateway");
    let mut second = mesh.command(&["up"]);
    second.env("FOUNDRY_DATA_DIR", data.path()).args(["--set", "admin.listen=127.0.0.1:0"]);
    for (service, _) in services() {
        let address = if service == "gateway" { taken.trim_start_matches("http://") } else { "127.0.0.1:0" };
        second.args(["--set", &format!("servers.{service}.listen={address}")]);
    }
    let ended = second.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("ADDRESS_UNAVAILABLE"), "{said}");
    assert_eq!(databases(data.path()), Vec::<String>::new());
}
