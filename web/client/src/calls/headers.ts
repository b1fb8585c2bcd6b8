/** Carries the key of the session: received at sign-in, sent with every call. */
export const SESSION_KEY_HEADER = 'x-foundry-session-key';
/** Carries an id that appears in all log lines of a call. */
export const REQUEST_ID_HEADER = 'x-request-id';
