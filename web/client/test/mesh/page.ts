import type { SessionItem } from '../../src/gen/foundry/task/v1/task_pb';
import { Foundry } from '../../src/foundry';
import { MemorySessionKeyStore } from '../../src/sessionKey';
import { sessionLog } from '../../src/sessionLog';
import type { LogKind, Topic, TopicState } from '../../src/types';

const PATIENCE_MS = 90_000;

/** A `fetch` like that of a page of this origin: with its `Origin` and its cookies. */
export function pageFetch(origin: string): typeof globalThis.fetch {
  const cookies = new Map<string, string>();
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    headers.set('origin', origin);
    headers.set('sec-fetch-site', 'same-origin');
    if (cookies.size > 0) headers.set('cookie', [...cookies].map(([name, value]) => `${name}=${value}`).join('; '));
    const response = await fetch(input, { ...init, headers });
    for (const line of response.headers.getSetCookie()) {
      const [name = '', value = ''] = (line.split(';')[0] ?? '').split('=');
      if (value === '') cookies.delete(name);
      else cookies.set(name, value);
    }
    return response;
  };
}

/** A client like that of a page of the gateway; optionally with the cookies and the key of another one. */
export function page(origin: string, fetch = pageFetch(origin), key?: string): Foundry {
  return new Foundry({ baseUrl: origin, fetch, sessionKey: new MemorySessionKeyStore(key), worker: 'page' });
}

/** Watches a topic until its state is as wanted. */
export function until<T>(client: Foundry, topic: Topic<T>, wanted: (state: TopicState<T>) => boolean): Promise<TopicState<T>> {
  return new Promise((resolve, reject) => {
    const patience = setTimeout(() => {
      stop();
      const log = client.log
        .get()
        .slice(-20)
        .map(({ what, detail }) => `${what}: ${detail}`);
      reject(new Error(`${topic.kind} is ${show(client.topicState(topic))}\n${log.join('\n')}`));
    }, PATIENCE_MS);
    const look = (state: TopicState<T>) => {
      if (!wanted(state)) return;
      clearTimeout(patience);
      resolve(state);
      queueMicrotask(() => stop());
    };
    const stop = client.subscribe(topic, look);
    const now = client.topicState(topic);
    if (now) look(now);
  });
}

function show(state: TopicState<unknown> | undefined): string {
  if (!state) return 'nothing';
  const entities = JSON.stringify([...state.entities], (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));
  return `${state.phase} at ${state.rev} ${state.error?.message ?? ''} ${entities}`;
}

/** Whether the data is as the server has it. */
export function isLive(state: TopicState<unknown>): boolean {
  return state.phase === 'live';
}

/** How many turns have ended in a session. */
export function turnsEnded(state: TopicState<SessionItem>): number {
  return sessionLog(state)?.entries.filter(({ part }) => part?.body.case === 'turnEnd').length ?? 0;
}

/** How often the event log has an entry, optionally for one topic only. */
export function logged(client: Foundry, what: LogKind, topic?: Topic<unknown>): number {
  return client.log.get().filter((event) => event.what === what && (!topic || event.topic === topic.key)).length;
}
