import { fromBinary } from '@bufbuild/protobuf';
import {
  BookmarkSchema,
  HelloSchema,
  ResetReason,
  ResetSchema,
  SnapshotBeginSchema,
  SnapshotEndSchema,
} from '../gen/foundry/watch/v1/watch_pb';
import { RawFrameSchema, type RawDelta, type RawFrame } from '../gen/foundry/watch/v1/raw_pb';
import { SnapshotDigest } from './digest';

/** A row of a view; without a value it is gone from it. */
export interface Row {
  readonly key: string;
  readonly version: bigint;
  readonly value?: Uint8Array;
}

/** The position from which a watch resumes. */
export interface Position {
  readonly rev: bigint;
  readonly resumeToken: string;
}

/** The effect of one frame of a watch. */
export type Step =
  | { kind: 'nothing' }
  | { kind: 'hello'; resumed: boolean }
  | { kind: 'snapshot'; rows: Row[]; position: Position }
  | { kind: 'delta'; rows: Row[]; to: bigint }
  | { kind: 'bookmark'; position: Position; caughtUp: boolean }
  | { kind: 'reset'; reason: string; isSameView: boolean };

/** A watch broke its contract: a `gap` in its frames, or a `digest-mismatch` of its snapshot. */
export class Violation extends Error {
  constructor(
    readonly what: 'gap' | 'digest-mismatch',
    message: string,
  ) {
    super(message);
  }
}

const NOTHING: Step = { kind: 'nothing' };

/** One watch on one stream: every frame is checked before any of it is shown. */
export class FrameChecker {
  /** Incarnation of the store behind the watch. */
  incarnation = '';
  /** Whether the position was refused because the view has changed, not because the position is too old. */
  viewChanged = false;
  private opened = false;
  private seq = 0n;
  private at = 0n;
  private staging?: { rev: bigint; rows: Row[]; digest: SnapshotDigest };
  private chain: Row[] = [];

  /**
   * @param asked The requested position; none = a snapshot.
   * @param order Number of the stream; a later stream takes over from an earlier one.
   */
  constructor(
    readonly asked: Position | undefined,
    readonly order: number,
  ) {}

  /** Checks and applies one encoded frame. @throws Violation */
  accept(bytes: Uint8Array): Step {
    try {
      return this.check(fromBinary(RawFrameSchema, bytes));
    } catch (error) {
      throw error instanceof Violation ? error : gap(`a frame does not decode: ${String(error)}`);
    }
  }

  private check(frame: RawFrame): Step {
    this.seq += 1n;
    if (frame.seq !== this.seq) throw gap(`received frame ${frame.seq}, expected ${this.seq}`);
    const { body } = frame;
    if (body.case === 'hello') return this.hello(frame.fromRev, body.value);
    if (!this.opened) throw gap('the stream did not start with a hello');
    if (frame.fromRev !== this.at) throw gap(`a frame continues revision ${frame.fromRev}, the position is ${this.at}`);
    switch (body.case) {
      case 'snapshotBegin':
        this.chain = [];
        this.staging = { rev: fromBinary(SnapshotBeginSchema, body.value).rev, rows: [], digest: new SnapshotDigest() };
        return NOTHING;
      case 'snapshotChunk':
        return this.stage(body.value);
      case 'snapshotEnd':
        return this.finish(body.value);
      case 'delta':
        return this.delta(body.value);
      case 'bookmark':
        return this.bookmark(body.value);
      case 'reset':
        return this.reset(body.value);
      default:
        // Drains and authorization are reported for the whole stream.
        return NOTHING;
    }
  }

  private hello(fromRev: bigint, bytes: Uint8Array): Step {
    const hello = fromBinary(HelloSchema, bytes);
    const expected = hello.resumed ? (this.asked?.rev ?? 0n) : 0n;
    if (this.opened || fromRev !== expected) throw gap(`a hello at revision ${fromRev} is out of place`);
    this.opened = true;
    this.at = fromRev;
    this.incarnation = hello.incarnation;
    return { kind: 'hello', resumed: hello.resumed };
  }

  private reset(bytes: Uint8Array): Step {
    const { reason } = fromBinary(ResetSchema, bytes);
    this.at = 0n;
    this.staging = undefined;
    this.chain = [];
    // Resets by the edge have no reason: they concern only its position in the stream.
    this.viewChanged ||= reason !== ResetReason.BELOW_FLOOR && reason !== ResetReason.UNSPECIFIED;
    return { kind: 'reset', reason: ResetReason[reason] ?? 'unknown', isSameView: reason === ResetReason.BELOW_FLOOR };
  }

  private stage(chunk: RawDelta): Step {
    const { staging } = this;
    if (!staging) throw gap('a chunk outside a snapshot');
    for (const { key, version, op } of chunk.changes) {
      if (op.case !== 'upsert' || version > staging.rev) throw gap(`${key} at ${version} is not a row of the snapshot`);
      staging.digest.add(key, version);
      staging.rows.push({ key, version, value: op.value.slice() });
    }
    return NOTHING;
  }

  private finish(bytes: Uint8Array): Step {
    const end = fromBinary(SnapshotEndSchema, bytes);
    const { staging } = this;
    if (!staging || staging.rev !== end.rev) throw gap('a snapshot end without a snapshot');
    this.staging = undefined;
    const { rows, digest } = staging;
    if (BigInt(rows.length) !== end.count || digest.value() !== BigInt.asUintN(64, end.digest)) {
      throw new Violation('digest-mismatch', `received ${rows.length} of ${end.count} rows, or their digest is wrong`);
    }
    this.at = end.rev;
    return { kind: 'snapshot', rows, position: { rev: end.rev, resumeToken: end.resumeToken } };
  }

  private delta({ toRev, changes, more }: RawDelta): Step {
    if (this.staging) throw gap('a delta inside a snapshot');
    if (toRev < this.at) throw gap(`a delta goes back from ${this.at} to ${toRev}`);
    for (const { key, version, op } of changes) {
      if (version <= this.at || version > toRev) throw gap(`${key} at ${version} is outside its delta`);
      // A copy of its own: what was decoded is a window on the whole frame and would keep all of it.
      this.chain.push({ key, version, value: op.case === 'upsert' ? op.value.slice() : undefined });
    }
    this.at = toRev;
    if (more) return NOTHING;
    const rows = this.chain;
    this.chain = [];
    return { kind: 'delta', rows, to: toRev };
  }

  private bookmark(bytes: Uint8Array): Step {
    const { rev, caughtUp, resumeToken } = fromBinary(BookmarkSchema, bytes);
    if (resumeToken === '') {
      // A sign of life only; it says where we are.
      if (rev !== this.at) throw gap(`a heartbeat at ${rev}, the position is ${this.at}`);
      return NOTHING;
    }
    if (this.staging || this.chain.length > 0) throw gap('a bookmark before the end of a catch-up');
    if (rev < this.at) throw gap(`a bookmark goes back from ${this.at} to ${rev}`);
    this.at = rev;
    return { kind: 'bookmark', position: { rev, resumeToken }, caughtUp };
  }
}

function gap(message: string): Violation {
  return new Violation('gap', message);
}
