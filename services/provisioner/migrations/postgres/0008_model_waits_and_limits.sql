-- Model providers whose quota is used up, with the time at which it goes on. `first_turn` is the turn that goes first
-- then; `until_time` is that of its answer.
CREATE TABLE model_waits (
    model_provider_id TEXT   NOT NULL PRIMARY KEY,
    until_time        BIGINT NOT NULL,
    words             TEXT   NOT NULL,
    first_turn        TEXT   NOT NULL
);
-- The newest turn that was told of a short wait for a quota.
ALTER TABLE agent_sessions ADD COLUMN model_noticed TEXT NOT NULL DEFAULT '';

-- What may be used of models: of an organization in a calendar month (UTC), of each of its tasks (task_id empty), or of
-- one task.
CREATE TABLE model_limits (
    organization_id TEXT   NOT NULL,
    scope           TEXT   NOT NULL,
    task_id         TEXT   NOT NULL,
    unit            TEXT   NOT NULL,
    maximum         BIGINT NOT NULL,
    PRIMARY KEY (organization_id, scope, task_id, unit)
);
-- What was used: of an organization in a month (`2026-01`, task_id empty), and of a task (month empty).
CREATE TABLE model_totals (
    organization_id TEXT   NOT NULL,
    month           TEXT   NOT NULL,
    task_id         TEXT   NOT NULL,
    tokens          BIGINT NOT NULL,
    cost_micros     BIGINT NOT NULL,
    PRIMARY KEY (organization_id, month, task_id)
);
-- Of tasks all is known; months begin to be counted now.
INSERT INTO model_totals (organization_id, month, task_id, tokens, cost_micros)
    SELECT organization_id, '', task_id, CAST(SUM(input + output + cache_read + cache_write) AS BIGINT),
           CAST(SUM(cost_micros) AS BIGINT)
    FROM model_usage GROUP BY organization_id, task_id;
