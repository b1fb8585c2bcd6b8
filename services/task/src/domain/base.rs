//! The base of a task whose request named none: it follows the repository's default branch.

use foundry_core::Timestamp;
use foundry_proto::common::v1::Condition;
use foundry_proto::provisioner::v1::Sandbox;
use foundry_proto::task::v1::Task;

/// The notice that a task starts on another branch than the one that was the default when it was created; kept as long
/// as its base is the same.
pub fn moved(before: &Task, sandbox: &Sandbox, now: Timestamp) -> Option<Condition> {
    let (old, new) = (&before.base_branch, &sandbox.base_branch);
    if !before.follows_default_branch || new.is_empty() {
        return None;
    }
    if old == new {
        let kept = before
            .base
            .as_ref()
            .filter(|base| Some(&base.commit) == sandbox.base.as_ref().map(|b| &b.commit));
        return kept?.notices.iter().find(|notice| notice.reason == "DEFAULT_BRANCH_CHANGED").cloned();
    }
    (!old.is_empty()).then(|| Condition {
        reason: "DEFAULT_BRANCH_CHANGED".to_owned(),
        message: format!("the task starts on {new}, now the repository's default branch in place of {old}"),
        since_time: Some(now.to_proto()),
        next_action: "if it should start on another branch, create it again with that branch as its base"
            .to_owned(),
        ..Condition::default()
    })
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::Base;

    use super::*;

    #[test]
    fn a_task_that_named_no_base_says_when_the_default_branch_has_changed() {
        let task = |base: &str, follows_default_branch| Task {
            base_branch: base.into(),
            follows_default_branch,
            ..Task::default()
        };
        let on = |branch: &str, commit: &str| Sandbox {
            base_branch: branch.into(),
            base: Some(Base { commit: commit.into(), ..Base::default() }),
            ..Sandbox::default()
        };
        let now = Timestamp::default();
        let notice = moved(&task("main", true), &on("trunk", "1"), now).unwrap();
        assert!(notice.message.contains("trunk") && notice.message.contains("main"), "{notice:?}");
        assert_eq!(moved(&task("main", false), &on("trunk", "1"), now), None);
        assert_eq!(moved(&task("", true), &on("trunk", "1"), now), None);
        assert_eq!(moved(&task("main", true), &on("", ""), now), None);
        // It stays as long as the base does.
        let base = Some(Base { commit: "1".into(), notices: vec![notice.clone()], ..Base::default() });
        let shown = Task { base, ..task("trunk", true) };
        assert_eq!(moved(&shown, &on("trunk", "1"), now), Some(notice));
        assert_eq!(moved(&shown, &on("trunk", "2"), now), None);
    }
}
