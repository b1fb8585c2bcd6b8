-- What users typed and did not send, and how far they read: rows of the scope of a user in an organization.
CREATE TABLE drafts (
    organization_id TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    subject         TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    update_time     BIGINT NOT NULL,
    text            TEXT   NOT NULL,
    PRIMARY KEY (organization_id, user_id, subject)
);
CREATE INDEX drafts_by_rev ON drafts (organization_id, user_id, rev);
CREATE INDEX drafts_by_subject ON drafts (organization_id, subject);

CREATE TABLE read_marks (
    organization_id TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    session_id      TEXT   NOT NULL,
    task_id         TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    entry_offset    BIGINT NOT NULL,
    PRIMARY KEY (organization_id, user_id, session_id)
);
CREATE INDEX read_marks_by_rev ON read_marks (organization_id, user_id, rev);
