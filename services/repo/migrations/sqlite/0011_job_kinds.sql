-- Jobs of several kinds, on several branches.
ALTER TABLE jobs ADD COLUMN settings BLOB NOT NULL DEFAULT x'';

-- The branches that each job may change; jobs on the same branch run one after another.
CREATE TABLE job_branches (
    job_id        TEXT   NOT NULL,
    branch        TEXT   NOT NULL,
    repository_id TEXT   NOT NULL,
    PRIMARY KEY (job_id, branch)
);
CREATE INDEX job_branches_by_branch ON job_branches (repository_id, branch);
