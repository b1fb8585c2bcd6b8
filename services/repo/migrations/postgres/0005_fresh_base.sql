-- When the remote was listed for the last successful synchronization, in microseconds; 0 = not recorded. The digest of
-- what it listed. The commit on which work starts while the repository has none.
ALTER TABLE repositories ADD COLUMN listed_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN listing TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN empty_commit TEXT NOT NULL DEFAULT '';

-- When a sandbox first asked for the base that it clones: a synchronization after that makes the base fresh.
CREATE TABLE base_requests (
    sandbox_id    TEXT   NOT NULL PRIMARY KEY,
    repository_id TEXT   NOT NULL,
    request_time  BIGINT NOT NULL
);
CREATE INDEX base_requests_by_repository ON base_requests (repository_id);

-- The commit that the sandbox starts from, which a garbage collection keeps; empty = of an older version.
ALTER TABLE clones ADD COLUMN base_commit TEXT NOT NULL DEFAULT '';
