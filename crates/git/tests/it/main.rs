//! The engine against the real git, on repositories made for each test; no network but loopback.
//!
//! Small inputs that users of such systems ran into, and the tests that keep them right:
//!
//! | case | test |
//! |---|---|
//! | the agent removes or replaces `.git` | `notices::a_tree_without_its_repository_is_compared_as_it_is` |
//! | linked worktrees | `notices::a_linked_worktree_is_left_out_with_its_branch` |
//! | submodules | `submodules::a_submodule_is_checked_out_at_its_recorded_commit_and_that_is_no_change`, `notices::submodules_that_are_not_checked_out_are_named_with_what_is_below_them` |
//! | commits on other branches, stashes | `notices::commits_of_other_branches_and_stashes_are_named` |
//! | a rebase that stopped at conflicts | `notices::unfinished_operations_are_named_with_their_conflicts` |
//! | the base merged into the work | `merged::a_merge_a_rebase_and_a_fast_forward_leave_only_the_works_own_files` |
//! | other line endings | `notices::what_equals_the_checkout_is_no_change_and_other_line_endings_are_named` |
//! | one file that is too large to show | `serving::a_streamed_patch_is_the_whole_patch_and_gives_the_exact_tree` |
//! | build output without `.gitignore` | `notices::build_output_beside_a_change_is_named_with_the_directory_to_ignore` |
//! | an empty repository | `sources::work_in_a_repository_without_a_commit_begins_with_nothing` |
//! | a shallow source | `sources::mirrors_a_shallow_clone_and_takes_work_that_is_based_on_it` |
//! | tags | `sources::takes_the_tags_that_branches_reach_and_follows_them` |
//! | a branch and a tag of one name, a detached HEAD | `sources::a_branch_stays_itself_beside_a_tag_of_the_same_name_and_without_a_head` |
//! | sha256, odd names, a file that becomes a link | `mirrors::works_with_sha256_repositories`, `work::takes_trees_with_hostile_names_for_data`, `diffs::writes_a_type_change_as_one_file_whose_patch_applies` |
//! | Git LFS | `lfs::what_an_agent_makes_is_handed_over_uploaded_and_in_a_fresh_clone`, `notices::files_of_lfs_that_are_pointers_in_the_sandbox_are_counted` |

// Clippy's exception for tests does not reach the functions that the tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adopting;
mod bundles;
mod clones;
mod diffs;
mod hostile;
mod https;
mod ignored;
mod lab;
mod lfs;
mod limits;
mod merged;
mod mirrors;
mod notices;
mod publishing;
mod replay;
mod rounds;
mod serving;
mod sizes;
mod sources;
mod submodules;
mod trees;
mod work;
