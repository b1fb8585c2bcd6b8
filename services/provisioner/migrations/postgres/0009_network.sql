-- What a sandbox may reach, for people. Those that were made before have the network of their host.
ALTER TABLE sandboxes ADD COLUMN network TEXT NOT NULL DEFAULT 'host: the network of this machine, its loopback and private addresses too';
