-- The SHA-256 of the secret that a return gives to the page; none before the return.
ALTER TABLE sign_ins ADD COLUMN return_hash BYTEA;
