import type { FoundryErrorFacts } from '../errors';
import type { FromPage, PagePort, ToPage } from '../worker/protocol';
import type { TopicSpec } from '../watch/updates';
import { isLoopback, watchPage, type PageEvents } from './surroundings';

/** How long a tab may be hidden before it releases its topics, in milliseconds. */
export const HIDDEN_MS = 30_000;

/** Messages to the page that the link does not handle itself. */
export type ToPageItself = Exclude<ToPage, { kind: 'lock' }>;

/** What the link needs of its page. */
export interface LinkOptions {
  baseUrl: string;
  sessionKey(): string | undefined;
  /** Whether the page still has all that was sent of a topic. */
  isKnown(key: string): boolean;
  receive(message: ToPageItself): void;
  /**
   * The browser had kept the page whole for going back, and it is shown again. Another user may have signed in, and
   * the other end of the port may be gone, so another port is to be attached.
   */
  returned(): void;
  /** The other end of the port has died; another port is to be attached. */
  lost(): void;
}

/** The page's side of the subscriptions: reports which topics are shown, and when the page is hidden or left. */
export class Link {
  private readonly held = new Map<string, TopicSpec>();
  private port?: PagePort;
  private isAway = false;
  private isGone = false;
  /** Stops waiting for the death of the port's other end. */
  private stopWaiting?: () => void;
  private hiddenTimer?: ReturnType<typeof setTimeout>;
  private readonly page: PageEvents;

  constructor(private readonly options: LinkOptions) {
    const network = (isOnline: boolean) => this.say({ kind: 'network', isOnline });
    this.page = watchPage({
      // The network state does not matter for a gateway on this machine.
      network: isLoopback(options.baseUrl) ? () => {} : network,
      visible: (isVisible) => this.visible(isVisible),
      gone: () => this.gone(),
      back: () => this.back(),
      locked: (name) => this.say({ kind: 'lock', name }),
    });
    if (!this.page.isVisible()) this.planAway();
  }

  /** Uses the subscriptions behind this port, in place of the former port if there was one. */
  attach(port: PagePort): void {
    this.leave();
    this.port = port;
    port.onmessage = ({ data }) => this.receive(data);
    this.hello();
  }

  hold({ key, method, request, kind }: TopicSpec): void {
    const spec = { key, method, request, kind };
    this.held.set(key, spec);
    if (!this.isAway) this.sayHold(spec);
  }

  release(key: string): void {
    this.held.delete(key);
    if (!this.isAway) this.say({ kind: 'release', key, why: 'The page no longer shows it.' });
  }

  session(sessionKey: string | undefined): void {
    this.say({ kind: 'session', sessionKey });
    // The page has dropped its topics, also what was sent for this session before the page had its key.
    if (!this.isAway) this.holdAll();
  }

  doubt(sessionKey: string, error: FoundryErrorFacts): void {
    this.say({ kind: 'doubt', sessionKey, error });
  }

  reconnect(): void {
    this.say({ kind: 'reconnect' });
  }

  dispose(): void {
    clearTimeout(this.hiddenTimer);
    this.leave();
    this.page.dispose();
  }

  private receive(message: ToPage): void {
    if (message.kind !== 'lock') return this.options.receive(message);
    // A page that waits for a lock cannot be kept by the browser for going back.
    if (!this.isGone) this.stopWaiting = this.page.whenFree(message.name, () => this.options.lost());
  }

  private leave(): void {
    const { port } = this;
    if (!port) return;
    this.bye();
    port.onmessage = null;
    this.port = undefined;
    // After `bye` was sent.
    queueMicrotask(() => port.close());
  }

  private bye(): void {
    this.stopWaiting?.();
    this.stopWaiting = undefined;
    this.say({ kind: 'bye' });
  }

  private hello(): void {
    const { baseUrl, sessionKey } = this.options;
    const isOnline = isLoopback(baseUrl) || this.page.isOnline();
    this.say({ kind: 'hello', baseUrl, sessionKey: sessionKey(), isOnline });
    this.page.lock();
    if (!this.isAway) this.holdAll();
  }

  private holdAll(): void {
    for (const spec of this.held.values()) this.sayHold(spec);
  }

  private sayHold(spec: TopicSpec): void {
    this.say({ kind: 'hold', spec, isKnown: this.options.isKnown(spec.key) });
  }

  private visible(isVisible: boolean): void {
    this.say({ kind: 'visible', isVisible });
    if (!isVisible) return this.planAway();
    clearTimeout(this.hiddenTimer);
    if (!this.isAway) return;
    this.isAway = false;
    this.holdAll();
  }

  private planAway(): void {
    clearTimeout(this.hiddenTimer);
    this.hiddenTimer = setTimeout(() => {
      this.isAway = true;
      for (const key of this.held.keys()) this.say({ kind: 'release', key, why: 'The tab was hidden for 30 s.' });
    }, HIDDEN_MS);
  }

  private gone(): void {
    this.bye();
    this.isGone = true;
  }

  private back(): void {
    if (!this.isGone) return;
    this.isGone = false;
    this.options.returned();
  }

  private say(message: FromPage): void {
    this.port?.postMessage(message);
  }
}
