-- Which branch a sandbox asked for as its base, the default one if empty; and why files of Git LFS of it were not fetched.
ALTER TABLE base_requests ADD COLUMN base_branch TEXT NOT NULL DEFAULT '';
ALTER TABLE base_requests ADD COLUMN lfs_message TEXT NOT NULL DEFAULT '';
