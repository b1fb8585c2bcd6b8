-- The commits of earlier versions of works, with which newer ones are compared.
CREATE TABLE work_versions (
    task_id     TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    commit_id   TEXT   NOT NULL,
    import_time BIGINT NOT NULL,
    PRIMARY KEY (task_id, version)
);
INSERT INTO work_versions (task_id, version, commit_id, import_time)
    SELECT task_id, version, head_commit, COALESCE(import_time, 0) FROM works WHERE version > 0 AND head_commit <> '';
