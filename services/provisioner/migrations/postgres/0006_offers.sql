-- What an agent offers in a session and what was chosen of it, JSON.
ALTER TABLE agent_sessions ADD COLUMN offer TEXT NOT NULL DEFAULT '{}';
-- The oldest form that waits to be filled in.
ALTER TABLE agent_sessions ADD COLUMN pending_elicitation BYTEA;

-- Forms that agents want filled in, and their answers.
CREATE TABLE elicitations (
    session_id     TEXT   NOT NULL,
    elicitation_id TEXT   NOT NULL,
    ordinal        BIGINT NOT NULL,
    acp_id         TEXT   NOT NULL,
    request        BYTEA   NOT NULL,
    state          TEXT   NOT NULL,
    answer         TEXT   NOT NULL,
    PRIMARY KEY (session_id, elicitation_id)
);
CREATE INDEX elicitations_pending ON elicitations (session_id, ordinal) WHERE state = 'pending';
