/**
 * Where a page keeps the key of its session. The cookie alone is not accepted: the key proves that a call comes from
 * a page of this origin, because storage is per origin and cookies are not.
 */
export interface SessionKeyStore {
  /** The key; undefined = signed out. */
  get(): string | undefined;
  /** Stores a key, or removes it. */
  set(key: string | undefined): void;
  /** Calls the listener when another tab has changed the key. Returns how to stop. */
  subscribe(listener: () => void): () => void;
}

const NAME = 'foundry-session-key';

/** The key in the storage of the page's origin, shared by all its tabs. */
export class LocalSessionKeyStore implements SessionKeyStore {
  get(): string | undefined {
    return localStorage.getItem(NAME) ?? undefined;
  }

  set(key: string | undefined): void {
    if (key === undefined) localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, key);
  }

  subscribe(listener: () => void): () => void {
    // Clearing the whole storage is reported with a null key.
    const heard = (event: StorageEvent) => {
      if (event.key === NAME || event.key === null) listener();
    };
    addEventListener('storage', heard);
    return () => removeEventListener('storage', heard);
  }
}

/** A key that lives as long as the program, for tests and for clients outside a browser. */
export class MemorySessionKeyStore implements SessionKeyStore {
  private readonly listeners = new Set<() => void>();
  constructor(private key?: string) {}

  get(): string | undefined {
    return this.key;
  }

  set(key: string | undefined): void {
    this.key = key;
    for (const listener of this.listeners) listener();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}
