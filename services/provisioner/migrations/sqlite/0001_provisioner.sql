-- The ledger of sandboxes; rows are kept when the sandbox is destroyed.
CREATE TABLE sandboxes (
    sandbox_id       TEXT   NOT NULL PRIMARY KEY,
    organization_id  TEXT   NOT NULL,
    task_id          TEXT   NOT NULL,
    repository_id    TEXT   NOT NULL,
    provider         TEXT   NOT NULL,
    state            TEXT   NOT NULL,
    condition        BLOB   NOT NULL,
    branch           TEXT   NOT NULL,
    base_branch      TEXT   NOT NULL,
    base_commit      TEXT   NOT NULL,
    agent            TEXT   NOT NULL,
    isolation        TEXT   NOT NULL,
    runtime_instance BIGINT NOT NULL,
    facts            BLOB,
    flow_id          TEXT   NOT NULL,
    user_id          TEXT   NOT NULL,
    create_time      BIGINT NOT NULL,
    destroy_time     BIGINT,
    living           BIGINT NOT NULL,
    work_time        BIGINT NOT NULL,
    work_head        TEXT   NOT NULL,
    rev              BIGINT NOT NULL
) WITHOUT ROWID;
-- One living sandbox per task.
CREATE UNIQUE INDEX sandboxes_living_task ON sandboxes (task_id) WHERE living = 1;
CREATE INDEX sandboxes_by_rev ON sandboxes (organization_id, rev);
CREATE INDEX sandboxes_by_state ON sandboxes (state);

-- How far each stage of a sandbox or an agent session is.
CREATE TABLE sandbox_stages (
    entity_id  TEXT   NOT NULL,
    stage      TEXT   NOT NULL,
    state      BIGINT NOT NULL,
    start_time BIGINT,
    end_time   BIGINT,
    attempts   BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    message    TEXT   NOT NULL,
    PRIMARY KEY (entity_id, stage)
) WITHOUT ROWID;

-- Conversations with agents. rev counts in the organization, session_rev in the session.
CREATE TABLE agent_sessions (
    session_id         TEXT   NOT NULL PRIMARY KEY,
    organization_id    TEXT   NOT NULL,
    task_id            TEXT   NOT NULL,
    sandbox_id         TEXT   NOT NULL,
    agent              TEXT   NOT NULL,
    permission_policy  BIGINT NOT NULL,
    state              TEXT   NOT NULL,
    condition          BLOB   NOT NULL,
    message_id         TEXT   NOT NULL,
    turn_count         BIGINT NOT NULL,
    acp_session        TEXT   NOT NULL,
    generation         BIGINT NOT NULL,
    told_generation    BIGINT NOT NULL,
    cursor             TEXT   NOT NULL,
    fold               TEXT   NOT NULL,
    pending_permission BLOB,
    last_offset        BIGINT NOT NULL,
    flow_id            TEXT   NOT NULL,
    user_id            TEXT   NOT NULL,
    create_time        BIGINT NOT NULL,
    rev                BIGINT NOT NULL,
    session_rev        BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX agent_sessions_by_rev ON agent_sessions (organization_id, rev);
CREATE INDEX agent_sessions_by_sandbox ON agent_sessions (sandbox_id);

-- What was said and done; immutable.
CREATE TABLE agent_events (
    session_id   TEXT   NOT NULL,
    event_offset BIGINT NOT NULL,
    rev          BIGINT NOT NULL,
    part         BLOB   NOT NULL,
    PRIMARY KEY (session_id, event_offset)
) WITHOUT ROWID;
CREATE INDEX agent_events_by_rev ON agent_events (session_id, rev);

-- Prompts: intended, then sent, then ended.
CREATE TABLE turns (
    session_id       TEXT   NOT NULL,
    message_id       TEXT   NOT NULL,
    prompt           TEXT   NOT NULL,
    user_id          TEXT   NOT NULL,
    state            TEXT   NOT NULL,
    outcome          BIGINT NOT NULL,
    cancel_requested BIGINT NOT NULL,
    flow_id          TEXT   NOT NULL,
    create_time      BIGINT NOT NULL,
    end_time         BIGINT,
    PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;

-- Permission requests of agents and their answers.
CREATE TABLE permissions (
    session_id    TEXT   NOT NULL,
    permission_id TEXT   NOT NULL,
    ordinal       BIGINT NOT NULL,
    acp_id        TEXT   NOT NULL,
    request       BLOB   NOT NULL,
    state         TEXT   NOT NULL,
    option_id     TEXT   NOT NULL,
    PRIMARY KEY (session_id, permission_id)
) WITHOUT ROWID;
CREATE INDEX permissions_pending ON permissions (session_id, ordinal) WHERE state = 'pending';
