-- What a job asks about the others of its organization before it begins.
CREATE INDEX jobs_unfinished ON jobs (organization_id, created_rev) WHERE state IN ('queued', 'running');
