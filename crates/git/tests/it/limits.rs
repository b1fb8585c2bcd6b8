//! Limits of time, size and count, and that no process is left afterwards.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foundry_git::{Git, GitErrorKind, MirrorLimits, RunLimits};

use crate::lab::Lab;

/// A `git` that starts a grandchild and hangs for any request but its version.
fn hanging_git(lab: &Lab) -> PathBuf {
    let path = lab.path("hanging-git");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *version) echo git version 2.47.3; exit;; esac\n\
         sleep 600 & echo $! > {p}.part; mv {p}.part {p}; wait\n",
        p = lab.path("grandchild").display()
    );
    // Written by a child: a file that this process has open for writing can turn out "busy" when run.
    std::fs::write(lab.path("script"), script).unwrap();
    lab.sh(&lab.path(""), "cat script > hanging-git; chmod +x hanging-git");
    path
}

/// Whether the process ends (the kernel needs a moment after SIGKILL); a zombie has ended.
async fn is_gone(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        match std::fs::read_to_string(&stat) {
            Err(_) => return true,
            Ok(text) if text.contains(") Z ") => return true,
            Ok(_) => tokio::task::yield_now().await,
        }
    }
    false
}

#[tokio::test]
async fn kills_the_whole_group_at_the_time_limit() {
    let lab = Lab::new().await;
    let git = Git::at(hanging_git(&lab)).await.unwrap();
    let pid_file = lab.path("grandchild");
    // On a busy machine the grandchild may not have been started when a short limit passes.
    for wall in [1, 5, 25] {
        let limits = RunLimits { wall: Duration::from_secs(wall), ..RunLimits::default() };
        let err = git.command("fetch").limits(limits).run().await.unwrap_err();
        assert_eq!((err.kind(), err.reason()), (GitErrorKind::Timeout, "GIT_TIMEOUT"));
        if pid_file.exists() {
            break;
        }
    }
    assert!(is_gone(&pid_file).await);
}

#[tokio::test]
async fn kills_the_whole_group_when_the_caller_goes_away() {
    let lab = Lab::new().await;
    let git = Git::at(hanging_git(&lab)).await.unwrap();
    let pid_file = lab.path("grandchild");
    let started = async {
        while !pid_file.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        out = git.command("fetch").run() => panic!("ended by itself: {out:?}"),
        () = started => {}
    }
    assert!(is_gone(&pid_file).await);
}

#[tokio::test]
async fn stops_reading_at_the_output_limit() {
    let lab = Lab::new().await;
    let run = |stdout| {
        let limits = RunLimits { stdout, ..RunLimits::default() };
        lab.git
            .command("cat-file")
            .git_dir(lab.real().join(".git"))
            .operands(["blob", "main:blob"])
            .limits(limits)
    };
    assert_eq!(run(3000).run().await.unwrap().stdout.len(), 3000);
    assert_eq!(run(2999).run().await.unwrap_err().kind(), GitErrorKind::TooLarge);
}

#[tokio::test]
async fn refuses_a_remote_with_too_many_branches_or_too_much_data() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "for i in 1 2 3; do git branch b$i; done
         head -c 3000000 /dev/urandom > big; git add big; git commit -q -m big",
    );
    let few = MirrorLimits { max_refs: 3, ..MirrorLimits::default() };
    assert_eq!(lab.try_mirror(few).await.unwrap_err().kind(), GitErrorKind::TooLarge);
    let small = MirrorLimits { max_bytes: 1 << 20, ..MirrorLimits::default() };
    let err = lab.try_mirror(small).await.unwrap_err();
    assert_eq!(err.kind(), GitErrorKind::TooLarge, "{err:?} {}", err.stderr());
    assert!(!lab.path("data/mirror").exists() && !lab.path("data/mirror.creating").exists());
    lab.try_mirror(MirrorLimits { max_refs: 4, ..MirrorLimits::default() }).await.unwrap();
}

#[tokio::test]
async fn allows_no_transport_by_itself_and_takes_no_operand_for_an_option() {
    let lab = Lab::new().await;
    let url = lab.real().display().to_string();
    let list = async |operands: &[&str]| lab.git.command("ls-remote").operands(operands).run().await;
    let err = list(&[url.as_str()]).await.unwrap_err();
    assert_eq!(err.kind(), GitErrorKind::Protocol, "{err:?} {}", err.stderr());
    let proof = lab.path("ran");
    let run = format!("touch {}", proof.display());
    list(&[&format!("--upload-pack={run}"), &url]).await.unwrap_err();
    list(&[&format!("ext::{run}")]).await.unwrap_err();
    assert!(!proof.exists());
}
