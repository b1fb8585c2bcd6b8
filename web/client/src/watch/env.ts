/** Time and randomness as parameters, so that tests need no waiting. */
export interface Env {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Runs something once after some milliseconds. Returns how to cancel it. */
  after(ms: number, run: () => void): () => void;
  /** A number from 0 up to 1. */
  random(): number;
}

/** The machine's clock and random numbers. */
export const systemEnv: Env = {
  now: () => Date.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};
