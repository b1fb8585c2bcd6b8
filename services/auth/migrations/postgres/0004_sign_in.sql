-- Sign-ins at identity providers, each used once. Of their secrets only the SHA-256, or encrypted.
CREATE TABLE sign_ins (
    sign_in_id        TEXT   NOT NULL PRIMARY KEY,
    provider          TEXT   NOT NULL,
    state             TEXT   NOT NULL,
    state_hash        BYTEA   NOT NULL,
    binding_hash      BYTEA   NOT NULL,
    claim_hash        BYTEA   NOT NULL,
    purpose           TEXT   NOT NULL,
    organization_name TEXT   NOT NULL,
    redirect_uri      TEXT   NOT NULL,
    nonce             TEXT   NOT NULL,
    verifier          BYTEA,
    code              BYTEA,
    tokens            BYTEA,
    reason            TEXT   NOT NULL,
    message           TEXT   NOT NULL,
    user_id           TEXT   NOT NULL,
    organization_id   TEXT   NOT NULL,
    created_at        BIGINT NOT NULL,
    expires_at        BIGINT NOT NULL
);
CREATE UNIQUE INDEX sign_ins_by_state_hash ON sign_ins (state_hash);
CREATE INDEX sign_ins_by_expiry ON sign_ins (expires_at);

-- Who a user is at an identity provider: the immutable subject there, never the login or the e-mail address.
CREATE TABLE accounts (
    account_id   TEXT   NOT NULL PRIMARY KEY,
    issuer       TEXT   NOT NULL,
    subject      TEXT   NOT NULL,
    user_id      TEXT   NOT NULL,
    provider     TEXT   NOT NULL,
    login        TEXT   NOT NULL,
    display_name TEXT   NOT NULL,
    email        TEXT   NOT NULL,
    picture_url  TEXT   NOT NULL,
    admitted_by  TEXT   NOT NULL,
    token        BYTEA,
    created_at   BIGINT NOT NULL,
    seen_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX accounts_by_subject ON accounts (issuer, subject);
CREATE INDEX accounts_by_user ON accounts (user_id, account_id);
