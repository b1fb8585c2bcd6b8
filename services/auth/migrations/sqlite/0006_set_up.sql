-- When the set-up secret gave this organization its first owner. People whom a list names join such a one only.
ALTER TABLE organizations ADD COLUMN set_up_at BIGINT;
UPDATE organizations SET set_up_at = (
    SELECT min(m.created_at) FROM memberships m JOIN accounts a ON a.user_id = m.user_id
    WHERE m.organization_id = organizations.organization_id AND m.role = 4 AND a.admitted_by = 'set_up'
);
