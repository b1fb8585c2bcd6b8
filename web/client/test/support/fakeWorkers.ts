import { systemEnv } from '../../src/watch/env';
import { SubscriptionManager } from '../../src/watch/manager';
import type { WatchTransport } from '../../src/watch/transport';
import { Host } from '../../src/worker/host';
import { localPorts, type ToPage } from '../../src/worker/protocol';

/** Locks of a browser: granted in order, each when the one before is let go. */
export class FakeLocks {
  private readonly held = new Map<string, Promise<unknown>>();

  request = async (name: string, options: LockOptions | (() => unknown), granted?: () => unknown): Promise<unknown> => {
    const run = granted ?? (options as () => unknown);
    const { signal } = granted ? (options as LockOptions) : {};
    const before = this.held.get(name) ?? Promise.resolve();
    const mine = before.then(() => (signal?.aborted ? undefined : run()));
    this.held.set(name, mine);
    return mine;
  };
}

/** The shared worker of an origin. */
export class FakeWorkers {
  readonly locks = new FakeLocks();
  private readonly host: Host;
  private held?: (() => void)[];

  constructor(edge: WatchTransport) {
    this.host = new Host(() => new SubscriptionManager(edge, systemEnv), this.locks as unknown as LockManager);
  }

  /** What `new SharedWorker` gives a page. */
  join(): SharedWorker {
    const [page, port] = localPorts();
    const post = port.postMessage.bind(port);
    port.postMessage = (message: ToPage) => {
      const send = () => post(structuredClone(message));
      if (this.held) this.held.push(send);
      else send();
    };
    this.host.connect(port);
    return { port: page, onerror: null } as unknown as SharedWorker;
  }

  /** What the worker says from now on is on the way and does not arrive. */
  holdBack(): void {
    this.held = [];
  }

  /** All that was on the way arrives. */
  letGo(): void {
    const { held } = this;
    this.held = undefined;
    for (const send of held ?? []) send();
  }
}
