//! What was published of uncommitted files is committed in the sandbox too, so that git can merge what others push.

use foundry_core::Timestamp;
use foundry_git::{
    ADOPT_PUBLISHED_SCRIPT, AdoptPublished, CommitId, PublishSpec, PublishedWork, ReplaySpec, Replayed,
};

use crate::lab::{Lab, Sandbox, branch, work};

struct Published<'a> {
    sandbox: &'a Sandbox<'a>,
    commit: CommitId,
    of: CommitId,
    work_tree: String,
}

/// Publishes the work as `feat/x`; the mirror is `origin`.
async fn publish<'a>(sandbox: &'a Sandbox<'a>, squash: bool) -> Published<'a> {
    let of = sandbox.import().await.head;
    let spec = PublishSpec {
        base: sandbox.base.clone(),
        head: of.clone(),
        merged: None,
        tip: None,
        tip_of: None,
        author: ("Ada".into(), "ada@example.com".into()),
        message: "Add a parser\n".into(),
        squash,
        force: false,
    };
    let commit = sandbox.mirror.publishable(&spec).await.unwrap().commit;
    sandbox.mirror.record_published(&branch("feat/x"), &commit, (&work(), &of)).await.unwrap();
    sandbox.sh(&format!(
        "git remote get-url origin >/dev/null 2>&1 || git remote add origin x
         git remote set-url origin {}",
        sandbox.mirror.dir().display()
    ));
    Published { sandbox, commit, of, work_tree: String::new() }
}

impl Published<'_> {
    fn adopt(&self) -> String {
        let out = self.run("");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// Kills the script in place of the call of git that has these words.
    fn killed_at(&self, words: &str) {
        let bin = self.sandbox.lab.path("bin");
        let git = format!(
            "mkdir -p {0}; real=$(command -v git); printf '#!/bin/sh\\ncase \"$*\" in *\"%s\"*) kill -9 $PPID; exit 1;; \
             esac\\nexec %s \"$@\"\\n' '{words}' \"$real\" >{0}/git; chmod +x {0}/git",
            bin.display()
        );
        self.sandbox.sh(&git);
        let out = self.run(&format!("PATH={}:$PATH; ", bin.display()));
        assert!(out.stdout.is_empty() && !out.status.success(), "it was not killed: {out:?}");
    }

    fn run(&self, before: &str) -> std::process::Output {
        let parameters = AdoptPublished {
            tree: self.sandbox.tree.clone(),
            work: self.of.clone(),
            published: self.commit.clone(),
            work_tree: self.work_tree.clone(),
            branch: branch("feat/x"),
            time: Timestamp::from_micros(1_700_000_000_000_000),
        };
        let lab = self.sandbox.lab;
        lab.try_sh(&lab.path(""), &format!("{before}{ADOPT_PUBLISHED_SCRIPT}"), &parameters.env())
    }

    /// Somebody else's commit on the published branch.
    fn others_push(&self) {
        let script = format!(
            "git clone -q -b feat/x . ../colleague; cd ../colleague; echo review > review; echo more >> new
             git add -A; git commit -qm review; git push -q {} feat/x",
            self.sandbox.mirror.dir().display()
        );
        self.sandbox.lab.sh(self.sandbox.mirror.dir(), &script);
    }

    fn head(&self) -> CommitId {
        self.sandbox.lab.rev(&self.sandbox.tree, "HEAD")
    }
}

#[tokio::test]
async fn the_agent_can_pull_what_others_push_to_the_branch_of_its_uncommitted_files() {
    for squash in [false, true] {
        let lab = Lab::new().await;
        let s = lab.sandbox().await;
        s.sh(
            "echo a > a; git add a; git commit -qm 'agent: a'; echo new > new; echo changed >> text; rm gone
              git init -q inner; echo i > inner/i; echo staged > staged; git add staged",
        );
        let published = publish(&s, squash).await;
        published.others_push();
        let pull = "git pull -q --no-rebase origin feat/x";
        assert!(!lab.try_sh(&s.tree, pull, &[]).status.success(), "git has nothing against it any more");
        let before = crate::lab::snapshot(&s.tree);
        assert_eq!(published.adopt(), "moved");
        assert_eq!(crate::lab::snapshot(&s.tree), before);
        assert_eq!(
            (published.head(), s.sh("git status --porcelain")),
            (published.commit.clone(), String::new())
        );
        assert_eq!(s.hand_over(), published.commit, "the work is what was published");
        s.sh(pull);
        assert_eq!(s.sh("cat review; tail -n 1 new"), "review\nmore");
        assert_eq!(published.adopt(), "kept the branch has moved");
    }
}

#[tokio::test]
async fn a_sandbox_that_went_on_since_stays_as_it_is() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo new > new");
    let published = publish(&s, false).await;
    let head = published.head();
    let ways = [
        ("echo more >> new", "kept files have changed", "echo new > new"),
        (
            "echo x > new; git add new; echo new > new",
            "kept files have changed since they were staged",
            "git reset -q",
        ),
        ("git commit -q --allow-empty -m next", "kept the branch has moved", "git reset -q --soft HEAD~1"),
        (
            "git commit -q --amend -m other",
            "kept the branch has moved",
            "git reset -q --soft ORIG_HEAD@{1} || git reset -q --soft HEAD@{1}",
        ),
        ("git checkout -q --detach", "kept no branch is checked out", "git checkout -q -"),
        ("touch .git/MERGE_HEAD", "kept an operation is unfinished", "rm .git/MERGE_HEAD"),
        (
            "git update-index --assume-unchanged text",
            "kept the index hides files",
            "git update-index --no-assume-unchanged text",
        ),
        (
            "git remote set-url origin /nowhere; git update-ref -d refs/remotes/origin/feat/x",
            "kept origin cannot be fetched from",
            ":",
        ),
    ];
    for (way, said, back) in ways {
        s.sh(way);
        let (before, status) = (published.head(), s.sh("git status --porcelain"));
        if said.contains("fetched") {
            s.sh("git gc -q --prune=now; git reflog expire --expire=now --all; git prune");
        }
        assert_eq!(published.adopt(), said, "{way}");
        assert_eq!((published.head(), s.sh("git status --porcelain")), (before, status), "{way}");
        s.sh(back);
        assert_eq!(published.head(), head, "{way}");
    }
    // What a hand-over does not take is no change.
    s.sh(&format!(
        "git remote set-url origin {}; mkdir ignored; echo i > ignored/i; echo later > later",
        s.mirror.dir().display()
    ));
    assert_eq!(published.adopt(), "moved");
    assert_eq!(s.sh("git status --porcelain"), "?? later");
}

#[tokio::test]
async fn what_was_published_of_a_work_and_what_others_add_there_is_no_merge() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo new > new");
    let published = publish(&s, false).await;
    let at = PublishedWork { branch: branch("feat/x"), commit: published.commit.clone() };
    assert_eq!(published.adopt(), "moved");
    let separated = async |head: &CommitId| {
        s.mirror.merged_base(&s.base, head, &[], std::slice::from_ref(&at), None).await.unwrap()
    };
    assert_eq!(separated(&published.commit).await, None);
    s.sh("echo on > on");
    assert_eq!(separated(&s.import().await.head).await, None);
    published.others_push();
    s.sh("git add -A; git commit -qm on; git pull -q --no-rebase --no-edit origin feat/x; echo y > y");
    assert_eq!(separated(&s.import().await.head).await, None);
    // Merged upstream, it is still the work's own.
    lab.sh(s.mirror.dir(), "git update-ref refs/heads/main feat/x~1; git update-ref -d refs/heads/feat/x");
    assert_eq!(separated(&published.commit).await, None);
}

/// The published branch of the work brought onto a newer base that has another file.
async fn restacked<'a>(sandbox: &'a Sandbox<'a>) -> Published<'a> {
    let published = publish(sandbox, false).await;
    let mirror = &sandbox.mirror;
    let lab = sandbox.lab;
    let script = format!(
        "git clone -q . ../newer-$$; cd ../newer-$$; git checkout -q {}; echo newer > newer; echo gone > text
         git rm -q --ignore-unmatch gone; git add -A; git commit -qm newer; git push -q {} HEAD:refs/heads/newer",
        sandbox.base,
        mirror.dir().display()
    );
    lab.sh(mirror.dir(), &script);
    let spec = ReplaySpec {
        from: sandbox.base.clone(),
        tip: published.commit.clone(),
        onto: lab.rev(mirror.dir(), "refs/heads/newer"),
        committer: ("Ada".into(), "ada@example.com".into()),
        time: 1_700_000_000,
        drop_signatures: false,
    };
    let Replayed::Done { tip, .. } = mirror.replay(&spec).await.unwrap() else { panic!("it applies") };
    mirror.record_branches(&[(branch("feat/x"), tip.clone())]).await.unwrap();
    let work_tree = mirror.tree_of(&published.of).await.unwrap();
    Published { commit: tip, work_tree, ..published }
}

#[tokio::test]
async fn the_agent_goes_on_from_its_restacked_branch_with_or_without_uncommitted_files() {
    for uncommitted in
        ["true", "echo new > new; mkdir sub; echo s > sub/s; echo staged > staged; git add staged"]
    {
        let lab = Lab::new().await;
        let s = lab.sandbox().await;
        s.sh(&format!("echo a > a; git add a; git commit -qm 'agent: a'; {uncommitted}"));
        let published = restacked(&s).await;
        let mine = s.sh("cat a; test ! -e new || cat new sub/s staged");
        let before = published.head();
        assert_eq!(published.adopt(), "moved", "{uncommitted}");
        assert_eq!(published.head(), published.commit);
        assert_eq!(s.sh("git status --porcelain"), "", "{uncommitted}");
        assert_eq!(s.sh("cat a; test ! -e new || cat new sub/s staged"), mine);
        assert_eq!(s.sh("cat newer text"), "newer\ngone");
        assert_eq!(lab.rev(&s.tree, "ORIG_HEAD"), before);
        assert_eq!(published.adopt(), "kept it is there already");
    }
}

#[tokio::test]
async fn a_restacked_branch_overwrites_nothing_that_is_only_in_the_sandbox() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo new > new");
    let published = restacked(&s).await;
    let ways = [
        ("echo more >> new", "kept files have changed", "echo new > new"),
        ("echo other > other", "kept files have changed", "rm other"),
        ("git commit -q --allow-empty -m next", "kept the branch has moved", "git reset -q --soft HEAD~1"),
        (
            "mkdir -p .git/info; echo newer > .git/info/exclude; echo mine > newer",
            "kept files are in the way",
            "rm newer .git/info/exclude",
        ),
    ];
    for (way, said, back) in ways {
        s.sh(way);
        let (head, before) = (published.head(), crate::lab::snapshot(&s.tree));
        assert_eq!(published.adopt(), said, "{way}");
        assert_eq!((published.head(), crate::lab::snapshot(&s.tree)), (head, before), "{way}");
        s.sh(back);
    }
    assert_eq!(published.adopt(), "moved");
}

#[tokio::test]
async fn files_that_cannot_be_written_leave_the_tree_as_it_was() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo new > new");
    let published = restacked(&s).await;
    // Git writes `gone` and `newer` first, and dies of the filter of `text`.
    s.sh("mkdir -p .git/info; echo 'text filter=dies' > .git/info/attributes
          git config filter.dies.clean cat; git config filter.dies.smudge 'grep -v gone'
          git config filter.dies.required true");
    let before = crate::lab::snapshot(&s.tree);
    let (head, status) = (published.head(), s.sh("git status --porcelain"));
    for _ in 0..2 {
        assert_eq!(published.adopt(), "kept files cannot be written");
        assert_eq!(crate::lab::snapshot(&s.tree), before);
        assert_eq!((published.head(), s.sh("git status --porcelain")), (head.clone(), status.clone()));
    }
    s.sh("rm .git/info/attributes");
    assert_eq!(published.adopt(), "moved");
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_finished_by_the_next_one() {
    for (words, then) in [
        ("reset --quiet --mixed", ":"),
        // In the middle of the files: one is cut short, one is what it was, one is not there yet; git has left its lock.
        ("reset --quiet --mixed", "printf new >newer; git show HEAD:text >text; touch .git/index.lock"),
        ("read-tree -m -u", ":"),
    ] {
        let lab = Lab::new().await;
        let s = lab.sandbox().await;
        s.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo new > new; mkdir sub; echo s > sub/s");
        let published = restacked(&s).await;
        published.killed_at(words);
        assert_ne!(published.head(), published.commit, "{words}");
        s.sh(then);
        assert_eq!(published.adopt(), "moved", "{words}, {then}");
        assert_eq!(
            (published.head(), s.sh("git status --porcelain")),
            (published.commit.clone(), String::new())
        );
        assert_eq!(s.sh("cat newer text a new sub/s"), "newer\ngone\na\nnew\ns");
        assert_eq!(published.adopt(), "kept it is there already");
        assert_eq!(s.sh("ls .git | grep foundry"), "foundry-clone", "nothing is left behind");
    }
    // Without other files, index and branch alone move.
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo new > new");
    let published = publish(&s, false).await;
    published.killed_at("reset --quiet --mixed");
    s.sh("touch .git/index.lock");
    assert_eq!(published.adopt(), "moved");
    assert_eq!((published.head(), s.sh("git status --porcelain")), (published.commit.clone(), String::new()));
}

#[tokio::test]
async fn a_run_that_was_cut_off_waits_until_what_the_agent_has_begun_is_finished() {
    for (begun, said, finished) in [
        (
            "git branch other; git stash -qu; git checkout -q other; echo o > o; git add o; git commit -qm o
             git checkout -q -; git merge -q --no-commit --no-ff other; git stash pop -q",
            "kept an operation is unfinished",
            "git reset -q o; rm o .git/MERGE_*",
        ),
        (
            "echo staged > new; git add new; echo new > new",
            "kept files have changed since they were staged",
            "git reset -q new",
        ),
        (
            "git update-index --assume-unchanged plain",
            "kept the index hides files",
            "git update-index --no-assume-unchanged plain",
        ),
    ] {
        let lab = Lab::new().await;
        let s = lab.sandbox().await;
        s.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo new > new");
        let published = restacked(&s).await;
        published.killed_at("read-tree -m -u");
        s.sh(begun);
        let before = (published.head(), crate::lab::snapshot(&s.tree), s.sh("git status --porcelain"));
        for _ in 0..2 {
            assert_eq!(published.adopt(), said, "{begun}");
        }
        let after = (published.head(), crate::lab::snapshot(&s.tree), s.sh("git status --porcelain"));
        assert_eq!(after, before, "{begun}");
        s.sh(finished);
        assert_eq!(published.adopt(), "moved", "{begun}");
    }
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_not_finished_over_what_the_agent_has_done_since() {
    for (since, said) in [
        ("echo mine > newer", "kept files have changed"),
        ("git add -A; git commit -qm mine", "kept the branch has moved"),
    ] {
        let lab = Lab::new().await;
        let s = lab.sandbox().await;
        s.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo new > new");
        let published = restacked(&s).await;
        published.killed_at("reset --quiet --mixed");
        s.sh(since);
        let (head, before) = (published.head(), crate::lab::snapshot(&s.tree));
        for _ in 0..2 {
            assert_eq!(published.adopt(), said, "{since}");
        }
        assert_eq!((published.head(), crate::lab::snapshot(&s.tree)), (head, before), "{since}");
    }
}
