-- One open task on a branch: an ended one leaves its branch to others. That new branches avoid the names of ended tasks is up to
-- CreateTask.
DROP INDEX tasks_by_branch;
CREATE INDEX tasks_by_branch_name ON tasks (repository_id, branch);
CREATE UNIQUE INDEX tasks_open_by_branch ON tasks (repository_id, branch) WHERE lifecycle NOT IN ('archived', 'killed');
