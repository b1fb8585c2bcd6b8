import type { FoundryErrorFacts } from '../errors';
import type { FromPage, PagePort, ToPage } from '../worker/protocol';
import type { TopicSpec } from '../watch/updates';
import { isLoopback, watchPage, type PageEvents } from './surroundings';

/** How long a tab may be hidden before it lets go of its topics, in milliseconds. */
export const HIDDEN_MS = 30_000;

/** What the page is told beyond what concerns the link itself. */
export type ToPageItself = Exclude<ToPage, { kind: 'lock' }>;

/** What the link needs from its page. */
export interface LinkOptions {
  baseUrl: string;
  sessionKey(): string | undefined;
  /** Whether the page has all that it was told of a topic. */
  isKnown(key: string): boolean;
  take(message: ToPageItself): void;
  /**
   * The page was away, kept whole by the browser, and is shown again; somebody else may have signed in, and what was
   * behind the port may be gone: another one is to be attached.
   */
  returned(): void;
  /** What was behind the port has died: another one is to be attached. */
  lost(): void;
}

/** The page's side of the subscriptions: says what it looks at, and when nobody looks at it. */
export class Link {
  private readonly held = new Map<string, TopicSpec>();
  private port?: PagePort;
  private isAway = false;
  private isGone = false;
  /** Stops waiting for the death of what is behind the port. */
  private stopWaiting?: () => void;
  private hiddenTimer?: ReturnType<typeof setTimeout>;
  private readonly page: PageEvents;

  constructor(private readonly options: LinkOptions) {
    const network = (isOnline: boolean) => this.say({ kind: 'network', isOnline });
    this.page = watchPage({
      // The gateway on this machine needs no network.
      network: isLoopback(options.baseUrl) ? () => {} : network,
      visible: (isVisible) => this.visible(isVisible),
      gone: () => this.gone(),
      back: () => this.back(),
      locked: (name) => this.say({ kind: 'lock', name }),
    });
    if (!this.page.isVisible()) this.planAway();
  }

  /** Uses the subscriptions behind a port, instead of those before if there were any. */
  attach(port: PagePort): void {
    this.leave();
    this.port = port;
    port.onmessage = ({ data }) => this.take(data);
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
    // The page has forgotten what it was told of the topics, also what came of this session before it knew of it.
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

  private take(message: ToPage): void {
    if (message.kind !== 'lock') return this.options.take(message);
    // While the browser keeps the page for going back, nothing may be waited for.
    if (!this.isGone) this.stopWaiting = this.page.whenFree(message.name, () => this.options.lost());
  }

  private leave(): void {
    const { port } = this;
    if (!port) return;
    this.bye();
    port.onmessage = null;
    this.port = undefined;
    // The good-bye is on its way first.
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
