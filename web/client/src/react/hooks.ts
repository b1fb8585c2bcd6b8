import { createContext, createElement, useCallback, useContext, useMemo, useSyncExternalStore, type ReactNode } from 'react';
import type { Foundry } from '../foundry';
import type { ConnectionState, LogEvent, Topic, TopicState } from '../types';

const FoundryContext = createContext<Foundry | undefined>(undefined);

/** Provides a client to all components below; its creator disposes of it. */
export function FoundryProvider({ client, children }: { client: Foundry; children?: ReactNode }): ReactNode {
  return createElement(FoundryContext, { value: client }, children);
}

/** The client of the page. */
export function useFoundry(): Foundry {
  const client = useContext(FoundryContext);
  if (!client) throw new Error('useFoundry needs a FoundryProvider above it');
  return client;
}

/**
 * Watches a topic while the component is mounted; undefined = nothing is watched. Topics are compared by their key,
 * so a topic object made in each render is no new subscription.
 */
export function useTopic<T>(topic: Topic<T> | undefined): TopicState<T> | undefined {
  const client = useFoundry();
  const key = topic?.key;
  // biome-ignore lint/correctness/useExhaustiveDependencies: equal keys are equal topics
  const watched = useMemo(() => topic, [key]);
  const subscribe = useCallback((listener: () => void) => (watched ? client.subscribe(watched, listener) : () => {}), [client, watched]);
  return useSyncExternalStore(subscribe, () => (watched ? client.topicState(watched) : undefined));
}

/** State of the connection. */
export function useConnection(): ConnectionState {
  const { connection } = useFoundry();
  return useSyncExternalStore(connection.subscribe, connection.get);
}

/** The newest 500 entries of the log that explains why data was refreshed. */
export function useEventLog(): readonly LogEvent[] {
  const { log } = useFoundry();
  return useSyncExternalStore(log.subscribe, log.get);
}
