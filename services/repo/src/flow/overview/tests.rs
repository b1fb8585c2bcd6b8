use std::collections::BTreeMap;
use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, RepositoryId, TaskId};
use foundry_flow::Binding;
use foundry_flow::proofs::{World, prove};
use foundry_proto::repo::v1::{
    BranchOverview, DeleteRepositoryRequest, GetRepositoryOverviewRequest, Repository,
    RequestRepositoryRefreshRequest,
};
use foundry_store::{Scope, Store};
use foundry_watch_hub::View as _;

use super::*;
use crate::ops::delete_repository::delete_repository;
use crate::ops::get_repository_overview::get_repository_overview;
use crate::ops::import_work::import_work;
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::testing::{Fixture, git, stream};

/// Commits a file of this name on a new branch, on top of another one.
fn stack(f: &Fixture, name: &str, on: &str) {
    git(&f.origin, &["checkout", "-q", "-b", name, on]);
    commit(f, name);
}

fn commit(f: &Fixture, name: &str) {
    std::fs::write(f.origin.join(name.replace('/', "-")), format!("{name}\n")).unwrap();
    git(&f.origin, &["add", "."]);
    git(&f.origin, &["commit", "-q", "-m", &format!("add {name}")]);
}

async fn refresh(f: &Fixture, id: &str) {
    // What is checked out at the remote is its default branch.
    git(&f.origin, &["checkout", "-q", "main"]);
    f.env.clock.advance(Duration::from_secs(5));
    let request = RequestRepositoryRefreshRequest { repository_id: id.to_owned(), ..Default::default() };
    request_repository_refresh(&f.cx, &f.member, request).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
}

async fn read(f: &Fixture, id: &str) -> (Repository, Vec<BranchOverview>) {
    let (mut branches, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = GetRepositoryOverviewRequest {
            repository_id: id.to_owned(),
            page_size: 500,
            page_token: page_token.clone(),
        };
        let answer = get_repository_overview(&f.cx, &f.member, request).await.unwrap();
        branches.extend(answer.branches);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return (answer.repository.unwrap(), branches);
        }
    }
}

/// `name < parent +ahead -behind, base +ahead -behind, files +lines -lines`, with what else there is to say.
fn shown(b: &BranchOverview) -> String {
    let apart = |d: &Option<foundry_proto::repo::v1::Divergence>| {
        d.map_or_else(|| "?".to_owned(), |d| format!("+{} -{}", d.ahead, d.behind))
    };
    let mut text =
        format!("{} < {} {}, base {}", b.name, b.parent, apart(&b.from_parent), apart(&b.from_base));
    if let Some(c) = b.changes {
        text.push_str(&format!(", {} files +{} -{}", c.files, c.additions, c.deletions));
    }
    if let Some(c) = &b.conflicts {
        text.push_str(&format!(", conflicts {} {}", c.count, c.files.join(" ")));
    }
    for (is, word) in [(b.merged, "merged"), (b.unrelated, "unrelated"), (b.work_only, "work")] {
        if is {
            text.push_str(&format!(", {word}"));
        }
    }
    if let Some(left_out) = &b.left_out {
        text.push_str(&format!(", left out {}", left_out.reason));
    }
    text
}

async fn lines(f: &Fixture, id: &str) -> Vec<String> {
    read(f, id).await.1.iter().filter(|b| !b.is_default).map(shown).collect()
}

async fn started() -> (Fixture, String) {
    let f = Fixture::new().await;
    f.in_the_background().await;
    let id = f.mirrored().await.repository_id;
    git(&f.origin, &["config", "user.name", "t"]);
    git(&f.origin, &["config", "user.email", "t@example.invalid"]);
    (f, id)
}

#[tokio::test]
async fn a_stack_of_six_is_shown_with_what_each_branch_adds() {
    let (f, id) = started().await;
    let mut below = "main".to_owned();
    for n in 1..=6 {
        let name = format!("s/{n}");
        stack(&f, &name, &below);
        below = name;
    }
    git(&f.origin, &["checkout", "-q", "main"]);
    commit(&f, "later");
    refresh(&f, &id).await;
    let (repository, branches) = read(&f, &id).await;
    let expected: Vec<String> = (1..=6)
        .map(|n| {
            let (parent, behind) = if n == 1 { ("main".to_owned(), 1) } else { (format!("s/{}", n - 1), 0) };
            format!("s/{n} < {parent} +1 -{behind}, base +{n} -1, 1 files +1 -0")
        })
        .collect();
    assert_eq!(lines(&f, &id).await, expected);
    let top = branches.iter().find(|b| b.name == "s/6").unwrap();
    assert_eq!((top.subject.as_str(), top.author.as_str()), ("add s/6", "t"));
    assert_eq!(top.commit, git(&f.origin, &["rev-parse", "s/6"]));
    let progress = repository.overview.unwrap();
    assert_eq!((progress.computing, progress.done, progress.total), (false, 7, 7));
    assert!(progress.complete_time.is_some() && progress.left_out.is_none());
}

#[tokio::test]
async fn a_squashed_middle_a_forced_push_and_a_deleted_branch_leave_the_stack_readable() {
    let (f, id) = started().await;
    stack(&f, "a", "main");
    stack(&f, "b", "a");
    stack(&f, "c", "b");
    stack(&f, "d", "c");
    refresh(&f, &id).await;
    // `a` is merged as one other commit.
    git(&f.origin, &["checkout", "-q", "main"]);
    git(&f.origin, &["merge", "-q", "--squash", "a"]);
    git(&f.origin, &["commit", "-q", "-m", "squashed a"]);
    refresh(&f, &id).await;
    let expected = [
        "a < main +1 -1, base +1 -1, 1 files +1 -0, merged",
        "b < a +1 -0, base +2 -1, 1 files +1 -0",
        "c < b +1 -0, base +3 -1, 1 files +1 -0",
        "d < c +1 -0, base +4 -1, 1 files +1 -0",
    ];
    assert_eq!(lines(&f, &id).await, expected);
    // `a` is deleted, and `b` pushed by force on to the new base.
    git(&f.origin, &["branch", "-q", "-D", "a"]);
    let old = git(&f.origin, &["rev-parse", "b"]);
    git(&f.origin, &["checkout", "-q", "-B", "b", "main"]);
    git(&f.origin, &["cherry-pick", &old]);
    refresh(&f, &id).await;
    let expected = [
        "b < main +1 -0, base +1 -0, 1 files +1 -0",
        "c < b +3 -2, base +3 -1, 1 files +1 -0",
        "d < c +1 -0, base +4 -1, 1 files +1 -0",
    ];
    assert_eq!(lines(&f, &id).await, expected);
    // It stays so when something else changes.
    stack(&f, "e", "main");
    refresh(&f, &id).await;
    assert_eq!(lines(&f, &id).await[..3], expected);
}

#[tokio::test]
async fn a_conflict_a_merged_branch_and_an_unrelated_one_are_shown_as_such() {
    let (f, id) = started().await;
    for (name, text) in [("mine", "mine\n"), ("same", "theirs\n")] {
        git(&f.origin, &["checkout", "-q", "-b", name, "main"]);
        std::fs::write(f.origin.join("README.md"), text).unwrap();
        git(&f.origin, &["commit", "-q", "-a", "-m", name]);
    }
    git(&f.origin, &["branch", "old", "main"]);
    git(&f.origin, &["checkout", "-q", "--orphan", "pages"]);
    git(&f.origin, &["commit", "-q", "-m", "pages"]);
    git(&f.origin, &["checkout", "-q", "main"]);
    std::fs::write(f.origin.join("README.md"), "theirs\n").unwrap();
    git(&f.origin, &["commit", "-q", "-a", "-m", "theirs"]);
    refresh(&f, &id).await;
    let expected = [
        "mine < main +1 -1, base +1 -1, 1 files +1 -1, conflicts 1 README.md",
        "old < main +0 -1, base +0 -1, 0 files +0 -0, merged",
        "pages <  ?, base +1 -0, unrelated",
        "same < main +1 -1, base +1 -1, 1 files +1 -1, merged",
    ];
    assert_eq!(lines(&f, &id).await, expected);
    // Nothing that a trial merge wrote is left.
    assert_eq!(std::fs::read_dir(&f.cx.serving.scratch).unwrap().count(), 0);
}

#[tokio::test]
async fn the_work_of_a_task_is_a_branch_until_the_remote_has_one_of_its_name() {
    let (f, id) = started().await;
    let ids = [TaskId::generate(&f.env.env), TaskId::generate(&f.env.env)];
    let (task, other) = (ids.iter().min().unwrap(), ids.iter().max().unwrap());
    let repository = f.cx.repository(&f.member, &id, foundry_proto::common::v1::Role::Viewer).await.unwrap();
    for task in [task, other] {
        let parts = f.work(&repository.to_proto(), task, &[("new.txt", "new\n")]);
        import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
    }
    let branches = read(&f, &id).await.1;
    let second = format!("foundry/{other}");
    let named: BTreeMap<_, _> = branches.iter().map(|b| (b.name.as_str(), b)).collect();
    assert_eq!(
        (&named["feat/work"].task_id, &named[second.as_str()].task_id),
        (&task.to_string(), &other.to_string())
    );
    assert_eq!(shown(named["feat/work"]), "feat/work < main +1 -0, base +1 -0, 1 files +1 -0, work");
    // Work that is undone leaves nothing of it.
    let base = git(&f.origin, &["rev-parse", "main"]);
    let parts = f.handed_over(&repository.to_proto(), other, &base, &base, Vec::new());
    import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    let branches = read(&f, &id).await.1;
    let undone = branches.iter().find(|b| b.name == second).unwrap();
    assert_eq!((&undone.commit, undone.from_base.map(|d| d.ahead)), (&base, Some(0)));
    assert!(!undone.merged, "there is nothing that could be");
    stack(&f, "feat/work", "main");
    refresh(&f, &id).await;
    let branches = read(&f, &id).await.1;
    let own = branches.iter().find(|b| b.name == "feat/work").unwrap();
    assert_eq!((own.work_only, own.task_id.as_str()), (false, task.as_str()));
    assert!(!own.work_commit.is_empty() && own.work_commit != own.commit);
}

#[tokio::test]
async fn only_what_has_changed_is_computed_again_and_sent_to_watchers() {
    let (f, id) = started().await;
    stack(&f, "a", "main");
    stack(&f, "b", "a");
    stack(&f, "x", "main");
    refresh(&f, &id).await;
    let view = crate::view::repositories::of_repository(&f.organization, &id.parse().unwrap());
    let head = f.cx.store.head(&Scope::organization(&f.organization)).await.unwrap();
    git(&f.origin, &["checkout", "-q", "a"]);
    commit(&f, "more");
    git(&f.origin, &["branch", "-q", "-D", "x"]);
    refresh(&f, &id).await;
    let snapshot = f.cx.store.snapshot().await.unwrap();
    let changed = view.changes_after(&snapshot, head, 1_000).await.unwrap().changes;
    let keys: std::collections::BTreeSet<_> =
        changed.iter().map(|c| c.key.as_str()).filter(|k| k.starts_with("branch/")).collect();
    assert_eq!(Vec::from_iter(keys), ["branch/a", "branch/b", "branch/x"]);
    assert!(changed.iter().any(|c| c.key == "branch/x" && c.op == foundry_watch::Op::Deleted));
    assert_eq!(lines(&f, &id).await[1], "b < a +1 -1, base +2 -0, 1 files +1 -0");
}

#[tokio::test]
async fn names_that_look_like_options_commands_or_paths_are_data() {
    let (f, id) = started().await;
    let names =
        ["x/$(touch${IFS}pwned)", "x/;id", "x/'\"", "x/é", "x/<script>", "x/--upload-pack=id", "refs-heads"];
    for name in names {
        git(&f.origin, &["branch", name, "main"]);
    }
    refresh(&f, &id).await;
    let branches = read(&f, &id).await.1;
    let found: Vec<&str> = branches.iter().map(|b| b.name.as_str()).collect();
    for name in names {
        assert!(found.contains(&name), "{name} in {found:?}");
    }
}

#[tokio::test]
async fn a_deleted_repository_leaves_no_overview_and_an_empty_one_has_an_empty_one() {
    let (f, id) = started().await;
    stack(&f, "a", "main");
    refresh(&f, &id).await;
    let view = crate::view::repositories::of_repository(&f.organization, &id.parse().unwrap());
    let head = f.cx.store.head(&Scope::organization(&f.organization)).await.unwrap();
    let request = DeleteRepositoryRequest { repository_id: id, ..Default::default() };
    delete_repository(&f.cx, &f.member, request).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    let snapshot = f.cx.store.snapshot().await.unwrap();
    let changed = view.changes_after(&snapshot, head, 1_000).await.unwrap().changes;
    let gone: Vec<_> =
        changed.iter().filter(|c| c.op == foundry_watch::Op::Deleted).map(|c| c.key.clone()).collect();
    assert!(gone.contains(&"branch/a".to_owned()), "{gone:?}");
    drop((changed, snapshot));
    assert!(f.cx.store.query("SELECT name FROM branch_overviews", &[]).await.unwrap().is_empty());
    std::fs::remove_dir_all(f.origin.join(".git")).unwrap();
    git(&f.origin, &["init", "-q"]);
    let again = crate::ops::create_repository::create_repository;
    let request =
        foundry_proto::repo::v1::CreateRepositoryRequest { request_id: String::new(), ..f.create() };
    let id = again(&f.cx, &f.member, request).await.unwrap().repository.unwrap().repository_id;
    f.engine.run_until_idle().await.unwrap();
    let (repository, branches) = read(&f, &id).await;
    assert!(branches.is_empty() && repository.overview.unwrap().complete_time.is_some());
}

#[tokio::test]
async fn a_page_of_the_overview_takes_two_statements_however_many_branches_there_are() {
    let (f, id) = started().await;
    let main = git(&f.origin, &["rev-parse", "main"]);
    let refs: String = (0..600).map(|n| format!("create refs/heads/many/{n} {main}\n")).collect();
    feed(&f, &["update-ref", "--stdin"], &refs);
    refresh(&f, &id).await;
    let before = f.cx.store.stats().statements;
    let request = GetRepositoryOverviewRequest { repository_id: id, page_size: 500, ..Default::default() };
    let answer = get_repository_overview(&f.cx, &f.member, request).await.unwrap();
    assert_eq!((answer.branches.len(), f.cx.store.stats().statements - before), (500, 2));
    assert!(!answer.next_page_token.is_empty());
}

#[tokio::test]
async fn ten_thousand_branches_are_shown_with_progress_in_pages_and_pieces_of_bounded_size() {
    let (f, id) = started().await;
    // Twenty heads, so that the comparison is that of a repository with many old branches.
    let mut heads = vec![git(&f.origin, &["rev-parse", "main"])];
    for n in 0..20 {
        let tree = format!("{}^{{tree}}", heads[0]);
        let commit = ["commit-tree", "-m", &format!("old {n}"), "-p", &heads[0], &tree].map(str::to_owned);
        heads.push(git(&f.origin, &commit.each_ref().map(String::as_str)));
    }
    let head = |n: usize| &heads[1 + n % 20];
    let refs: String = (0..9_990).map(|n| format!("create refs/heads/many/{n} {}\n", head(n))).collect();
    feed(&f, &["update-ref", "--stdin"], &refs);
    let before = (f.cx.store.stats(), f.cx.store.head(&Scope::organization(&f.organization)).await.unwrap());
    refresh(&f, &id).await;
    let (repository, _) = read(&f, &id).await;
    let progress = repository.overview.unwrap();
    assert_eq!((progress.computing, progress.done, progress.total), (false, 9_991, 9_991));
    assert_eq!((repository.branch_count, progress.left_out), (9_991, None));
    let spent = f.cx.store.stats();
    let (commits, statements) = (spent.requests - before.0.requests, spent.statements - before.0.statements);
    assert!(commits < 400 && statements < 2_000, "{commits} commits, {statements} statements");
    // Each page is read in two statements, and a watch that was away gets them in pieces.
    let (mut shown, mut page_token) = (0, String::new());
    loop {
        let statements = f.cx.store.stats().statements;
        let request = GetRepositoryOverviewRequest { repository_id: id.clone(), page_size: 500, page_token };
        let page = get_repository_overview(&f.cx, &f.member, request).await.unwrap();
        assert_eq!(f.cx.store.stats().statements - statements, 2);
        assert!(page.branches.len() <= 500 && prost::Message::encoded_len(&page) < 1 << 20);
        shown += page.branches.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(shown, 9_991);
    let view = crate::view::repositories::of_repository(&f.organization, &id.parse().unwrap());
    let snapshot = f.cx.store.snapshot().await.unwrap();
    let (mut after, mut seen) = (before.1, std::collections::HashSet::new());
    loop {
        let piece = view.changes_after(&snapshot, after, 1_000).await.unwrap();
        // Whole commits, which are bounded themselves.
        assert!(piece.changes.len() <= 2_000, "{}", piece.changes.len());
        seen.extend(piece.changes.into_iter().map(|c| c.key));
        match piece.complete_to {
            Some(to) => after = to,
            None => break,
        }
    }
    assert_eq!(seen.iter().filter(|key| key.starts_with("branch/many/")).count(), 9_990);
    // Names are looked up among all of them, and a push to one writes one.
    let names = crate::ops::list_branches::list_branches;
    let request = foundry_proto::repo::v1::ListBranchesRequest {
        repository_id: id.clone(),
        page_size: 100,
        ..Default::default()
    };
    assert_eq!(names(&f.cx, &f.member, request).await.unwrap().branches.len(), 100);
}

fn feed(f: &Fixture, args: &[&str], input: &str) {
    use std::io::Write as _;
    let mut child = std::process::Command::new("git")
        .args(args)
        .current_dir(&f.origin)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

struct Overviews(Fixture, String);

#[tonic::async_trait]
impl World for Overviews {
    fn store(&self) -> &Store {
        &self.0.cx.store
    }
    fn env(&self) -> &Env {
        &self.0.env.env
    }
    fn advance(&self, d: Duration) {
        self.0.env.clock.advance(d);
    }
    fn flows(&self) -> Vec<Binding> {
        crate::flow::bindings(&self.0.cx).into_iter().filter(|b| b.kind() == OVERVIEW.kind).collect()
    }
    async fn start(&self) -> std::result::Result<FlowId, Error> {
        start_wanted(&self.0.cx).await?;
        Ok(foundry_flow::unfinished(&self.0.cx.store, &OVERVIEW, &self.1).await?.remove(0))
    }
    async fn effects(&self) -> Vec<String> {
        std::fs::read_dir(&self.0.cx.serving.scratch).unwrap().map(|e| format!("{e:?}")).collect()
    }
    async fn shown(&self) -> String {
        let (repository, branches) = read(&self.0, &self.1).await;
        let progress = repository.overview.unwrap();
        let left_out = progress.left_out.map(|c| c.reason);
        let counts = (progress.computing, progress.done, progress.total, left_out);
        format!("{counts:?} {:?}", branches.iter().map(shown).collect::<Vec<_>>())
    }
}

#[tokio::test]
async fn an_overview_is_whole_whatever_interrupts_it() {
    prove(&OVERVIEW, || async {
        let f = Fixture::new().await;
        git(&f.origin, &["config", "user.name", "t"]);
        git(&f.origin, &["config", "user.email", "t@example.invalid"]);
        stack(&f, "a", "main");
        stack(&f, "b", "a");
        let id = f.mirrored().await.repository_id;
        Overviews(f, id)
    })
    .await;
}

#[tokio::test]
async fn a_change_while_an_overview_is_computed_is_followed_by_another_one() {
    let f = Fixture::new().await;
    let id: RepositoryId = f.mirrored().await.repository_id.parse().unwrap();
    start_wanted(&f.cx).await.unwrap();
    let mut ws = WriteSet::new();
    want(&f.cx, &mut ws, &id);
    f.cx.store.commit(ws).await.unwrap();
    // It is queued: nothing starts a second one beside it.
    assert!(!start_wanted(&f.cx).await.unwrap());
    assert_eq!(foundry_flow::unfinished(&f.cx.store, &OVERVIEW, id.as_str()).await.unwrap().len(), 1);
    f.in_the_background().await;
    let sql = "SELECT overview_wanted, overview_owner FROM repositories";
    let rows = f.cx.store.query(sql, &[]).await.unwrap();
    assert_eq!(
        (rows[0].bool("overview_wanted").unwrap(), rows[0].text("overview_owner").unwrap()),
        (false, "")
    );
}

#[tokio::test]
async fn an_overview_that_failed_is_computed_again_after_a_synchronization_that_finds_nothing_new() {
    let (f, id) = started().await;
    let mut ws = WriteSet::new();
    let set = [("overview_reason", "GIT_FAILED".into()), ("overview_message", "no".into())];
    ws.update_where(&REPOSITORIES, &[("repository_id", id.as_str().into())], &set);
    f.cx.store.commit(ws).await.unwrap();
    refresh(&f, &id).await;
    assert_eq!(read(&f, &id).await.0.overview.unwrap().left_out, None);
}

#[tokio::test]
async fn a_branch_on_a_very_long_one_is_as_far_ahead_of_it_as_git_counts() {
    let (f, id) = started().await;
    let from = git(&f.origin, &["rev-parse", "main"]);
    let mut input = format!("reset refs/heads/long\nfrom {from}\n\n");
    for n in 0..crate::domain::stack::MAX_WALK {
        input.push_str(&format!(
            "commit refs/heads/long\ncommitter t <t@example.invalid> {n} +0000\ndata 1\nx\n"
        ));
    }
    feed(&f, &["fast-import", "--quiet"], &input);
    stack(&f, "top", "long");
    refresh(&f, &id).await;
    let branches = read(&f, &id).await.1;
    let top = branches.iter().find(|b| b.name == "top").unwrap();
    assert_eq!((top.parent.as_str(), top.from_parent.map(|d| (d.ahead, d.behind))), ("long", Some((1, 0))));
}

#[tokio::test]
async fn an_overview_that_is_parked_does_not_keep_the_next_one_from_beginning() {
    let (f, id) = started().await;
    let flows = foundry_flow::list_by_subject(&f.cx.store, &id).await.unwrap();
    let flow = flows.into_iter().find(|flow| flow.kind == OVERVIEW.kind).unwrap();
    let mut ws = WriteSet::new();
    let key = [("repository_id", id.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("overview_owner", "an older run".into())]);
    f.cx.store.commit(ws).await.unwrap();
    let parked = FlowStatus { transition: Some(Transition::Parked), ..flow };
    f.cx.store.commit(Shown(f.env.env.clone()).project(&parked)).await.unwrap();
    let row = repositories::find(&f.cx.store, &id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.overview.owner, "");
}
