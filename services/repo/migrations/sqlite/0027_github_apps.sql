-- The installation of a GitHub App whose private key is the secret; empty and 0 for other kinds of credentials.
ALTER TABLE repository_credentials ADD COLUMN app_id TEXT NOT NULL DEFAULT '';
ALTER TABLE repository_credentials ADD COLUMN installation_id BIGINT NOT NULL DEFAULT 0;
