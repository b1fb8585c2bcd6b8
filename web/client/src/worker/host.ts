import { FoundryError } from '../errors';
import { holdForLife, whenFree } from '../locks';
import { newRequestId } from '../requestId';
import type { SubscriptionManager, Tab } from '../watch/manager';
import type { Sink } from '../watch/updates';
import type { FromPage, HostPort, ToPage } from './protocol';

/** Serves pages over their ports from one set of subscriptions. */
export class Host {
  private manager?: SubscriptionManager;
  /** The name of the lock that is held as long as this lives. */
  private readonly life?: Promise<string>;

  /**
   * @param begin Makes the subscriptions for a gateway, when the first page connects.
   * @param locks Show the end of pages that could not say `bye`, and that of this host to pages; none = not needed.
   */
  constructor(
    private readonly begin: (baseUrl: string) => SubscriptionManager,
    private readonly locks?: Pick<LockManager, 'request'>,
  ) {
    this.life = locks && holdForLife(locks, `foundry-worker-${newRequestId()}`);
  }

  /** Serves a page. */
  connect(port: HostPort): void {
    const page = new ServedPage(port, (baseUrl) => (this.manager ??= this.begin(baseUrl)), this.locks);
    port.onmessage = ({ data }) => page.receive(data);
    void this.life?.then((name) => port.postMessage({ kind: 'lock', name }));
  }

  /** Ends all subscriptions. */
  dispose(): void {
    this.manager?.dispose();
    this.manager = undefined;
  }
}

class ServedPage {
  private manager?: SubscriptionManager;
  private tab?: Tab;
  private stopWaiting?: () => void;

  constructor(
    private readonly port: HostPort,
    private readonly begin: (baseUrl: string) => SubscriptionManager,
    private readonly locks?: Pick<LockManager, 'request'>,
  ) {}

  receive(message: FromPage): void {
    if (message.kind === 'hello') return this.hello(message);
    const { manager, tab } = this;
    if (!manager || !tab) return;
    switch (message.kind) {
      case 'lock':
        return this.leaveWith(message.name);
      case 'hold':
        return tab.hold(message.spec, message.isKnown);
      case 'release':
        return tab.release(message.key, message.why);
      case 'session':
        return manager.useSession(message.sessionKey);
      case 'doubt':
        return manager.doubtSession(message.sessionKey, new FoundryError(message.error));
      case 'network':
        return manager.network(message.isOnline);
      case 'visible':
        return manager.visible(message.isVisible);
      case 'reconnect':
        return manager.reconnectNow();
      case 'bye':
        return this.leave('The page said goodbye.');
    }
  }

  private hello({ baseUrl, sessionKey, isOnline }: Extract<FromPage, { kind: 'hello' }>): void {
    this.leave('The page started over.');
    const say = (message: ToPage) => this.port.postMessage(message);
    const sink: Sink = {
      topic: (update) => say({ kind: 'topic', update }),
      dropped: (key) => say({ kind: 'dropped', key }),
      connection: (state) => say({ kind: 'connection', state }),
      refused: (key) => say({ kind: 'refused', sessionKey: key }),
      log: (events) => say({ kind: 'log', events }),
    };
    say({ kind: 'welcome' });
    this.manager = this.begin(baseUrl);
    // First the network and the session: a page that joins must not get the state of subscriptions without a session.
    this.manager.network(isOnline);
    this.manager.useSession(sessionKey);
    this.tab = this.manager.join(sink);
  }

  /** The lock is granted here when its page has ended, for whatever reason. */
  private leaveWith(name: string): void {
    if (!this.locks) return;
    this.stopWaiting?.();
    this.stopWaiting = whenFree(this.locks, name, () => this.leave('The page is gone.'));
  }

  private leave(why: string): void {
    this.stopWaiting?.();
    this.stopWaiting = undefined;
    this.tab?.leave(why);
    this.tab = undefined;
  }
}
