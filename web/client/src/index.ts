/** Calls and watches of Foundry for pages: one stream for all watches, typed topics, errors with a next action. */
export { Code } from '@connectrpc/connect';
export { FoundryError, type FieldViolation, type FoundryErrorFacts } from './errors';
export { Foundry, type FoundryOptions, type Readable } from './foundry';
export { newRequestId } from './requestId';
export { LocalSessionKeyStore, MemorySessionKeyStore, type SessionKeyStore } from './sessionKey';
export type { BegunSignIn, SetUp, SignInWay, SignInWays } from './signIn';
export { SessionLog, sessionLog } from './sessionLog';
export { createSharedWorker } from './worker/create';
export { topics } from './topics';
export type {
  ConnectionPhase,
  ConnectionState,
  EntityIndex,
  LogEvent,
  LogKind,
  Topic,
  TopicPhase,
  TopicState,
} from './types';
