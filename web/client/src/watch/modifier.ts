import { Code } from '@connectrpc/connect';
import { FoundryError } from '../errors';
import { Backoff } from './backoff';
import type { Env } from './env';
import type { EdgeCall, WatchTransport } from './transport';

/** Changes that are requested within this time are sent as one. */
const BATCH_MS = 10;
const ATTEMPTS = 5;

/** A change of the watches of a stream. */
export interface Change {
  add: { subId: number; method: string; request: Uint8Array }[];
  remove: number[];
}

/** Sends changes of the watches of one stream: batched, one at a time, with contiguous versions. */
export class Modifier {
  private streamId?: string;
  private version = 0n;
  private wanted?: () => Change;
  private scheduled = false;
  private busy = false;
  private ignoresFailures = false;

  /** @param fail Called when the set of watches on the stream is no longer certain. */
  constructor(
    private readonly transport: WatchTransport,
    private readonly env: Env,
    private readonly call: EdgeCall,
    private readonly fail: (error: FoundryError) => void,
  ) {}

  /** The stream has its id, so changes can be sent. */
  open(streamId: string): void {
    this.streamId = streamId;
    this.schedule();
  }

  /** Ignores failures from now on: the stream is about to be replaced. */
  ignoreFailures(): void {
    this.ignoresFailures = true;
  }

  /** Requests a change; it is computed when it is sent, from the newest `change` only. */
  request(change: () => Change): void {
    this.wanted = change;
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled || this.busy || this.streamId === undefined || !this.wanted) return;
    this.scheduled = true;
    this.env.after(BATCH_MS, () => {
      this.scheduled = false;
      void this.flush(this.streamId ?? '');
    });
  }

  private async flush(streamId: string): Promise<void> {
    if (this.call.signal.aborted) return;
    const change = this.wanted?.();
    this.wanted = undefined;
    if (!change || change.add.length + change.remove.length === 0) return;
    this.busy = true;
    try {
      await this.send({ streamId, version: this.version + 1n, ...change });
      this.version += 1n;
      this.busy = false;
      this.schedule();
    } catch (error) {
      // The order of changes is lost with this one: `busy` stays true, so nothing more is sent here.
      if (!this.ignoresFailures) this.fail(this.asRetryable(FoundryError.from(error)));
    }
  }

  /** Repeats the same version until it is accepted; a repeat has no further effect. */
  private async send(request: Parameters<WatchTransport['modify']>[0]): Promise<void> {
    const backoff = new Backoff(this.env.random);
    for (;;) {
      try {
        await this.transport.modify(request, this.call);
        return;
      } catch (thrown) {
        const error = FoundryError.from(thrown);
        if (!error.retryable || this.call.signal.aborted || backoff.failures >= ATTEMPTS) throw error;
        const wait = Math.max(backoff.next(), error.retryAfterMs ?? 0);
        await new Promise<void>((resolve) => this.env.after(wait, resolve));
      }
    }
  }

  /** Makes a refusal retryable, because a new stream with the whole set repairs it; not that of a session. */
  private asRetryable(error: FoundryError): FoundryError {
    if (error.code === Code.Unauthenticated) return error;
    const { reason, nextAction, retryAfterMs } = error;
    const message = `The watches could not be changed: ${error.message}`;
    return new FoundryError({ code: Code.Unavailable, message, reason, nextAction, retryAfterMs });
  }
}
