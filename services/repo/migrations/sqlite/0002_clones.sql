-- The sandboxes that have been given a clone of a repository and are not destroyed yet.
CREATE TABLE clones (
    sandbox_id    TEXT NOT NULL PRIMARY KEY,
    task_id       TEXT NOT NULL,
    repository_id TEXT NOT NULL
);
CREATE INDEX clones_by_repository ON clones (repository_id);
