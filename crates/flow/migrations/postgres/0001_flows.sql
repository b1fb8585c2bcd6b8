-- One row per flow or job (updated about ten times in its life, hence the eager vacuum). due_time is the one moment at which an engine must look at the row: when it
-- may start, when its retry is due, when its lease ends, when its wait ends by itself; null = never.
CREATE TABLE flows (
    flow_id            TEXT   NOT NULL PRIMARY KEY,
    kind               TEXT   NOT NULL,
    key                TEXT   NOT NULL,
    organization_id    TEXT,
    subject_id         TEXT   NOT NULL,
    user_id            TEXT   NOT NULL,
    traceparent        TEXT   NOT NULL,
    input              BYTEA  NOT NULL,
    state              BYTEA  NOT NULL,
    status             TEXT   NOT NULL,
    stage              TEXT   NOT NULL,
    reached            TEXT   NOT NULL,
    unwinding          TEXT   NOT NULL,
    active             BIGINT NOT NULL,
    attempt            BIGINT NOT NULL,
    failures           BIGINT NOT NULL,
    step               BIGINT NOT NULL,
    epoch              BIGINT NOT NULL,
    lease_owner        TEXT   NOT NULL,
    due_time           BIGINT,
    ready_time         BIGINT NOT NULL,
    woken              TEXT   NOT NULL,
    wait_key           TEXT,
    signal_seen        TEXT   NOT NULL,
    deadline           BIGINT,
    reason             TEXT   NOT NULL,
    message            TEXT   NOT NULL,
    cause_stage        TEXT   NOT NULL,
    cause_reason       TEXT   NOT NULL,
    cause_message      TEXT   NOT NULL,
    cancel_requested   BIGINT NOT NULL,
    started_time       BIGINT NOT NULL,
    stage_started_time BIGINT NOT NULL,
    status_time        BIGINT NOT NULL,
    last_progress_time BIGINT NOT NULL,
    last_progress      TEXT   NOT NULL,
    finished_time      BIGINT
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 200, fillfactor = 70);
-- The claim.
CREATE INDEX flows_due ON flows (kind, due_time) WHERE due_time IS NOT NULL;
-- One unfinished flow per key; a flow that was cancelled after its failure stays out of it.
CREATE UNIQUE INDEX flows_active_key ON flows (kind, key) WHERE active = 1;
-- Signals, parking, cancels, retention.
CREATE INDEX flows_waiting ON flows (wait_key) WHERE status = 'waiting';
CREATE INDEX flows_parked ON flows (kind) WHERE status = 'parked';
CREATE INDEX flows_cancelling ON flows (status) WHERE cancel_requested = 1;
CREATE INDEX flows_running ON flows (lease_owner) WHERE status = 'running';
CREATE INDEX flows_finished ON flows (finished_time) WHERE finished_time IS NOT NULL;
CREATE INDEX flows_subject ON flows (subject_id);

-- The last signal of each key. The nonce only has to differ from the one a waiting flow has seen.
CREATE TABLE flow_signals (
    wait_key    TEXT   NOT NULL PRIMARY KEY,
    nonce       TEXT   NOT NULL,
    signal_time BIGINT NOT NULL
);
CREATE INDEX flow_signals_time ON flow_signals (signal_time);
