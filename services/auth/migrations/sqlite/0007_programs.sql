-- What a session belongs to, for its user's list: the browser or program, how it signed in, and from where.
ALTER TABLE credentials ADD COLUMN device TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN means TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN provider TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN address TEXT NOT NULL DEFAULT '';

-- Sign-ins of programs, each confirmed by a user and used once. Of their secrets only the SHA-256.
CREATE TABLE program_sign_ins (
    program_sign_in_id TEXT   NOT NULL PRIMARY KEY,
    state              TEXT   NOT NULL,
    program            TEXT   NOT NULL,
    device             TEXT   NOT NULL,
    address            TEXT   NOT NULL,
    share              TEXT   NOT NULL,
    network            TEXT   NOT NULL,
    secret_hash        BLOB   NOT NULL,
    user_code_hash     BLOB,
    redirect_uri       TEXT   NOT NULL,
    redirect_state     TEXT   NOT NULL,
    code_hash          BLOB,
    user_id            TEXT   NOT NULL,
    poll_seconds       BIGINT NOT NULL,
    polled_at          BIGINT,
    created_at         BIGINT NOT NULL,
    expires_at         BIGINT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX program_sign_ins_by_user_code ON program_sign_ins (user_code_hash);
CREATE INDEX program_sign_ins_by_network ON program_sign_ins (state, share, network);
CREATE INDEX program_sign_ins_by_expiry ON program_sign_ins (expires_at);
