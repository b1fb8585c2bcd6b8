-- What is done to branches of a remote, and where works are published.
CREATE TABLE jobs (
    job_id          TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    repository_id   TEXT   NOT NULL,
    task_id         TEXT   NOT NULL,
    flow_id         TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    created_rev     BIGINT NOT NULL,
    kind            TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    condition       BYTEA  NOT NULL,
    branch          TEXT   NOT NULL,
    new_commit      TEXT   NOT NULL,
    branches        BYTEA  NOT NULL,
    publish         BYTEA  NOT NULL,
    created_by      TEXT   NOT NULL,
    create_time     BIGINT NOT NULL,
    end_time        BIGINT
);
CREATE INDEX jobs_by_rev ON jobs (organization_id, rev);
CREATE INDEX jobs_by_repository ON jobs (repository_id, created_rev);
CREATE INDEX jobs_by_branch ON jobs (repository_id, branch, created_rev);

ALTER TABLE works ADD COLUMN publication BYTEA NOT NULL DEFAULT '';
