CREATE TABLE store_meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE store_scopes (
    scope TEXT   NOT NULL PRIMARY KEY,
    rev   BIGINT NOT NULL,
    floor BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE store_tombstones (
    scope TEXT   NOT NULL,
    kind  TEXT   NOT NULL,
    key   TEXT   NOT NULL,
    rev   BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    PRIMARY KEY (scope, kind, key)
) WITHOUT ROWID;
CREATE INDEX store_tombstones_by_rev ON store_tombstones (scope, rev);
CREATE INDEX store_tombstones_by_time ON store_tombstones (at);

CREATE TABLE store_idempotency (
    organization_id TEXT   NOT NULL,
    caller          TEXT   NOT NULL,
    method          TEXT   NOT NULL,
    request_id      TEXT   NOT NULL,
    body_hash       BLOB   NOT NULL,
    response        BLOB   NOT NULL,
    rev             BIGINT NOT NULL,
    expires_at      BIGINT,
    PRIMARY KEY (organization_id, caller, method, request_id)
) WITHOUT ROWID;
CREATE INDEX store_idempotency_by_expiry ON store_idempotency (expires_at);

CREATE TABLE store_audit (
    organization_id TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    ordinal         BIGINT NOT NULL,
    at              BIGINT NOT NULL,
    actor           TEXT   NOT NULL,
    action          TEXT   NOT NULL,
    subject         TEXT   NOT NULL,
    detail_json     TEXT   NOT NULL,
    request_id      TEXT   NOT NULL,
    trace           TEXT   NOT NULL,
    PRIMARY KEY (organization_id, rev, ordinal)
) WITHOUT ROWID;
