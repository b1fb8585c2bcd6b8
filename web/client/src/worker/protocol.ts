/** Messages between pages and the subscriptions, wherever these run. */
import type { FoundryErrorFacts } from '../errors';
import type { LogEvent } from '../types';
import type { ConnectionUpdate, TopicSpec, TopicUpdate } from '../watch/updates';

/** From a page. */
export type FromPage =
  /** Joins. */
  | { kind: 'hello'; baseUrl: string; sessionKey?: string; isOnline: boolean }
  /** The page holds this Web Lock as long as it lives. */
  | { kind: 'lock'; name: string }
  /** The page shows a topic; if it has the data already (`isKnown`), it is not sent again. */
  | { kind: 'hold'; spec: TopicSpec; isKnown: boolean }
  | { kind: 'release'; key: string; why: string }
  /** The session key of the page's origin; none = signed out. */
  | { kind: 'session'; sessionKey?: string }
  /** A call under this key was refused as unauthenticated. */
  | { kind: 'doubt'; sessionKey: string; error: FoundryErrorFacts }
  | { kind: 'network'; isOnline: boolean }
  | { kind: 'visible'; isVisible: boolean }
  | { kind: 'reconnect' }
  /** Leaves; a hello may follow. */
  | { kind: 'bye' };

/** To a page. */
export type ToPage =
  /** Answers a hello. */
  | { kind: 'welcome' }
  /** The worker holds this Web Lock as long as it lives. */
  | { kind: 'lock'; name: string }
  | { kind: 'topic'; update: TopicUpdate }
  | { kind: 'dropped'; key: string }
  | { kind: 'connection'; state: ConnectionUpdate }
  | { kind: 'refused'; sessionKey: string }
  | { kind: 'log'; events: readonly LogEvent[] };

/** One end of a connection between a page and the subscriptions; a `MessagePort` is one. */
export interface Port<In, Out> {
  onmessage: ((event: { data: In }) => void) | null;
  postMessage(message: Out): void;
  close(): void;
}

/** The page's end. */
export type PagePort = Port<ToPage, FromPage>;
/** The end of the subscriptions. */
export type HostPort = Port<FromPage, ToPage>;

/** Two connected ports within one page. Messages arrive in order and never within the call that sends them. */
export function localPorts(): [PagePort, HostPort] {
  const page = new LocalPort<ToPage, FromPage>();
  const host = new LocalPort<FromPage, ToPage>();
  page.peer = host;
  host.peer = page;
  return [page, host];
}

class LocalPort<In, Out> implements Port<In, Out> {
  onmessage: ((event: { data: In }) => void) | null = null;
  peer?: LocalPort<Out, In>;

  postMessage(data: Out): void {
    queueMicrotask(() => this.peer?.onmessage?.({ data }));
  }

  close(): void {
    this.peer = undefined;
    this.onmessage = null;
  }
}
