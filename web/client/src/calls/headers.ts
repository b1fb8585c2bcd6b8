/** Carries the key of the session in both directions: set at sign-in, sent with every call. */
export const SESSION_KEY_HEADER = 'x-foundry-session-key';
/** Carries an id that the log lines of a call share. */
export const REQUEST_ID_HEADER = 'x-request-id';
