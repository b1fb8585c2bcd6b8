import { whenFree } from '../locks';
import { newRequestId } from '../requestId';

/** What happens around a page. */
export interface PageListener {
  network(isOnline: boolean): void;
  visible(isVisible: boolean): void;
  /** The page is left; it may come back as it was. */
  gone(): void;
  /** The page came back as it was. */
  back(): void;
  /** The page holds a lock of this name until it is gone. */
  locked(name: string): void;
}

/** The page itself, or nothing where there is none. */
export interface PageEvents {
  isVisible(): boolean;
  isOnline(): boolean;
  /** Takes the lock that tells others of the page's life. */
  lock(): void;
  /** Runs something once the lock of another one is free: when that one is gone. Returns how to stop. */
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
    // A page that holds a lock cannot be kept for going back.
    life.release();
  });
  on(window, 'pageshow', (event) => {
    if ((event as PageTransitionEvent).persisted) listener.back();
  });
  return {
    isVisible: () => !document.hidden,
    isOnline: () => navigator.onLine,
    lock: () => life.take(),
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

/** Whether an address is that of the machine itself. */
export function isLoopback(baseUrl: string): boolean {
  try {
    const { hostname } = new URL(baseUrl);
    return hostname === 'localhost' || hostname.endsWith('.localhost') || /^(127\.[\d.]+|\[::1\])$/.test(hostname);
  } catch {
    return false;
  }
}

/** A lock that lives as long as its page: whoever waits for it learns of the page's end. */
class PageLock {
  private readonly name = `foundry-tab-${newRequestId()}`;
  private letGo?: () => void;

  constructor(private readonly listener: PageListener) {}

  take(): void {
    // Only origins that browsers trust have locks.
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
