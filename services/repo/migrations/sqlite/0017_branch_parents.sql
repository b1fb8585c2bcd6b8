-- The parents in their stacks that users have given to branches, or that git-spice has recorded.
CREATE TABLE branch_parents (
    repository_id TEXT   NOT NULL,
    branch        TEXT   NOT NULL,
    parent        TEXT   NOT NULL,
    source        TEXT   NOT NULL,
    PRIMARY KEY (repository_id, branch)
);
