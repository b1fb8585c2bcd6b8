-- Each index of a column that changes with the status costs a page in most transitions. Waiting flows are found by their key
-- and running ones by being active, which other indexes hold.
DROP INDEX flows_waiting;
DROP INDEX flows_running;
