-- What the model provider last refused a session; NULL when its last call succeeded.
ALTER TABLE agent_sessions ADD COLUMN model_condition BYTEA;

-- The model provider that the agent of a session was started with; empty when it has none.
ALTER TABLE agent_sessions ADD COLUMN model_provider_id TEXT NOT NULL DEFAULT '';
-- The newest turn in which a model answered.
ALTER TABLE agent_sessions ADD COLUMN model_answered TEXT NOT NULL DEFAULT '';

-- What a session used of a model.
CREATE TABLE model_usage (
    session_id        TEXT   NOT NULL,
    model             TEXT   NOT NULL,
    organization_id   TEXT   NOT NULL,
    task_id           TEXT   NOT NULL,
    profile_id        TEXT   NOT NULL,
    model_provider_id TEXT   NOT NULL,
    calls             BIGINT NOT NULL,
    input             BIGINT NOT NULL,
    output            BIGINT NOT NULL,
    cache_read        BIGINT NOT NULL,
    cache_write       BIGINT NOT NULL,
    cost_micros       BIGINT NOT NULL,
    PRIMARY KEY (session_id, model_provider_id, model)
);
CREATE INDEX model_usage_by_task ON model_usage (organization_id, task_id);
