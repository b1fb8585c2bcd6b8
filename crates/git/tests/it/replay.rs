//! Commits made again on other commits, and what of a branch another one has already.

use foundry_git::{Absorbed, CommitId, Mirror, ReplaySpec, Replayed};

use crate::lab::Lab;

/// A lab whose real repository has a branch `feat` of a script on `main`, and a `main` that has moved since by another.
async fn moved(feat: &str, main: &str) -> (Lab, Mirror) {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), &format!("git checkout -q -b feat\n{feat}\ngit checkout -q main\n{main}"));
    let mirror = lab.mirror().await;
    (lab, mirror)
}

fn spec(lab: &Lab, from: &str) -> ReplaySpec {
    ReplaySpec {
        from: lab.rev(&lab.real(), from),
        tip: lab.rev(&lab.real(), "feat"),
        onto: lab.rev(&lab.real(), "main"),
        committer: ("Grace".into(), "grace@example.com".into()),
        time: 1_700_000_000,
        drop_signatures: false,
    }
}

async fn replayed(lab: &Lab, mirror: &Mirror) -> Replayed {
    let from = lab.sh(&lab.real(), "git merge-base main feat");
    mirror.replay(&spec(lab, &from)).await.unwrap()
}

fn tip(replayed: &Replayed) -> CommitId {
    match replayed {
        Replayed::Done { tip, .. } => tip.clone(),
        other => panic!("{other:?}"),
    }
}

const MAIN: &str = "echo x > main.txt; git add .; git commit -q -m 'main moves'";

#[tokio::test]
async fn authors_and_messages_stay_and_the_same_input_gives_the_same_commits() {
    let feat = "echo a > a; git add a
        git -c i18n.commitEncoding=ISO-8859-1 commit -q --author='J\u{f6}rg <j@x>' --date='2001-02-03T04:05:06 +0700' \
            -m \"$(printf 'caf\\351\\n\\nbody \\n\\n\\n')\" --cleanup=verbatim
        git commit -q --allow-empty -m empty";
    let (lab, mirror) = moved(feat, MAIN).await;
    let done = replayed(&lab, &mirror).await;
    assert_eq!(done, replayed(&lab, &mirror).await);
    assert!(matches!(done, Replayed::Done { made: 2, dropped: 0, .. }), "{done:?}");
    let new = tip(&done);
    let raw = |dir: &std::path::Path, commit: &str| {
        lab.sh(
            dir,
            &format!("git cat-file commit {commit} | grep -a -v '^tree\\|^parent\\|^committer' | od -c"),
        )
    };
    assert_eq!(raw(mirror.dir(), &format!("{new}^")), raw(&lab.real(), "feat^"));
    let show = |format: &str| lab.sh(mirror.dir(), &format!("git show -s --format='{format}' {new}"));
    assert_eq!(show("%cn %ce %ct %s"), "Grace grace@example.com 1700000000 empty");
    assert_eq!(
        lab.sh(mirror.dir(), &format!("git rev-parse {new}~2")),
        lab.rev(&lab.real(), "main").to_string()
    );
    let files = lab.sh(mirror.dir(), &format!("git ls-tree --name-only {new} a main.txt"));
    assert_eq!(files, "a\nmain.txt");
}

#[tokio::test]
async fn what_is_in_place_stays_and_a_merge_becomes_a_commit_with_what_it_brought() {
    let feat = "echo a > a; git add a; git commit -q -m a
        git checkout -q -b side; echo s > s; git add s; git commit -q -m s
        git checkout -q feat; echo b > b; git add b; git commit -q -m b; git merge -q --no-ff -m 'merge side' side";
    let (lab, mirror) = moved(feat, "true").await;
    assert_eq!(tip(&replayed(&lab, &mirror).await), lab.rev(&lab.real(), "feat"));
    let (lab, mirror) = moved(feat, MAIN).await;
    let new = tip(&replayed(&lab, &mirror).await);
    assert_eq!(lab.sh(mirror.dir(), &format!("git log --format=%s {new} ^main")), "merge side\nb\na");
    assert_eq!(lab.sh(mirror.dir(), &format!("git diff --name-only main {new}")), "a\nb\ns");
    // A merge of main into the branch has nothing of its own.
    let feat = format!(
        "echo a > a; git add a; git commit -q -m a; git checkout -q main; {MAIN}; git checkout -q feat; git merge -q --no-edit main"
    );
    let (lab, mirror) = moved(&feat, "echo y > y; git add y; git commit -q -m y").await;
    let new = tip(&replayed(&lab, &mirror).await);
    assert_eq!(lab.sh(mirror.dir(), &format!("git log --format=%s {new} ^main")), "a");
}

#[tokio::test]
async fn a_conflict_names_commit_and_files_and_moves_no_ref() {
    let (lab, mirror) =
        moved("echo f > text; git commit -q -a -m f", "echo m > text; git commit -q -a -m m").await;
    let before = lab.sh(mirror.dir(), "git for-each-ref");
    let Replayed::Conflict { commit, count: 1, files } = replayed(&lab, &mirror).await else {
        panic!("no conflict")
    };
    assert_eq!((commit, files[0].to_string()), (lab.rev(&lab.real(), "feat"), "text".to_owned()));
    assert_eq!(lab.sh(mirror.dir(), "git for-each-ref"), before);
}

#[tokio::test]
async fn attributes_of_the_branches_take_no_part() {
    let feat = "echo '* merge=evil filter=evil' > .gitattributes; git add .gitattributes; git commit -q -m attributes
        sed -i s/three/four/ text; git commit -q -a -m change";
    let (lab, mirror) = moved(feat, "sed -i s/one/zero/ text; git commit -q -a -m main").await;
    let ran = lab.path("ran");
    for key in ["merge.evil.driver", "filter.evil.clean", "filter.evil.smudge"] {
        lab.sh(mirror.dir(), &format!("git config {key} 'touch {}'", ran.display()));
    }
    let new = tip(&replayed(&lab, &mirror).await);
    assert_eq!(lab.sh(mirror.dir(), &format!("git show {new}:text")), "zero\ntwo\nfour");
    assert!(!ran.exists(), "a driver was run");
}

#[tokio::test]
async fn what_another_branch_has_is_found_however_it_came_there() {
    let two = "echo a > a; git add a; git commit -q -m a; echo b >> a; git commit -q -a -m b";
    let later = "echo z > a; git commit -q -a -m 'change it again'";
    for (main, expected) in [
        ("git reset -q --hard feat", "all"),
        ("git merge -q --no-ff -m merge feat", "all"),
        (format!("git merge -q --squash feat; git commit -q -m squashed; {later}").as_str(), "all"),
        (format!("git cherry-pick feat^ feat >/dev/null; {later}").as_str(), "all"),
        (format!("git cherry-pick feat^ >/dev/null; {later}").as_str(), "a"),
        ("true", "nothing"),
        // A later commit takes it back, and another one brings it again.
        ("git merge -q --squash feat; git commit -q -m squashed; git revert --no-edit HEAD", "nothing"),
        (
            format!(
                "git merge -q --squash feat; git commit -q -m squashed; git revert --no-edit HEAD; \
                 git revert --no-edit HEAD; {later}"
            )
            .as_str(),
            "all",
        ),
        (
            format!("echo a > a; echo other > o; git add .; git commit -q -m 'not the same'; {later}")
                .as_str(),
            "nothing",
        ),
    ] {
        let (lab, mirror) = moved(two, &format!("{MAIN}; {main}")).await;
        let spec = spec(&lab, "main~1");
        let from = lab.rev(&lab.real(), &lab.sh(&lab.real(), "git rev-list --max-parents=0 main"));
        let found = match mirror.absorbed(&from, &spec.tip, &spec.onto).await.unwrap() {
            Absorbed::All => "all".to_owned(),
            Absorbed::Nothing => "nothing".to_owned(),
            Absorbed::UpTo(commit) => lab.sh(mirror.dir(), &format!("git show -s --format=%s {commit}")),
        };
        assert_eq!(found, expected, "{main}");
    }
    // A branch that changes nothing is not merged by that.
    let (lab, mirror) = moved("git commit -q --allow-empty -m begin", MAIN).await;
    let spec = spec(&lab, "main~1");
    assert_eq!(mirror.absorbed(&spec.from, &spec.tip, &spec.onto).await.unwrap(), Absorbed::Nothing);
}

#[tokio::test]
async fn a_change_that_is_made_twice_is_there_twice_or_not_at_all() {
    let feat = "printf 'x\\nx\\nx\\n' > n; git add n; git commit -q -m begin
        echo x >> n; git commit -q -a -m once; echo x >> n; git commit -q -a -m twice";
    let (lab, mirror) = moved(
        feat,
        &format!("{MAIN}; git cherry-pick feat~2 feat~1 >/dev/null; echo z > n; git commit -q -a -m later"),
    )
    .await;
    let real = lab.real();
    let [root, once, twice, main] = ["main~4", "feat~1", "feat", "main"].map(|name| lab.rev(&real, name));
    let all = mirror.absorbed(&root, &twice, &main).await.unwrap();
    assert_eq!(all, Absorbed::UpTo(once.clone()));
    // Nor does another branch have what the one below it has brought there.
    assert_eq!(mirror.absorbed(&once, &twice, &main).await.unwrap(), Absorbed::Nothing);
}
