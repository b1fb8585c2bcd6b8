import { whenFree } from '../locks';
import { newRequestId } from '../requestId';

/** Events around a page. */
export interface PageListener {
  network(isOnline: boolean): void;
  visible(isVisible: boolean): void;
  /** The page was left; the browser may show it again as it was. */
  gone(): void;
  /** The page is shown again as it was. */
  back(): void;
  /** The page holds a lock of this name until it ends. */
  locked(name: string): void;
}

/** State and events of the page; without effect outside a browser. */
export interface PageEvents {
  isVisible(): boolean;
  isOnline(): boolean;
  /** Takes the lock by which others notice the end of this page. */
  lock(): void;
  /**
   * Runs something when the lock of another page or worker is free, which means that it is gone. Returns how to stop.
   */
  whenFree(name: string, run: () => void): () => void;
  dispose(): void;
}

/** Listens to the page; outside a browser it is always visible and online. */
export function watchPage(listener: PageListener): PageEvents {
  if (typeof document === 'undefined') {
    return { isVisible: () => true, isOnline: () => true, lock() {}, whenFree: () => () => {}, dispose() {} };
  }
  const life = new PageLock(listener);
  const stop = new AbortController();
  const on = (target: EventTarget, name: string, run: (event: Event) => void) =>
    target.addEventListener(name, run, { signal: stop.signal });
  on(window, 'online', () => listener.network(true));
  on(window, 'offline', () => listener.network(false));
  on(document, 'visibilitychange', () => listener.visible(!document.hidden));
  on(window, 'pagehide', () => {
    listener.gone();
    // A browser cannot keep a page that holds a lock for going back.
    life.release();
  });
  on(window, 'pageshow', (event) => {
    if ((event as PageTransitionEvent).persisted) listener.back();
  });
  return {
    isVisible: () => !document.hidden,
    isOnline: () => navigator.onLine,
    lock: () => life.acquire(),
    whenFree: (name, run) => {
      const { locks } = navigator as Partial<Navigator>;
      return locks ? whenFree(locks, name, run) : () => {};
    },
    dispose: () => {
      stop.abort();
      life.release();
    },
  };
}

/** Whether a URL is of this machine. */
export function isLoopback(baseUrl: string): boolean {
  try {
    const { hostname } = new URL(baseUrl);
    return hostname === 'localhost' || hostname.endsWith('.localhost') || /^(127\.[\d.]+|\[::1\])$/.test(hostname);
  } catch {
    return false;
  }
}

/** A lock that is held until its page ends; those that wait for it notice the end. */
class PageLock {
  private readonly name = `foundry-tab-${newRequestId()}`;
  private letGo?: () => void;

  constructor(private readonly listener: PageListener) {}

  acquire(): void {
    // Locks exist only in secure contexts.
    const { locks } = navigator as Partial<Navigator>;
    if (!locks) return;
    if (this.letGo) return this.listener.locked(this.name);
    const held = new Promise<void>((resolve) => (this.letGo = resolve));
    void locks.request(this.name, () => {
      this.listener.locked(this.name);
      return held;
    });
  }

  release(): void {
    this.letGo?.();
    this.letGo = undefined;
  }
}
