//! Work that is too large for one bundle: as much as has to is left out, the largest new files first, and each is named.

use foundry_git::{ImportedWork, NoticeKind, WorkBundleOutput};

use crate::lab::{Lab, Sandbox};

fn paths(imported: &ImportedWork) -> Vec<String> {
    imported.changes.iter().map(|c| c.path.to_string()).collect()
}

/// The output of a hand-over with this limit, which its bundle keeps to.
fn within(s: &Sandbox<'_>, bytes: u64) -> WorkBundleOutput {
    let output = s.output(&[("FOUNDRY_MAX_BUNDLE", bytes.to_string())]);
    let size = std::fs::metadata(s.bundle()).map_or(0, |meta| meta.len());
    assert!(size <= bytes, "{size} of {bytes}");
    output
}

fn left_out(output: &WorkBundleOutput) -> Vec<(i64, &str)> {
    let left = output.notices.iter().filter(|n| n.kind == NoticeKind::OverTotal);
    left.map(|n| (n.count, n.path.as_str())).collect()
}

/// Files that cannot be compressed.
const FILES: &str =
    "for n in 1 2 3 4; do head -c ${n}00000 /dev/urandom > \"big $n\"; done; head -c 2000000 /dev/zero > zero
                     echo more >> text; rm gone";

#[tokio::test]
async fn the_largest_new_files_are_left_out_until_the_rest_fits_and_each_is_named() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh(FILES);
    let output = within(&s, 400_000);
    assert_eq!(left_out(&output), [(400_000, "big 4"), (300_000, "big 3")]);
    // What compresses well takes no room.
    assert_eq!(paths(&s.try_import().await.unwrap()), ["big 1", "big 2", "gone", "text", "zero"]);
    assert_eq!(left_out(&within(&s, 2_000_000)), []);
    assert_eq!(s.try_import().await.unwrap().changes.len(), 7);
}

#[tokio::test]
async fn what_was_committed_costs_the_commits_only_where_nothing_else_suffices() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("head -c 100000 /dev/urandom > one; git add one; git commit -q -m one; head -c 300000 /dev/urandom > two");
    let output = within(&s, 200_000);
    assert_eq!(left_out(&output), [(300_000, "two")]);
    assert!(output.notices.iter().all(|n| n.kind == NoticeKind::OverTotal), "{:?}", output.notices);
    assert_eq!(paths(&s.try_import().await.unwrap()), ["one"]);
    s.sh("git add two; git commit -q -m two");
    let output = within(&s, 200_000);
    assert_eq!(left_out(&output), [(300_000, "two")]);
    assert!(output.notices.iter().any(|n| n.kind == NoticeKind::HistoryLeftOut), "{:?}", output.notices);
    assert_eq!(paths(&s.try_import().await.unwrap()), ["one"]);
    // A file that is committed and deleted again costs the commits alone.
    s.sh("git rm -q two; git commit -q -m deleted");
    let output = within(&s, 200_000);
    assert_eq!((left_out(&output), output.notices.len()), (vec![], 1), "{:?}", output.notices);
    assert_eq!(paths(&s.try_import().await.unwrap()), ["one"]);
}

#[tokio::test]
async fn changed_files_go_last_and_stay_as_the_base_has_them() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("head -c 300000 /dev/urandom > text; head -c 50000 /dev/urandom > \"$(printf 'n\\nw')\"; rm gone");
    let output = within(&s, 100_000);
    assert_eq!(left_out(&output), [(50_000, "n?w"), (300_000, "text")]);
    let imported = s.try_import().await.unwrap();
    assert_eq!(paths(&imported), ["gone"], "a deletion is part of the work");
    // Where all of it has to go, nothing has changed.
    s.sh("git checkout -q gone");
    assert_eq!(within(&s, 100_000).head, s.base);
}

#[tokio::test]
async fn a_tree_without_its_repository_that_is_too_large_is_left_to_the_host_to_refuse() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("head -c 300000 /dev/urandom > big; rm -rf .git");
    let output = s.output(&[("FOUNDRY_MAX_BUNDLE", "100000".to_owned())]);
    assert_eq!(left_out(&output), [], "which files are of the base is not known");
    assert!(std::fs::metadata(s.bundle()).unwrap().len() > 300_000);
}
