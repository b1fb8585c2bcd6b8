-- What hand-overs left out, when the newest received one began, and what works have merged from other branches.
ALTER TABLE works ADD COLUMN notices BLOB NOT NULL DEFAULT x'';
ALTER TABLE works ADD COLUMN hand_over_time BIGINT;
ALTER TABLE works ADD COLUMN merged_from BLOB NOT NULL DEFAULT x'';
-- For works that have merged other branches: all files that differ from the base, with what was merged.
CREATE TABLE work_whole_changes (
    task_id  TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    path     TEXT   NOT NULL,
    position BIGINT NOT NULL,
    change   BLOB   NOT NULL,
    patch    BLOB   NOT NULL,
    PRIMARY KEY (task_id, version, path)
);
CREATE INDEX work_whole_changes_by_position ON work_whole_changes (task_id, version, position);
