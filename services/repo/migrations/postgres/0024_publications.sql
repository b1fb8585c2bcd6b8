-- Where each task has published its work: the last publication to each branch.
CREATE TABLE publications (
    task_id       TEXT NOT NULL,
    branch        TEXT NOT NULL,
    repository_id TEXT NOT NULL,
    publication   BYTEA NOT NULL,
    PRIMARY KEY (task_id, branch)
);
CREATE INDEX publications_by_repository ON publications (repository_id);
