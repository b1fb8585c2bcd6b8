/** Web Locks by which pages and their shared worker learn of each other's end: whoever dies lets go of what it holds. */
type Locks = Pick<LockManager, 'request'>;

/** Holds a lock for as long as this page or worker lives. Resolves with its name once it is held. */
export function holdForLife(locks: Locks, name: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const held = () => {
      resolve(name);
      return new Promise<never>(() => {});
    };
    locks.request(name, held).catch(reject);
  });
}

/** Runs something once a lock is free, which another one holds: when that one is gone. Returns how to stop. */
export function whenFree(locks: Locks, name: string, run: () => void): () => void {
  const waiting = new AbortController();
  const { signal } = waiting;
  const free = () => {
    if (!signal.aborted) run();
  };
  // Shared: many may wait for one.
  locks.request(name, { mode: 'shared', signal }, free).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  return () => waiting.abort();
}
