CREATE TABLE organizations (
    organization_id TEXT   NOT NULL PRIMARY KEY,
    name            TEXT   NOT NULL,
    created_at      BIGINT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX organizations_by_name ON organizations (name);

CREATE TABLE users (
    user_id      TEXT   NOT NULL PRIMARY KEY,
    login        TEXT   NOT NULL,
    display_name TEXT   NOT NULL,
    created_at   BIGINT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX users_by_login ON users (login);

-- Who a user is at an identity provider: the immutable subject, never the login.
CREATE TABLE identities (
    provider TEXT NOT NULL,
    subject  TEXT NOT NULL,
    user_id  TEXT NOT NULL,
    PRIMARY KEY (provider, subject)
) WITHOUT ROWID;

CREATE TABLE memberships (
    organization_id TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    role            BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (organization_id, user_id)
) WITHOUT ROWID;
CREATE INDEX memberships_by_user ON memberships (user_id, organization_id);

-- Sessions and personal access tokens; of their secrets only the SHA-256.
CREATE TABLE credentials (
    credential_id   TEXT   NOT NULL PRIMARY KEY,
    kind            TEXT   NOT NULL,
    secret_hash     BLOB   NOT NULL,
    user_id         TEXT   NOT NULL,
    organization_id TEXT,
    name            TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT,
    revoked_at      BIGINT,
    last_used_at    BIGINT
) WITHOUT ROWID;
CREATE UNIQUE INDEX credentials_by_secret ON credentials (secret_hash);
CREATE INDEX credentials_by_user ON credentials (user_id, kind, credential_id);
CREATE INDEX credentials_by_expiry ON credentials (expires_at) WHERE revoked_at IS NULL;

CREATE TABLE revocations (
    key        TEXT   NOT NULL PRIMARY KEY,
    revoked_at BIGINT NOT NULL,
    keep_until BIGINT NOT NULL,
    rev        BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX revocations_by_rev ON revocations (rev);
CREATE INDEX revocations_by_end ON revocations (keep_until);
