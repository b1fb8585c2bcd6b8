import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { FoundryError } from '../errors';
import { WatchOptionsSchema } from '../gen/foundry/watch/v1/watch_pb';
import type { TopicPhase } from '../types';
import { Backoff } from './backoff';
import type { Env } from './env';
import type { FrameChecker, Position, Row, Step } from './frameChecker';
import type { TopicSpec, TopicUpdate } from './updates';

/** Requested time between heartbeats, in milliseconds. */
export const HEARTBEAT_MS = 15_000;
const RESETS = 3;
const RESETS_WITHIN_MS = 60_000;

/** What a step changed for the pages. */
export interface Effect {
  /** Rows to show; `whole` = they replace all others. */
  rows: readonly Row[];
  whole: boolean;
}

/** A topic: its rows, its position and how good they are. Independent of entity types and connections. */
export class TopicRecord {
  readonly rows = new Map<string, Row>();
  /** The position of the rows; none = no watch can resume from them. */
  position?: Position;
  phase: TopicPhase = 'loading';
  since: number;
  error?: FoundryError;
  /** Cancels the wait before the topic is requested again; none = it may be on a stream. */
  waiting?: () => void;
  readonly backoff: Backoff;
  private owner?: FrameChecker;
  private loaded = false;
  private incarnation = '';
  /** How often the view behind the rows changed without a new hello. */
  private generation = 0;
  private isOtherView = false;
  private shownRev = 0n;
  /** The revision of the last update for the pages. */
  private toldRev = 0n;
  private resets: number[] = [];

  constructor(
    readonly spec: TopicSpec,
    private readonly env: Env,
  ) {
    this.since = env.now();
    this.backoff = new Backoff(env.random);
  }

  /** The encoded request, resuming from a position. */
  request(position: Position | undefined): Uint8Array {
    const options = toBinary(
      WatchOptionsSchema,
      create(WatchOptionsSchema, {
        resumeToken: position?.resumeToken ?? '',
        afterRev: position?.rev ?? 0n,
        heartbeat: durationFromMs(HEARTBEAT_MS),
      }),
    );
    // Options are field 1 of every watch request.
    return Uint8Array.from([0x0a, ...varint(options.length), ...options, ...this.spec.request]);
  }

  /** Applies the effect of a frame. Several checkers may run side by side during a change of streams. */
  apply(checker: FrameChecker, step: Step): Effect | undefined {
    if (this.owner && checker.order < this.owner.order) return undefined;
    switch (step.kind) {
      case 'snapshot':
        return this.snapshot(checker, step.rows, step.position);
      case 'delta':
        return this.delta(checker, step.rows, step.to);
      case 'bookmark':
        return this.bookmark(checker, step.position, step.caughtUp);
      case 'reset':
        this.resets.push(this.env.now());
        this.isOtherView ||= !step.isSameView;
        if (checker === this.owner || !this.owner) this.forgetPosition();
        return this.setPhase(this.loaded ? 'stale' : 'loading');
      default:
        return undefined;
    }
  }

  /** Whether the checker has caught up with what is shown. */
  isOwnedBy(checker: FrameChecker): boolean {
    return this.owner === checker;
  }

  /** Whether there were three resets within a minute; counting then starts over. */
  resetsTooOften(): boolean {
    const now = this.env.now();
    this.resets = this.resets.filter((at) => now - at < RESETS_WITHIN_MS);
    if (this.resets.length < RESETS) return false;
    this.resets = [];
    return true;
  }

  /** The next watch starts from a snapshot; the rows are shown until that is complete. */
  forgetPosition(): void {
    this.position = undefined;
  }

  /** The rows may be old from now on. */
  markStale(error?: FoundryError): Effect | undefined {
    this.owner = undefined;
    if (this.phase === 'ended') return undefined;
    this.error = error;
    return this.setPhase(this.loaded ? 'stale' : 'loading') ?? (error && NO_ROWS);
  }

  /** Ends the topic; its data must not be shown any longer. */
  end(error: FoundryError): Effect {
    this.clear();
    this.error = error;
    this.setPhase('ended');
    return { rows: [], whole: true };
  }

  /** Starts over, without data. */
  restart(): Effect {
    this.clear();
    this.setPhase('loading');
    return { rows: [], whole: true };
  }

  /** The update that all pages are sent. */
  update(effect: Effect): TopicUpdate {
    this.toldRev = this.shownRev;
    return this.message(effect);
  }

  private message({ rows, whole }: Effect): TopicUpdate {
    const { phase, since, error, shownRev: rev, generation } = this;
    // Rows of equal versions are equal only within one view of one store.
    const incarnation = generation > 0 ? `${this.incarnation}/${generation}` : this.incarnation;
    return { key: this.spec.key, phase, since, rev, incarnation, error: error?.facts(), whole, rows };
  }

  /** The whole topic, for a page that joins. A page that had it before keeps showing its data until there is some. */
  whole(): TopicUpdate {
    return this.message({ rows: [...this.rows.values()], whole: this.loaded });
  }

  private clear(): void {
    this.waiting?.();
    this.waiting = undefined;
    this.rows.clear();
    this.position = undefined;
    this.owner = undefined;
    this.error = undefined;
    this.loaded = false;
    this.incarnation = '';
    this.generation = 0;
    this.isOtherView = false;
    this.shownRev = 0n;
    this.backoff.reset();
  }

  private snapshot(checker: FrameChecker, rows: readonly Row[], position: Position): Effect | undefined {
    // A stream that took over may have been opened when less was known: its deltas will catch up.
    const older = this.position !== undefined && position.rev < this.position.rev;
    if (older && !checker.viewChanged && checker.incarnation === this.incarnation) return undefined;
    this.own(checker);
    this.rows.clear();
    for (const row of rows) this.rows.set(row.key, row);
    this.position = position;
    this.shownRev = position.rev;
    this.loaded = true;
    if (this.isOtherView) this.generation += 1;
    this.isOtherView = false;
    return { rows, whole: true };
  }

  private delta(checker: FrameChecker, rows: readonly Row[], to: bigint): Effect | undefined {
    const { position } = this;
    if (!position || to < position.rev) return undefined;
    this.own(checker);
    // Skip what another stream has delivered already.
    const fresh = rows.filter((row) => row.version > position.rev);
    for (const row of fresh) {
      if (row.value) this.rows.set(row.key, row);
      else this.rows.delete(row.key);
    }
    this.position = { rev: to, resumeToken: position.resumeToken };
    this.shownRev = to;
    return fresh.length > 0 ? { rows: fresh, whole: false } : undefined;
  }

  private bookmark(checker: FrameChecker, position: Position, caughtUp: boolean): Effect | undefined {
    if (!this.position || position.rev < this.position.rev) return undefined;
    this.own(checker);
    this.position = position;
    this.shownRev = position.rev;
    if (!caughtUp) return undefined;
    this.backoff.reset();
    this.error = undefined;
    // Pages read again by revision what is of the scope and in no row.
    return this.setPhase('live') ?? (this.toldRev === position.rev ? undefined : NO_ROWS);
  }

  private own(checker: FrameChecker): void {
    this.owner = checker;
    this.incarnation = checker.incarnation;
  }

  private setPhase(phase: TopicPhase): Effect | undefined {
    if (this.phase === phase) return undefined;
    this.phase = phase;
    this.since = this.env.now();
    return NO_ROWS;
  }
}

const NO_ROWS: Effect = { rows: [], whole: false };

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return [...bytes, value];
}
