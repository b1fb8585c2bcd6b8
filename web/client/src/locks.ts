/**
 * Web Locks, by which pages and their shared worker notice each other's end: the browser releases the locks of a page
 * or worker that has ended.
 */
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

/**
 * Runs something when a lock that another page or worker holds is free, which means that it is gone. Returns how to
 * stop.
 */
export function whenFree(locks: Locks, name: string, run: () => void): () => void {
  const waiting = new AbortController();
  const { signal } = waiting;
  const free = () => {
    if (!signal.aborted) run();
  };
  // Shared, because several may wait for the same one.
  locks.request(name, { mode: 'shared', signal }, free).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  return () => waiting.abort();
}
