-- Stored files of messages and agents; the bytes are in the object store under organization and id.
-- pending: intended, perhaps not there yet. ready: there. removing: to be deleted, its bytes first.
CREATE TABLE attachments (
    attachment_id   TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    media_type      TEXT   NOT NULL,
    size            BIGINT NOT NULL,
    sha256          TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    session_id      TEXT   NOT NULL,
    create_time     BIGINT NOT NULL,
    -- When the sweep may remove it; NULL = it stays.
    expire_time     BIGINT
) WITHOUT ROWID;
CREATE INDEX attachments_by_organization ON attachments (organization_id, create_time, attachment_id);
CREATE INDEX attachments_of_session ON attachments (session_id) WHERE user_id = '';
CREATE INDEX attachments_expiring ON attachments (expire_time) WHERE expire_time IS NOT NULL;

-- The files of a prompt as a JSON list of ids; empty = none.
ALTER TABLE turns ADD COLUMN attachments TEXT NOT NULL DEFAULT '';
-- What the agent takes in prompts besides text, separated by commas: image, embedded.
ALTER TABLE agent_sessions ADD COLUMN prompt_kinds TEXT NOT NULL DEFAULT '';
