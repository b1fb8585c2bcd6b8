//! One file per rpc.

pub mod cancel_job;
pub mod check_branch_names;
pub mod create_repository;
pub mod create_repository_credential;
pub mod create_repository_webhook;
pub mod delete_repository;
pub mod delete_repository_credential;
pub mod delete_repository_webhook;
pub mod get_clone_source;
pub mod get_job;
pub mod get_repository;
pub mod get_repository_overview;
pub mod get_work;
pub mod get_work_file;
pub mod get_work_patch;
pub mod import_work;
pub mod list_branches;
pub mod list_jobs;
pub mod list_repositories;
pub mod list_repository_credentials;
pub mod list_repository_webhooks;
pub mod list_work_changes;
pub mod list_work_tree;
pub mod new_job;
pub mod publication;
pub mod publish_branch;
pub mod publish_pull_request;
pub mod receive_webhook;
pub mod release_clone;
pub mod request_repository_refresh;
pub mod run_repository_action;
pub mod scheduling;
pub mod serve_fetch;
pub mod stream_work_patch;
pub mod test_repository_credential;
pub mod undo_job;
pub mod watch_jobs;
pub mod watch_repositories;
pub mod watch_repository;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use foundry_authn::MethodPolicies;

    #[test]
    fn handlers_read_the_mirror_exactly_where_the_method_option_says_so() {
        let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
        let mut read = BTreeSet::new();
        for entry in std::fs::read_dir(ops).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let handler = source.split("#[cfg(test)]").next().unwrap();
            if ["mirror_of(", ".mirror(", "Comparison::"].iter().any(|call| handler.contains(call)) {
                read.insert(path.file_stem().unwrap().to_str().unwrap().replace('_', ""));
            }
        }
        let policies = MethodPolicies::shared().unwrap();
        let marked = policies.methods().filter(|m| m.policy.as_ref().is_some_and(|p| p.reads_mirror));
        let marked: BTreeSet<_> =
            marked.map(|m| m.path.rsplit('/').next().unwrap().to_ascii_lowercase()).collect();
        assert_eq!(read, marked);
    }
}
