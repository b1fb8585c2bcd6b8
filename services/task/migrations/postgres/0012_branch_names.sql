-- The names of a repository's branches as of a synchronization, one on a line.
CREATE TABLE branch_names (
    repository_id TEXT   NOT NULL PRIMARY KEY,
    upstream_rev  BIGINT NOT NULL,
    as_of         BIGINT NOT NULL,
    names         TEXT   NOT NULL
);
