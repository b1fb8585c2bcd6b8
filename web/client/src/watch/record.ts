import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { FoundryError } from '../errors';
import { WatchOptionsSchema } from '../gen/foundry/watch/v1/watch_pb';
import type { TopicPhase } from '../types';
import { Backoff } from './backoff';
import type { Course, Position, Row, Step } from './course';
import type { Env } from './env';
import type { TopicSpec, TopicUpdate } from './updates';

/** Time between signs of life that is asked for, in milliseconds. */
export const HEARTBEAT_MS = 15_000;
const RESETS = 3;
const RESETS_WITHIN_MS = 60_000;

/** What a step changed for those who look. */
export interface Effect {
  /** Rows to show; `whole` = they replace all others. */
  rows: readonly Row[];
  whole: boolean;
}

/** A topic: its rows, its position and how good they are. Knows no entity and no connection. */
export class TopicRecord {
  readonly rows = new Map<string, Row>();
  /** Where the rows are; none = they are of no use to go on from. */
  position?: Position;
  phase: TopicPhase = 'loading';
  since: number;
  error?: FoundryError;
  /** Calls off the wait before the topic is asked for again; none = it may be on a stream. */
  waiting?: () => void;
  readonly backoff: Backoff;
  private owner?: Course;
  private loaded = false;
  private incarnation = '';
  /** How often the view behind the rows became another one without another hello. */
  private generation = 0;
  private isOtherView = false;
  private shownRev = 0n;
  private resets: number[] = [];

  constructor(
    readonly spec: TopicSpec,
    private readonly env: Env,
  ) {
    this.since = env.now();
    this.backoff = new Backoff(env.random);
  }

  /** The encoded request, going on from a position. */
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

  /** Takes what a frame came to. Several courses may run side by side while streams change over. */
  take(course: Course, step: Step): Effect | undefined {
    if (this.owner && course.order < this.owner.order) return undefined;
    switch (step.kind) {
      case 'snapshot':
        return this.snapshot(course, step.rows, step.position);
      case 'delta':
        return this.delta(course, step.rows, step.to);
      case 'bookmark':
        return this.bookmark(course, step.position, step.caughtUp);
      case 'reset':
        this.resets.push(this.env.now());
        this.isOtherView ||= !step.isSameView;
        if (course === this.owner || !this.owner) this.forgetPosition();
        return this.setPhase(this.loaded ? 'stale' : 'loading');
      default:
        return undefined;
    }
  }

  /** Whether the course has brought everything up to what is shown. */
  isOwnedBy(course: Course): boolean {
    return this.owner === course;
  }

  /** Whether three resets came within a minute; they are then forgotten. */
  resetsTooOften(): boolean {
    const now = this.env.now();
    this.resets = this.resets.filter((at) => now - at < RESETS_WITHIN_MS);
    if (this.resets.length < RESETS) return false;
    this.resets = [];
    return true;
  }

  /** The next start is from a snapshot; the rows are shown until it is complete. */
  forgetPosition(): void {
    this.position = undefined;
  }

  /** The rows may be old from now on. */
  cutOff(error?: FoundryError): Effect | undefined {
    this.owner = undefined;
    if (this.phase === 'ended') return undefined;
    this.error = error;
    return this.setPhase(this.loaded ? 'stale' : 'loading') ?? (error && NO_ROWS);
  }

  /** Nothing more will come; what was shown must not be seen any longer. */
  end(error: FoundryError): Effect {
    this.clear();
    this.error = error;
    this.setPhase('ended');
    return { rows: [], whole: true };
  }

  /** Starts anew, with nothing. */
  restart(): Effect {
    this.clear();
    this.setPhase('loading');
    return { rows: [], whole: true };
  }

  /** What pages are told. */
  update({ rows, whole }: Effect): TopicUpdate {
    const { phase, since, error, shownRev: rev, generation } = this;
    // Rows of equal versions are the same within one view of one store only.
    const incarnation = generation > 0 ? `${this.incarnation}/${generation}` : this.incarnation;
    return { key: this.spec.key, phase, since, rev, incarnation, error: error?.facts(), whole, rows };
  }

  /** Everything, for a page that joins; one that had it before keeps showing that until there is something. */
  whole(): TopicUpdate {
    return this.update({ rows: [...this.rows.values()], whole: this.loaded });
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

  private snapshot(course: Course, rows: readonly Row[], position: Position): Effect | undefined {
    // A stream that took over may have asked before this much was known: its deltas will catch up.
    const older = this.position !== undefined && position.rev < this.position.rev;
    if (older && !course.viewChanged && course.incarnation === this.incarnation) return undefined;
    this.own(course);
    this.rows.clear();
    for (const row of rows) this.rows.set(row.key, row);
    this.position = position;
    this.shownRev = position.rev;
    this.loaded = true;
    if (this.isOtherView) this.generation += 1;
    this.isOtherView = false;
    return { rows, whole: true };
  }

  private delta(course: Course, rows: readonly Row[], to: bigint): Effect | undefined {
    const { position } = this;
    if (!position || to < position.rev) return undefined;
    this.own(course);
    // What another stream said already is not said again.
    const fresh = rows.filter((row) => row.version > position.rev);
    for (const row of fresh) {
      if (row.value) this.rows.set(row.key, row);
      else this.rows.delete(row.key);
    }
    this.position = { rev: to, resumeToken: position.resumeToken };
    this.shownRev = to;
    return fresh.length > 0 ? { rows: fresh, whole: false } : undefined;
  }

  private bookmark(course: Course, position: Position, caughtUp: boolean): Effect | undefined {
    if (!this.position || position.rev < this.position.rev) return undefined;
    this.own(course);
    this.position = position;
    this.shownRev = position.rev;
    if (!caughtUp) return undefined;
    this.backoff.reset();
    this.error = undefined;
    return this.setPhase('live');
  }

  private own(course: Course): void {
    this.owner = course;
    this.incarnation = course.incarnation;
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
