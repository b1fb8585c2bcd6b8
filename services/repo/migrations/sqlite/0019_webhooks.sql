-- Webhooks. A row goes with its repository (flow/delete.rs) or when a user deletes it.
CREATE TABLE repository_webhooks (
    webhook_id      TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    forge           TEXT   NOT NULL,
    -- Empty = all of the organization at the host.
    repository_id   TEXT   NOT NULL,
    host            TEXT   NOT NULL,
    create_time     BIGINT NOT NULL,
    -- The newest accepted delivery; 0 = none.
    last_time       BIGINT NOT NULL,
    last_event      TEXT   NOT NULL,
    last_result     TEXT   NOT NULL,
    -- What the host has reported about its repositories.
    notice          BLOB   NOT NULL,
    -- Encrypted, and bound to id and organization.
    secret          BLOB   NOT NULL
);
CREATE INDEX repository_webhooks_by_organization ON repository_webhooks (organization_id, webhook_id);
CREATE INDEX repository_webhooks_by_repository ON repository_webhooks (repository_id);

-- Accepted deliveries, by which repeated ones are recognized. Rows go after seven days (flow/forget_deliveries.rs).
CREATE TABLE webhook_deliveries (
    webhook_id   TEXT   NOT NULL,
    delivery_id  TEXT   NOT NULL,
    event        TEXT   NOT NULL,
    result       TEXT   NOT NULL,
    receive_time BIGINT NOT NULL,
    PRIMARY KEY (webhook_id, delivery_id)
);
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (receive_time);

-- Whether a webhook has announced branches that no synchronization since then has read; when one last did, 0 = none whose
-- announcements can be relied on.
ALTER TABLE repositories ADD COLUMN announced BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN announce_time BIGINT NOT NULL DEFAULT 0;
CREATE INDEX repositories_by_announced ON repositories (announced);
