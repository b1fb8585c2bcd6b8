-- What the last successful synchronization was started for, and the one that follows the running one. Whether one runs
-- that was due in the background, and when the next one is due (0 = to be planned). Failures since the last success, and
-- since when and why. The host that is not asked for a while, and since when it does not answer. When the repository was last used.
ALTER TABLE repositories ADD COLUMN sync_source TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN wanted_source TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN polling BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN next_sync_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN sync_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN stale_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN stale_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN stale_message TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN held_host TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN held_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN use_time BIGINT NOT NULL DEFAULT 0;
CREATE INDEX repositories_by_next_sync ON repositories (polling, next_sync_time);

-- Whether something has changed that the overview does not show yet; the flow that computes it (empty = none); how far it is.
ALTER TABLE repositories ADD COLUMN overview_wanted BIGINT NOT NULL DEFAULT 1;
ALTER TABLE repositories ADD COLUMN overview_owner TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN overview_done BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN overview_total BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN overview_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN overview_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE repositories ADD COLUMN overview_message TEXT NOT NULL DEFAULT '';
CREATE INDEX repositories_by_overview ON repositories (overview_wanted, overview_owner);

-- The branches of a repository with their places in their stacks. Rows go with their branches and with the repository.
CREATE TABLE branch_overviews (
    repository_id   TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    organization_id TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    inputs          TEXT   NOT NULL,
    parent          TEXT   NOT NULL,
    fork            TEXT   NOT NULL,
    overview        BLOB   NOT NULL,
    PRIMARY KEY (repository_id, name)
);
CREATE INDEX branch_overviews_by_rev ON branch_overviews (organization_id, repository_id, rev);

-- The hosts of remotes that have failed since they last answered.
CREATE TABLE remote_hosts (
    host          TEXT   NOT NULL PRIMARY KEY,
    failures      BIGINT NOT NULL,
    failing_since BIGINT NOT NULL,
    asked_next    BIGINT NOT NULL
);
