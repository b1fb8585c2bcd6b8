-- Where an action has put each branch: on which commit of which branch it stands as long as it is at this head.
CREATE TABLE branch_places (
    repository_id TEXT   NOT NULL,
    branch        TEXT   NOT NULL,
    head          TEXT   NOT NULL,
    parent        TEXT   NOT NULL,
    fork          TEXT   NOT NULL,
    PRIMARY KEY (repository_id, branch)
);

-- Digest of the refs and parents that a plan was made of; empty = there is none.
ALTER TABLE jobs ADD COLUMN planned_from TEXT NOT NULL DEFAULT '';
