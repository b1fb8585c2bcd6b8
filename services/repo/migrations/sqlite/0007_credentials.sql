-- Credentials for private repositories. A row goes with its repository (flow/delete.rs) or when a user deletes it.
CREATE TABLE repository_credentials (
    credential_id   TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    -- Id of the repository, or the origin for all of the organization there.
    target          TEXT   NOT NULL,
    repository_id   TEXT   NOT NULL,
    origin          TEXT   NOT NULL,
    kind            TEXT   NOT NULL,
    username        TEXT   NOT NULL,
    hint            TEXT   NOT NULL,
    public_key      TEXT   NOT NULL,
    host_keys       TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    condition       BLOB   NOT NULL,
    test_time       BIGINT,
    create_time     BIGINT NOT NULL,
    -- Encrypted, and bound to id, organization, target and origin.
    secret          BLOB   NOT NULL
);
CREATE UNIQUE INDEX repository_credentials_by_target ON repository_credentials (organization_id, target);
CREATE INDEX repository_credentials_by_rev ON repository_credentials (organization_id, rev);
