-- Methods are remembered by their bare names, as in all services; the first answers of before must still be found.
UPDATE store_idempotency SET method = replace(method, 'foundry.auth.v1.AuthService/', '');
