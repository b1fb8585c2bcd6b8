//! Reviews: comments on the changes of a task, sent as one message, and viewed files.

use foundry_authn::{Caller, UserCaller};
use foundry_core::{Code, Result, ReviewCommentId, TaskId, Timestamp, UserId};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::user_state_item::Item;
use foundry_proto::task::v1::*;
use foundry_watch::Op;
use foundry_watch_hub::View as _;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use prost::Message as _;

use crate::consume::forget_comments;
use crate::ops::{
    delete_review_comment, get_queued_message, kill_task, list_review_comments, mark_file_viewed,
    put_review_comment, submit_review, update_draft,
};
use crate::store::user_state::Owner;
use crate::store::{reviews, user_state};
use crate::testing::{Running, Tenant, World};
use crate::view;

const PATCH: &str = "@@ -1,2 +1,3 @@\n one\n-two\n+2\n+three\n";

/// A task with version 1 of its changes, `a.txt` among them.
struct Reviewed {
    world: World,
    running: Running,
    tenant: Tenant,
    task: String,
    session: String,
}

impl Reviewed {
    fn new() -> LocalBoxFuture<'static, Self> {
        let made = async {
            let world = World::new().await;
            let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
            let created = running.create(&tenant, "x").await;
            let (task, session) = (created.task.unwrap().task_id, created.session.unwrap().session_id);
            world.repo.set_patch("a.txt", "a1", PATCH, 1);
            let reviewed = Self { world, running, tenant, task, session };
            reviewed.import(1).await;
            reviewed
        };
        made.boxed_local()
    }

    async fn import(&self, version: i64) {
        self.world.repo.import(&self.tenant.organization, &self.task, version).await;
        let shows = |t: &GetTaskResponse| {
            t.task.as_ref().and_then(|t| t.changes.as_ref()).is_some_and(|c| c.version == version)
        };
        self.running.until(&self.tenant, &self.task, shows).await;
    }

    fn owner(&self, caller: &Caller) -> Owner {
        Owner::of(self.tenant.organization.clone(), caller).unwrap()
    }

    fn id(&self) -> String {
        ReviewCommentId::generate(&self.world.env).to_string()
    }

    fn on(&self, path: &str, side: ReviewSide, start_line: i32, text: &str) -> PutReviewCommentRequest {
        PutReviewCommentRequest {
            task_id: self.task.clone(),
            comment_id: self.id(),
            path: path.into(),
            side: side.into(),
            start_line,
            text: text.into(),
            ..PutReviewCommentRequest::default()
        }
    }

    async fn put(&self, request: PutReviewCommentRequest) -> Result<PutReviewCommentResponse> {
        put_review_comment::put_review_comment(&self.running.cx, &self.tenant.caller, request).await
    }

    async fn listed(&self, caller: &Caller) -> Vec<PlacedReviewComment> {
        let request = ListReviewCommentsRequest { task_id: self.task.clone() };
        list_review_comments::list_review_comments(&self.running.cx, caller, request).await.unwrap().comments
    }

    async fn send(&self, request_id: &str, text: &str) -> Result<SubmitReviewResponse> {
        let request = SubmitReviewRequest {
            request_id: request_id.into(),
            task_id: self.task.clone(),
            session_id: self.session.clone(),
            text: text.into(),
        };
        submit_review::submit_review(&self.running.cx, &self.tenant.caller, request).await
    }

    async fn text_of(&self, message_id: &str) -> String {
        let request = GetQueuedMessageRequest { message_id: message_id.into() };
        let cx = &self.running.cx;
        get_queued_message::get_queued_message(cx, &self.tenant.caller, request).await.unwrap().text
    }

    /// Keys and revisions of what the watch of the review shows after a revision.
    async fn shown(&self, after: i64) -> Vec<(String, i64, bool)> {
        let task: TaskId = self.task.parse().unwrap();
        let view = view::user_state::of_review(&self.owner(&self.tenant.caller), &task);
        let snapshot = self.running.cx.store.snapshot().await.unwrap();
        let found = view.changes_after(&snapshot, after, 100).await.unwrap();
        found.changes.iter().map(|c| (c.key.clone(), c.version, matches!(c.op, Op::Upsert(_)))).collect()
    }

    /// Another member of the organization.
    fn colleague(&self) -> Caller {
        Caller::user(UserCaller {
            user_id: UserId::generate(&self.world.env),
            credential_id: "crd_2".into(),
            organizations: [(self.tenant.organization.clone(), Role::Member)].into(),
            revocations_rev: 0,
            expires_at: Timestamp::from_micros(i64::MAX),
        })
    }
}

#[tokio::test]
async fn a_comment_quotes_its_lines_and_is_changed_and_removed() {
    let r = Reviewed::new().await;
    let request = PutReviewCommentRequest { end_line: 3, ..r.on("a.txt", ReviewSide::New, 2, "Why?") };
    let first = r.put(request.clone()).await.unwrap();
    let comment = first.comment.clone().unwrap();
    assert_eq!((comment.quote.as_str(), comment.version, comment.content.as_str()), ("2\nthree", 1, "a1"));
    assert_eq!(r.put(request.clone()).await.unwrap().rev, first.rev, "the same again is no write");
    let changed =
        PutReviewCommentRequest { text: "Really?".into(), path: "elsewhere".into(), ..request.clone() };
    let changed = r.put(changed).await.unwrap();
    let after = changed.comment.unwrap();
    assert_eq!(
        (after.text.as_str(), after.path.as_str(), after.quote.as_str()),
        ("Really?", "a.txt", "2\nthree")
    );
    assert_eq!(r.shown(0).await, [(format!("comment/{}", comment.comment_id), changed.rev, true)]);
    assert_eq!(r.listed(&r.colleague()).await, [], "a draft is its writer's alone");
    let old = r.put(r.on("a.txt", ReviewSide::Old, 2, "x")).await.unwrap().comment.unwrap();
    assert_eq!(old.quote, "two");
    let gone = DeleteReviewCommentRequest { task_id: r.task.clone(), comment_id: comment.comment_id.clone() };
    let cx = &r.running.cx;
    let delete = async |caller: &Caller| {
        delete_review_comment::delete_review_comment(cx, caller, gone.clone()).await.unwrap().rev
    };
    delete(&r.colleague()).await;
    assert_eq!(r.listed(&r.tenant.caller).await.len(), 2, "not a colleague's to remove");
    let rev = delete(&r.tenant.caller).await;
    assert_eq!(delete(&r.tenant.caller).await, rev, "no write");
    assert_eq!(r.shown(rev - 1).await, [(format!("comment/{}", comment.comment_id), rev, false)]);
    assert_eq!(r.listed(&r.tenant.caller).await.len(), 1);
    r.running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_commented_on_is_refused_with_its_reason_and_writes_nothing() {
    let r = Reviewed::new().await;
    r.world.repo.set_patch("logo.bin", "l1", "Binary files differ\n", 1);
    let new = |line| r.on("a.txt", ReviewSide::New, line, "x");
    let of = |content: &str| PutReviewCommentRequest { content: content.into(), ..new(2) };
    for (request, code, reason) in [
        (new(9), Code::FailedPrecondition, "REVIEW_LINES_NOT_SHOWN"),
        (
            PutReviewCommentRequest { end_line: 9, ..new(2) },
            Code::FailedPrecondition,
            "REVIEW_LINES_NOT_SHOWN",
        ),
        (of("a0"), Code::FailedPrecondition, "REVIEW_FILE_CHANGED"),
        (r.on("logo.bin", ReviewSide::New, 1, "x"), Code::FailedPrecondition, "REVIEW_WITHOUT_LINES"),
        (r.on("unchanged.txt", ReviewSide::New, 1, "x"), Code::FailedPrecondition, "REVIEW_WITHOUT_LINES"),
        (new(0), Code::InvalidArgument, "INVALID_FIELD"),
        (PutReviewCommentRequest { end_line: 1, ..new(2) }, Code::InvalidArgument, "INVALID_FIELD"),
        (PutReviewCommentRequest { end_line: 502, ..new(2) }, Code::InvalidArgument, "INVALID_FIELD"),
        (
            PutReviewCommentRequest { end_line: 501, ..new(2) },
            Code::FailedPrecondition,
            "REVIEW_LINES_NOT_SHOWN",
        ),
        (r.on("a.txt", ReviewSide::File, 1, "x"), Code::InvalidArgument, "INVALID_FIELD"),
        (r.on("a.txt", ReviewSide::Unspecified, 1, "x"), Code::InvalidArgument, "INVALID_FIELD"),
        (r.on("", ReviewSide::File, 0, "x"), Code::InvalidArgument, "INVALID_FIELD"),
        (r.on(&"x".repeat(1025), ReviewSide::File, 0, "x"), Code::InvalidArgument, "INVALID_FIELD"),
        (r.on("a.txt", ReviewSide::File, 0, " \n"), Code::InvalidArgument, "INVALID_FIELD"),
        (r.on("a.txt", ReviewSide::File, 0, &"x".repeat(8193)), Code::InvalidArgument, "INVALID_FIELD"),
        (
            PutReviewCommentRequest { comment_id: "rvc_1".into(), ..new(2) },
            Code::InvalidArgument,
            "INVALID_FIELD",
        ),
    ] {
        let shown = format!("{request:?}");
        let e = r.put(request).await.unwrap_err();
        assert_eq!((e.code(), e.reason()), (code, reason), "{shown:.200}");
    }
    assert_eq!(r.listed(&r.tenant.caller).await, []);
    assert_eq!(r.send("1", " ").await.unwrap_err().reason(), "REVIEW_EMPTY");
    for path in ["logo.bin", "unchanged.txt", "a.txt"] {
        r.put(r.on(path, ReviewSide::File, 0, &"x".repeat(8192))).await.unwrap();
    }
    r.put(PutReviewCommentRequest { content: "a1".into(), ..new(2) }).await.unwrap();
    r.running.stop().await;
}

#[tokio::test]
async fn two_hundred_comments_are_kept_and_a_review_that_is_no_message_is_refused_whole() {
    let r = Reviewed::new().await;
    for _ in 0..200 {
        r.put(r.on("a.txt", ReviewSide::File, 0, &"x".repeat(1400))).await.unwrap();
    }
    let e = r.put(r.on("a.txt", ReviewSide::File, 0, "x")).await.unwrap_err();
    assert_eq!((e.code(), e.reason()), (Code::ResourceExhausted, "LIMIT_REACHED"));
    assert_eq!(r.send("1", "").await.unwrap_err().reason(), "REVIEW_TOO_LARGE");
    assert_eq!(r.listed(&r.tenant.caller).await.len(), 200);
    for placed in &r.listed(&r.tenant.caller).await[..40] {
        let text = "short".to_owned();
        let comment_id = placed.comment.clone().unwrap().comment_id;
        r.put(PutReviewCommentRequest { comment_id, text, ..r.on("a.txt", ReviewSide::File, 0, "") })
            .await
            .unwrap();
    }
    assert_eq!(r.send("1", "").await.unwrap().comment_count, 200, "the id of a refused request is free");
    r.running.stop().await;
}

#[tokio::test]
async fn a_review_is_sent_as_one_message_in_one_commit_and_a_repeat_sends_nothing() {
    let r = Reviewed::new().await;
    r.put(r.on("a.txt", ReviewSide::New, 3, "Say why.")).await.unwrap();
    r.put(r.on("a.txt", ReviewSide::Old, 2, "Keep it.")).await.unwrap();
    let subject = format!("review/{}", r.task);
    let organization_id = r.tenant.organization.to_string();
    let draft = UpdateDraftRequest { organization_id, subject: subject.clone(), text: "Almost done.".into() };
    update_draft::update_draft(&r.running.cx, &r.tenant.caller, draft).await.unwrap();
    let owner = r.owner(&r.tenant.caller);
    let before = r.running.cx.store.head(&owner.scope()).await.unwrap();
    let sent = r.send("once", "Almost done.").await.unwrap();
    let message = sent.message.clone().unwrap();
    assert_eq!(sent.comment_count, 2);
    assert_eq!(
        r.text_of(&message.message_id).await,
        "Review of the changes (version 1): 2 comments\n\nAlmost done.\n\n\
         1. `a.txt`, line 2 before the change\n> two\n\nKeep it.\n\n\
         2. `a.txt`, line 3\n> three\n\nSay why."
    );
    assert_eq!(r.listed(&r.tenant.caller).await, []);
    let draft = crate::store::user_state::draft(&r.running.cx.store, &owner, &subject).await.unwrap();
    assert_eq!(draft, None);
    let after = r.running.cx.store.head(&owner.scope()).await.unwrap();
    assert_eq!(after, before + 1, "comments and draft went in one commit");
    assert_eq!(r.shown(before).await.iter().filter(|(_, rev, is)| *rev == after && !is).count(), 2);
    let again = r.send("once", "Almost done.").await.unwrap();
    assert_eq!((again.message, again.rev), (sent.message, sent.rev));
    let e = r.send("once", "Other words.").await.unwrap_err();
    assert_eq!(e.code(), Code::InvalidArgument);
    let foreign = SubmitReviewRequest {
        task_id: r.task.clone(),
        session_id: foundry_core::SessionId::generate(&r.world.env).to_string(),
        text: "x".into(),
        ..SubmitReviewRequest::default()
    };
    let e = submit_review::submit_review(&r.running.cx, &r.tenant.caller, foreign).await.unwrap_err();
    assert_eq!(e.code(), Code::NotFound);
    r.running.stop().await;
}

#[tokio::test]
async fn comments_are_placed_in_newer_changes_and_say_when_their_lines_are_gone() {
    let r = Reviewed::new().await;
    r.world.repo.set_patch("b.txt", "b1", PATCH, 1);
    r.world.repo.set_patch("a.txt", "a1", "@@ -1,2 +1,3 @@\n one\n-two\n+2\n+three of them\n", 1);
    for (path, line) in [("a.txt", 2), ("a.txt", 3), ("b.txt", 3)] {
        r.put(r.on(path, ReviewSide::New, line, "x")).await.unwrap();
    }
    r.put(r.on("a.txt", ReviewSide::File, 0, "all")).await.unwrap();
    // Only `a.txt` is another one in version 2.
    r.world.repo.set_patch("a.txt", "a2", "@@ -1,2 +1,4 @@\n one\n-two\n+new\n+TWO\n+three of them\n", 2);
    r.import(2).await;
    let places: Vec<_> = r.listed(&r.tenant.caller).await.iter().map(|p| (p.place(), p.start_line)).collect();
    let (same, moved, outdated) = (ReviewPlace::Same, ReviewPlace::Moved, ReviewPlace::Outdated);
    assert_eq!(places, [(same, 0), (outdated, 0), (moved, 4), (same, 3)]);
    r.world.repo.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let places: Vec<_> = r.listed(&r.tenant.caller).await.iter().map(|p| (p.place(), p.start_line)).collect();
    let unknown = ReviewPlace::Unknown;
    assert_eq!(places, [(same, 0), (unknown, 0), (unknown, 0), (unknown, 0)]);
    r.world.repo.down.store(false, std::sync::atomic::Ordering::SeqCst);
    let sent = r.send("1", "").await.unwrap().message.unwrap();
    let text = r.text_of(&sent.message_id).await;
    assert!(
        text.contains("2. `a.txt`, line 2 as of version 1, not among the changes any more\n> 2\n"),
        "{text}"
    );
    assert!(
        text.contains("3. `a.txt`, line 4 (line 3 when the comment was made)\n> three of them\n"),
        "{text}"
    );
    r.running.stop().await;
}

#[tokio::test]
async fn a_review_is_sent_with_the_versions_of_its_comments_while_their_places_cannot_be_looked_up() {
    let r = Reviewed::new().await;
    r.put(r.on("a.txt", ReviewSide::New, 2, "x")).await.unwrap();
    r.import(2).await;
    r.world.repo.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let sent = r.send("1", "").await.unwrap().message.unwrap();
    let text = r.text_of(&sent.message_id).await;
    assert!(text.contains("1. `a.txt`, line 2 as of version 1\n> 2\n"), "{text}");
    r.running.stop().await;
}

#[tokio::test]
async fn lines_before_the_change_are_looked_for_in_the_comparison_in_which_they_were_shown() {
    let r = Reviewed::new().await;
    let whole = PutReviewCommentRequest { whole: true, ..r.on("a.txt", ReviewSide::Old, 2, "x") };
    let kept = r.put(whole).await.unwrap().comment.unwrap();
    assert!(kept.whole && r.listed(&r.tenant.caller).await[0].comment.as_ref().unwrap().whole);
    let since = PutReviewCommentRequest { since_version: 1, ..r.on("a.txt", ReviewSide::Old, 1, "y") };
    r.put(since).await.unwrap();
    r.import(2).await;
    r.world.repo.asked.lock().unwrap().clear();
    r.listed(&r.tenant.caller).await;
    let mut asked = r.world.repo.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, [(0, true), (1, false)]);
    r.running.stop().await;
}

#[tokio::test]
async fn a_change_of_a_comment_that_is_gone_makes_no_other_one() {
    let r = Reviewed::new().await;
    let gone =
        PutReviewCommentRequest { existing: true, ..r.on("a.txt", ReviewSide::New, 2, "changed too late") };
    assert_eq!(r.put(gone).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(r.listed(&r.tenant.caller).await, []);
    r.running.stop().await;
}

#[tokio::test]
async fn a_summary_that_was_written_elsewhere_stays_when_a_review_is_sent() {
    let r = Reviewed::new().await;
    let subject = format!("review/{}", r.task);
    let draft = async || user_state::draft(&r.running.cx.store, &r.owner(&r.tenant.caller), &subject).await;
    for (sent, left) in [("other words", true), ("mine", false)] {
        let request = UpdateDraftRequest {
            organization_id: r.tenant.organization.to_string(),
            subject: subject.clone(),
            text: "mine".into(),
        };
        update_draft::update_draft(&r.running.cx, &r.tenant.caller, request).await.unwrap();
        r.send(sent, sent).await.unwrap();
        assert_eq!(draft().await.unwrap().is_some(), left, "{sent}");
    }
    r.running.stop().await;
}

#[tokio::test]
async fn a_comment_that_another_tab_writes_while_the_review_is_sent_is_not_lost() {
    let r = Reviewed::new().await;
    let first = r.on("a.txt", ReviewSide::New, 2, "first");
    r.put(first.clone()).await.unwrap();
    let later = r.on("a.txt", ReviewSide::New, 3, "later");
    let changed = PutReviewCommentRequest { text: "changed".into(), ..first };
    let (sent, ..) = tokio::join!(r.send("1", ""), r.put(later), r.put(changed));
    let sent = sent.unwrap();
    let text = r.text_of(&sent.message.unwrap().message_id).await;
    let left = r.listed(&r.tenant.caller).await;
    for word in ["changed", "later"] {
        let in_message = text.contains(word);
        let kept = left.iter().any(|p| p.comment.as_ref().unwrap().text == word);
        assert!(in_message != kept, "{word} once: {text} {left:?}");
    }
    r.running.stop().await;
}

#[tokio::test]
async fn a_file_is_viewed_as_long_as_its_content_is_the_one_that_was_seen() {
    let r = Reviewed::new().await;
    let mark = async |caller: &Caller, content: &str, viewed| {
        let (task_id, path) = (r.task.clone(), "a.txt".to_owned());
        let request = MarkFileViewedRequest { task_id, path, content: content.into(), viewed };
        mark_file_viewed::mark_file_viewed(&r.running.cx, caller, request).await
    };
    let me = &r.tenant.caller;
    assert_eq!(mark(me, "", false).await.unwrap().rev, 0, "nothing to remove");
    assert_eq!(mark(me, "a1", true).await.unwrap().rev, 1);
    assert_eq!(mark(me, "a1", true).await.unwrap().rev, 1, "no write");
    assert_eq!(mark(me, "a2", true).await.unwrap().rev, 2);
    mark(&r.colleague(), "a1", true).await.unwrap();
    assert_eq!(r.shown(0).await, [("viewed/a.txt".to_owned(), 2, true)]);
    assert_eq!(mark(me, "", true).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(mark(me, "", false).await.unwrap().rev, 3);
    assert_eq!(r.shown(2).await, [("viewed/a.txt".to_owned(), 3, false)]);
    // The content is in the list of changes; a file of an import that did not record it is another one in each version.
    let request = ListFileChangesRequest { task_id: r.task.clone(), ..Default::default() };
    let listed = crate::ops::list_file_changes::list_file_changes(&r.running.cx, me, request).await.unwrap();
    assert_eq!(listed.files[0].content, "version 1");
    r.running.stop().await;
}

#[tokio::test]
async fn reviews_go_with_their_repository_and_comments_with_the_end_of_their_task() {
    let r = Reviewed::new().await;
    let colleague = r.colleague();
    let request = r.on("a.txt", ReviewSide::New, 2, "x");
    put_review_comment::put_review_comment(&r.running.cx, &colleague, request).await.unwrap();
    let mark = MarkFileViewedRequest {
        task_id: r.task.clone(),
        path: "a.txt".into(),
        content: "a1".into(),
        viewed: true,
    };
    mark_file_viewed::mark_file_viewed(&r.running.cx, &colleague, mark).await.unwrap();
    let owner = r.owner(&colleague);
    let task: TaskId = r.task.parse().unwrap();
    let left = async || {
        let store = &r.running.cx.store;
        let comments = reviews::comments(store, &owner, &task).await.unwrap().len();
        (comments, reviews::viewed(store, &owner, &task, "a.txt").await.unwrap().is_some())
    };
    let subject = format!("review/{}", r.task);
    let organization_id = r.tenant.organization.to_string();
    let draft = UpdateDraftRequest { organization_id, subject: subject.clone(), text: "Almost".into() };
    update_draft::update_draft(&r.running.cx, &colleague, draft).await.unwrap();
    let drafted = async || user_state::draft(&r.running.cx.store, &owner, &subject).await.unwrap().is_some();
    assert_eq!((left().await, drafted().await), ((1, true), true));
    let kill = KillTaskRequest { request_id: String::new(), task_id: r.task.clone() };
    kill_task::kill_task(&r.running.cx, &r.tenant.caller, kill).await.unwrap();
    r.running.until(&r.tenant, &r.task, |t| t.task.as_ref().unwrap().state() == TaskState::Killed).await;
    forget_comments(&r.running.cx).await.unwrap();
    assert_eq!((left().await, drafted().await), ((0, true), false), "what was viewed can still be seen");
    let e = r.put(r.on("a.txt", ReviewSide::New, 2, "x")).await.unwrap_err();
    assert_eq!(e.reason(), "TASK_KILLED");
    r.world.repo.remove(&r.tenant.organization, &r.tenant.repository).await;
    let mut hint = r.running.cx.store.subscribe(&owner.scope());
    while left().await.1 {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(50), hint.changed()).await;
    }
    r.running.stop().await;
}

#[test]
fn the_largest_comment_fits_a_watch() {
    let comment = ReviewComment {
        comment_id: "rvc_0123456789abcdef0123456789abcdef".into(),
        task_id: "task_0123456789abcdef0123456789abcdef".into(),
        path: "x".repeat(1024),
        content: "x".repeat(100),
        quote: "x".repeat(3072),
        before: "x".repeat(603),
        after: "x".repeat(603),
        text: "x".repeat(8192),
        ..ReviewComment::default()
    };
    let item = UserStateItem { item: Some(Item::ReviewComment(comment)) };
    assert!(item.encoded_len() < 16 << 10, "{}", item.encoded_len());
}
