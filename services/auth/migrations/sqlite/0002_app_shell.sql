-- What the app shell shows is versioned in its user's scope.
ALTER TABLE users ADD COLUMN active_organization_id TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN rev BIGINT NOT NULL DEFAULT 0;
ALTER TABLE memberships ADD COLUMN rev BIGINT NOT NULL DEFAULT 0;

-- The shells of those who are here already begin at revision 1.
UPDATE memberships SET rev = 1;
UPDATE users SET rev = 1, active_organization_id = coalesce((
    SELECT m.organization_id FROM memberships m
    JOIN organizations o ON o.organization_id = m.organization_id
    WHERE m.user_id = users.user_id ORDER BY o.name LIMIT 1
), '');
INSERT INTO store_scopes (scope, rev) SELECT user_id, 1 FROM users;
