-- Pull requests of branches at the hosts of repositories, and how new they are.
CREATE TABLE pull_requests (
    repository_id   TEXT   NOT NULL,
    branch          TEXT   NOT NULL,
    organization_id TEXT   NOT NULL,
    number          BIGINT NOT NULL,
    pull_request    BLOB   NOT NULL,
    known           TEXT   NOT NULL,
    PRIMARY KEY (repository_id, branch)
);

ALTER TABLE repositories ADD COLUMN pull_sync BLOB NOT NULL DEFAULT x'';
ALTER TABLE repositories ADD COLUMN pull_next_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pull_polling BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pull_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pull_mark TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN pull_source TEXT NOT NULL DEFAULT '';
CREATE INDEX repositories_by_pull_time ON repositories (pull_next_time);
