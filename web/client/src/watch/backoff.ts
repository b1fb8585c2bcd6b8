const FIRST_MS = 250;
const CAP_MS = 30_000;
const TO_CAP = 16;

/** How long to wait before the next attempt: full jitter over a bound that doubles from 250 ms to 30 s. */
export class Backoff {
  /** Failures since the last success. */
  failures = 0;

  constructor(private readonly random: () => number) {}

  /** Counts a failure and returns the wait in milliseconds. */
  next(): number {
    const bound = Math.min(FIRST_MS * 2 ** Math.min(this.failures, TO_CAP), CAP_MS);
    this.failures += 1;
    return Math.floor(bound * this.random());
  }

  /** The next wait is from the largest range. */
  raiseToCap(): void {
    this.failures = Math.max(this.failures, TO_CAP);
  }

  reset(): void {
    this.failures = 0;
  }
}
