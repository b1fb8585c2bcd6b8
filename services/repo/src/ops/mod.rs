//! One file per rpc.

pub mod check_branch_names;
pub mod create_repository;
pub mod delete_repository;
pub mod get_clone_source;
pub mod get_repository;
pub mod get_repository_overview;
pub mod get_work;
pub mod get_work_file;
pub mod get_work_patch;
pub mod import_work;
pub mod list_branches;
pub mod list_repositories;
pub mod list_work_changes;
pub mod list_work_tree;
pub mod release_clone;
pub mod request_repository_refresh;
pub mod scheduling;
pub mod serve_fetch;
pub mod stream_work_patch;
pub mod watch_repositories;
pub mod watch_repository;
