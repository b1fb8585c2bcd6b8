export { FoundryProvider, useConnection, useEventLog, useFoundry, useTopic } from './hooks';
