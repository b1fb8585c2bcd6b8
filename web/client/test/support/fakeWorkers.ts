import { systemEnv } from '../../src/watch/env';
import { SubscriptionManager } from '../../src/watch/manager';
import { Host } from '../../src/worker/host';
import { localPorts, type ToPage } from '../../src/worker/protocol';
import type { FakeEdge } from './fakeEdge';

type Granted = () => unknown;

/**
 * Locks of a browser: granted in order, each when the former one is released. Here, takers of shared locks release
 * them at once.
 */
export class FakeLocks {
  private readonly held = new Map<string, Promise<unknown>>();

  request = async (name: string, options: LockOptions | Granted, granted?: Granted): Promise<unknown> => {
    const run = granted ?? (options as Granted);
    const { signal } = granted ? (options as LockOptions) : {};
    const before = this.held.get(name) ?? Promise.resolve();
    const mine = before.then(() => (signal?.aborted ? undefined : run()));
    this.held.set(name, mine);
    return mine;
  };
}

/** The shared workers of an origin, one at a time. */
export class FakeWorkers {
  readonly locks = new FakeLocks();
  /** How many workers have been started. */
  made = 0;
  private running?: { host: Host; die: () => void };
  private held?: (() => void)[];

  constructor(private readonly edge: FakeEdge) {}

  /** What `new SharedWorker` gives a page. */
  join(): SharedWorker {
    this.running ??= this.start();
    const { host } = this.running;
    const [page, port] = localPorts();
    const post = port.postMessage.bind(port);
    port.postMessage = (message: ToPage) => {
      const send = () => post(structuredClone(message));
      if (this.held) this.held.push(send);
      else send();
    };
    host.connect(port);
    return { port: page, onerror: null } as unknown as SharedWorker;
  }

  /** Ends the worker's process without any message. */
  crash(): void {
    this.running?.die();
    this.running = undefined;
    this.edge.cut();
  }

  /** Holds back the worker's messages from now on. */
  holdBack(): void {
    this.held = [];
  }

  /** Delivers all held-back messages. */
  letGo(): void {
    const { held } = this;
    this.held = undefined;
    for (const send of held ?? []) send();
  }

  private start(): { host: Host; die: () => void } {
    this.made += 1;
    let isDead = false;
    let free = () => {};
    const locks = {
      // The worker keeps its locks until it dies.
      request: (name: string, options: LockOptions | Granted, granted?: Granted) =>
        granted
          ? this.locks.request(name, options, () => (isDead ? undefined : granted()))
          : this.locks.request(name, () => {
              (options as Granted)();
              return new Promise<void>((resolve) => (free = resolve));
            }),
    };
    const begin = () =>
      new SubscriptionManager(this.edge, { ...systemEnv, after: (ms, run) => systemEnv.after(ms, () => isDead || run()) });
    const host = new Host(begin, locks as unknown as LockManager);
    const connect = host.connect.bind(host);
    host.connect = (port) => {
      connect(port);
      const { onmessage, postMessage } = port;
      port.onmessage = (event) => void (isDead || onmessage?.(event));
      port.postMessage = (message) => void (isDead || postMessage.call(port, message));
    };
    const die = () => {
      isDead = true;
      free();
    };
    return { host, die };
  }
}
