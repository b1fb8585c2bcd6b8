CREATE TABLE tasks (
    task_id          TEXT   NOT NULL PRIMARY KEY,
    organization_id  TEXT   NOT NULL,
    repository_id    TEXT   NOT NULL,
    branch           TEXT   NOT NULL,
    first_session_id TEXT   NOT NULL,
    create_time      BIGINT NOT NULL,
    rev              BIGINT NOT NULL,
    fence            BIGINT NOT NULL,
    stale            BIGINT NOT NULL,
    lifecycle        TEXT   NOT NULL,
    lifecycle_time   BIGINT NOT NULL,
    flow_id          TEXT   NOT NULL,
    flow_stage       TEXT   NOT NULL,
    flow_status      TEXT   NOT NULL,
    flow_condition   BYTEA  NOT NULL,
    destroy_sent     TEXT   NOT NULL,
    retry_rev        BIGINT NOT NULL,
    view             BYTEA  NOT NULL
);
CREATE UNIQUE INDEX tasks_by_branch ON tasks (repository_id, branch);
CREATE INDEX tasks_by_rev ON tasks (organization_id, rev);
CREATE INDEX tasks_stale ON tasks (stale) WHERE stale = 1;

CREATE TABLE task_prompts (
    task_id TEXT NOT NULL PRIMARY KEY,
    prompt  TEXT NOT NULL
);

CREATE TABLE sessions (
    session_id      TEXT   NOT NULL PRIMARY KEY,
    task_id         TEXT   NOT NULL,
    organization_id TEXT   NOT NULL,
    create_time     BIGINT NOT NULL,
    rev             BIGINT NOT NULL,
    feed_rev        BIGINT NOT NULL,
    flow_id         TEXT   NOT NULL,
    flow_stage      TEXT   NOT NULL,
    flow_status     TEXT   NOT NULL,
    flow_condition  BYTEA  NOT NULL,
    closed          BIGINT NOT NULL,
    close_sent      BIGINT NOT NULL,
    event_offset    BIGINT NOT NULL,
    spoken_for      TEXT   NOT NULL,
    spoken_here     BIGINT NOT NULL,
    answered        TEXT   NOT NULL,
    retry_rev       BIGINT NOT NULL,
    follows         BIGINT NOT NULL,
    view            BYTEA  NOT NULL
);
CREATE INDEX sessions_by_task ON sessions (task_id, create_time);
CREATE INDEX sessions_by_rev ON sessions (task_id, rev);
CREATE INDEX sessions_followed ON sessions (follows) WHERE follows = 1;

CREATE TABLE messages (
    message_id  TEXT   NOT NULL PRIMARY KEY,
    session_id  TEXT   NOT NULL,
    task_id     TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    rev         BIGINT NOT NULL,
    created_by  TEXT   NOT NULL,
    create_time BIGINT NOT NULL,
    preview     TEXT   NOT NULL,
    text_size   BIGINT NOT NULL,
    text        TEXT   NOT NULL
);
CREATE INDEX messages_open ON messages (task_id, state, position);
CREATE INDEX messages_by_rev ON messages (session_id, rev);

CREATE TABLE transcript_entries (
    session_id   TEXT   NOT NULL,
    entry_offset BIGINT NOT NULL,
    rev          BIGINT NOT NULL,
    part         BYTEA  NOT NULL,
    PRIMARY KEY (session_id, entry_offset)
);
CREATE INDEX transcript_entries_by_rev ON transcript_entries (session_id, rev);

CREATE TABLE repositories (
    repository_id   TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    upstream_rev    BIGINT NOT NULL,
    data            BYTEA  NOT NULL
);
CREATE INDEX repositories_by_organization ON repositories (organization_id);

CREATE TABLE sandboxes (
    sandbox_id      TEXT   NOT NULL PRIMARY KEY,
    task_id         TEXT   NOT NULL,
    organization_id TEXT   NOT NULL,
    create_time     BIGINT NOT NULL,
    upstream_rev    BIGINT NOT NULL,
    data            BYTEA  NOT NULL
);
CREATE INDEX sandboxes_by_task ON sandboxes (task_id, create_time);
CREATE INDEX sandboxes_by_organization ON sandboxes (organization_id);

CREATE TABLE agent_sessions (
    session_id      TEXT   NOT NULL PRIMARY KEY,
    task_id         TEXT   NOT NULL,
    organization_id TEXT   NOT NULL,
    upstream_rev    BIGINT NOT NULL,
    data            BYTEA  NOT NULL
);
CREATE INDEX agent_sessions_by_task ON agent_sessions (task_id);
CREATE INDEX agent_sessions_by_organization ON agent_sessions (organization_id);

CREATE TABLE works (
    task_id         TEXT   NOT NULL PRIMARY KEY,
    organization_id TEXT   NOT NULL,
    upstream_rev    BIGINT NOT NULL,
    data            BYTEA  NOT NULL
);

CREATE TABLE consumer_positions (
    stream       TEXT   NOT NULL PRIMARY KEY,
    rev          BIGINT NOT NULL,
    resume_token TEXT   NOT NULL
);

CREATE TABLE summary_rows (
    organization_id TEXT   NOT NULL,
    key             TEXT   NOT NULL,
    kind            TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    listed          BIGINT NOT NULL,
    repository_id   TEXT   NOT NULL,
    create_time     BIGINT NOT NULL,
    item            BYTEA  NOT NULL,
    PRIMARY KEY (organization_id, key)
);
CREATE INDEX summary_rows_by_rev ON summary_rows (organization_id, rev);
CREATE INDEX summary_rows_by_time ON summary_rows (organization_id, kind, create_time, key);
