/** Creates or joins the worker of this origin. Written so that bundlers find the worker's file and build it. */
export function createSharedWorker(): SharedWorker {
  return new SharedWorker(new URL('./shared.ts', import.meta.url), { type: 'module', name: 'foundry' });
}
