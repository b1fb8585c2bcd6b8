-- Comments on the changes of tasks that users have not sent yet, and the files that they have viewed: rows of the scope of a user
-- in an organization.
CREATE TABLE review_comments (
    organization_id TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    comment_id      TEXT   NOT NULL,
    task_id         TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    path            TEXT   NOT NULL,
    side            TEXT   NOT NULL,
    start_line      BIGINT NOT NULL,
    end_line        BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    since_version   BIGINT NOT NULL,
    whole           BIGINT NOT NULL,
    content         TEXT   NOT NULL,
    quote           TEXT   NOT NULL,
    lines_before    TEXT   NOT NULL,
    lines_after     TEXT   NOT NULL,
    text            TEXT   NOT NULL,
    create_time     BIGINT NOT NULL,
    update_time     BIGINT NOT NULL,
    PRIMARY KEY (organization_id, user_id, comment_id)
);
CREATE INDEX review_comments_by_rev ON review_comments (organization_id, user_id, task_id, rev);
CREATE INDEX review_comments_by_task ON review_comments (task_id);

CREATE TABLE viewed_files (
    organization_id TEXT   NOT NULL,
    user_id         TEXT   NOT NULL,
    task_id         TEXT   NOT NULL,
    path            TEXT   NOT NULL,
    rev             BIGINT NOT NULL,
    content         TEXT   NOT NULL,
    version         BIGINT NOT NULL,
    PRIMARY KEY (organization_id, user_id, task_id, path)
);
CREATE INDEX viewed_files_by_rev ON viewed_files (organization_id, user_id, task_id, rev);
CREATE INDEX viewed_files_by_task ON viewed_files (task_id);
