CREATE TABLE repositories (
    repository_id   TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    name            TEXT   NOT NULL,
    name_key        TEXT   NOT NULL,
    url             TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    condition       BYTEA   NOT NULL,
    default_branch  TEXT   NOT NULL,
    branch_count    BIGINT NOT NULL,
    sync_time       BIGINT,
    create_time     BIGINT NOT NULL,
    refresh_wanted  BIGINT NOT NULL
);
CREATE UNIQUE INDEX repositories_by_name ON repositories (organization_id, name_key);
CREATE INDEX repositories_by_rev ON repositories (organization_id, rev);

CREATE TABLE branches (
    repository_id TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    commit_id     TEXT   NOT NULL,
    commit_time   BIGINT NOT NULL,
    subject       TEXT   NOT NULL,
    PRIMARY KEY (repository_id, name)
);

CREATE TABLE works (
    task_id         TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    repository_id   TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    state           TEXT   NOT NULL,
    condition       BYTEA   NOT NULL,
    base_commit     TEXT   NOT NULL,
    head_commit     TEXT   NOT NULL,
    version         BIGINT NOT NULL,
    received        BIGINT NOT NULL,
    files_changed   BIGINT NOT NULL,
    additions       BIGINT NOT NULL,
    deletions       BIGINT NOT NULL,
    import_time     BIGINT
);
CREATE INDEX works_by_rev ON works (organization_id, rev);
CREATE INDEX works_by_repository ON works (repository_id);

CREATE TABLE work_changes (
    task_id  TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    path     TEXT   NOT NULL,
    position BIGINT NOT NULL,
    change   BYTEA   NOT NULL,
    patch    BYTEA   NOT NULL,
    PRIMARY KEY (task_id, version, path)
);
CREATE INDEX work_changes_by_position ON work_changes (task_id, version, position);
