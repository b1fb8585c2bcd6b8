/** The subscriptions of all tabs of an origin, as a SharedWorker. */
import { watchTransport } from '../calls/transport';
import { systemEnv } from '../watch/env';
import { SubscriptionManager } from '../watch/manager';
import { Host } from './host';
import type { HostPort } from './protocol';

const host = new Host(
  (baseUrl) => new SubscriptionManager(watchTransport({ baseUrl }), systemEnv),
  // Locks exist only in secure contexts.
  (navigator as Partial<Navigator>).locks,
);

// The type libraries of workers and pages exclude each other; this is all that is needed of the former.
const scope = self as unknown as { onconnect: ((event: MessageEvent) => void) | null };
scope.onconnect = (event) => {
  const [port] = event.ports;
  if (port) host.connect(port as unknown as HostPort);
};
