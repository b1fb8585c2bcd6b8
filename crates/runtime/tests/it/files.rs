use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use url::form_urlencoded::byte_serialize;

use crate::world::World;

fn file(path: &std::path::Path, rest: &str) -> String {
    let path: String = byte_serialize(path.to_str().unwrap().as_bytes()).collect();
    format!("/v1/files?path={path}{rest}")
}

#[tokio::test]
async fn writes_a_file_whole_with_its_directories_and_reads_it_back() {
    let world = World::new();
    let caller = world.caller().await;
    let place = world.work().join("a b/c+d/file");
    caller.call("PUT", &file(&place, "&mode=0644"), "one").await.raw();
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o644);
    caller.call("PUT", &file(&place, ""), "two two").await.raw();
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(caller.get(&file(&place, "&max=7")).await.raw(), b"two two");
    let detail = caller.get(&file(&place, "&max=6")).await.is(413, "too_large");
    assert!(detail.contains('7') && detail.contains('6'), "{detail}");
    caller.get(&file(&world.home().join("none"), "")).await.is(404, "not_found");
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    caller.call("PUT", &file(&world.home().join("big"), ""), big.clone()).await.raw();
    assert_eq!(caller.get(&file(&world.home().join("big"), "")).await.raw(), big);
    let names = fs::read_dir(place.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "nothing is left beside the file");
}

#[tokio::test]
async fn a_file_beyond_the_limit_leaves_nothing_behind() {
    let world = World::new();
    let caller = world.caller().await;
    let place = world.home().join("dir/file");
    let big = vec![0; (64 << 20) + 1];
    caller.call("PUT", &file(&place, ""), big).await.is(413, "too_large");
    assert_eq!(fs::read_dir(world.home().join("dir")).unwrap().count(), 0);
}

#[tokio::test]
async fn follows_no_link_and_stays_below_its_directories() {
    let world = World::new();
    let caller = world.caller().await;
    let (home, outside) = (world.home(), world.dir.path().join("secret"));
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, home.join("link")).unwrap();
    symlink(world.dir.path(), home.join("up")).unwrap();
    symlink("/etc", home.join("etc")).unwrap();
    fs::create_dir(home.join("directory")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(home.join("pipe")).status().unwrap();
    assert!(fifo.success());
    for bad in ["link", "up/secret", "etc/passwd", "../secret", "directory", "pipe", ""] {
        caller.get(&file(&home.join(bad), "")).await.is(403, "refused");
    }
    for bad in ["up/secret", "etc/new", "../secret", "directory", ""] {
        caller.call("PUT", &file(&home.join(bad), ""), "x").await.is(403, "refused");
    }
    caller.get(&file("/etc/passwd".as_ref(), "")).await.is(403, "refused");
    caller.get("/v1/files?path=relative").await.is(400, "invalid");
    caller.get("/v1/files").await.is(400, "invalid");
    caller.call("PUT", &file(&home.join("x"), "&mode=9"), "x").await.is(400, "invalid");
    // A link in the place of the file is replaced, not followed.
    caller.call("PUT", &file(&home.join("link"), ""), "x").await.raw();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "secret");
    assert_eq!(fs::read_to_string(home.join("link")).unwrap(), "x");
}
