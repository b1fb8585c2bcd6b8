-- Which submodules of its base a sandbox does not get, and why.
ALTER TABLE base_requests ADD COLUMN submodule_message TEXT NOT NULL DEFAULT '';
