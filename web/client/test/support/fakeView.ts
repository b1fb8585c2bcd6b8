import { create, toBinary, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import { RawFrameSchema, type RawChange } from '../../src/gen/foundry/watch/v1/raw_pb';
import {
  BookmarkSchema,
  HelloSchema,
  ResetReason,
  ResetSchema,
  SnapshotBeginSchema,
  SnapshotEndSchema,
  type WatchOptions,
} from '../../src/gen/foundry/watch/v1/watch_pb';
import { TaskItemSchema } from '../../src/gen/foundry/task/v1/task_pb';
import { SnapshotDigest } from '../../src/watch/digest';

const ROWS_PER_CHUNK = 3;

/** A view as a server keeps it: rows with the revision of their last change, and tombstones. */
export class FakeView {
  constructor() {
    this.remember();
  }

  rev = 10n;
  incarnation = 'first';
  /** Positions below it cannot be resumed. */
  floor = 0n;
  /** Number of next snapshots that get a wrong digest. */
  spoiledSnapshots = 0;
  /** The rows at each position that ever was, as text. */
  readonly history = new Map<string, string>();
  private readonly rows = new Map<string, { version: bigint; title?: string }>();

  /** Commits a row, or its deletion, as one revision. */
  commit(key: string, title?: string): void {
    this.rev += 1n;
    this.rows.set(key, { version: this.rev, title });
    this.remember();
  }

  /** What an up-to-date client shows. */
  shown(): Record<string, string> {
    const live = [...this.rows].filter(([, row]) => row.title !== undefined);
    return Object.fromEntries(live.map(([key, row]) => [key, row.title ?? '']).sort());
  }

  /** Loses all history: from now on it is another store. */
  lose(incarnation: string): void {
    this.incarnation = incarnation;
    this.rev = BigInt(this.rows.size) + 1n;
    let version = 0n;
    for (const [key, row] of this.rows) {
      if (row.title === undefined) this.rows.delete(key);
      else row.version = ++version;
    }
    this.remember();
  }

  /** Changes the titles of rows but not their versions. */
  reword(titles: Record<string, string>): void {
    for (const [key, row] of this.rows) row.title = titles[key];
    this.remember();
  }

  private remember(): void {
    this.history.set(this.token(), JSON.stringify(this.shown()));
  }

  /** Rows changed after a revision, by version; with tombstones unless from the start. */
  changes(after: bigint, tombstones: boolean): RawChange[] {
    const changed = [...this.rows].filter(([, row]) => row.version > after && (tombstones || row.title !== undefined));
    changed.sort(([, a], [, b]) => (a.version < b.version ? -1 : 1));
    return changed.map(([key, { version, title }]) => ({
      $typeName: 'foundry.watch.v1.RawChange',
      key,
      version,
      op: title === undefined ? { case: 'tombstone', value: new Uint8Array() } : { case: 'upsert', value: item(key, title) },
    }));
  }

  token(): string {
    return `${this.incarnation}@${this.rev}`;
  }
}

/** One watch of a view: numbers its frames and remembers what it has sent. */
export class FakeWatch {
  private seq = 0n;
  private at = 0n;

  get hasBegun(): boolean {
    return this.seq > 0n;
  }

  /** @param send Takes each encoded frame. */
  constructor(
    readonly view: FakeView,
    private readonly send: (frame: Uint8Array) => void,
  ) {}

  /** Sends hello and brings the watch up to date. */
  begin(options: WatchOptions | undefined): void {
    const { view } = this;
    const token = options?.resumeToken ?? '';
    const after = options?.afterRev ?? 0n;
    const [incarnation] = token.split('@');
    const good = token !== '' && incarnation === view.incarnation && after >= view.floor;
    if (good && after > view.rev) throw new Error(`a client is ahead of the server: ${after} > ${view.rev}`);
    if (good) this.at = after;
    this.frame('hello', encode(HelloSchema, { server: 'fake', incarnation: view.incarnation, resumed: good }));
    if (token !== '' && !good) this.reset();
    else if (!good) this.snapshot();
    else this.catchUp();
  }

  /** Sends the changes since the last position, and the new position. */
  catchUp(): void {
    const { view } = this;
    if (view.rev > this.at) this.delta(view.changes(this.at, true), view.rev);
    this.bookmark(true);
  }

  delta(changes: RawChange[], toRev: bigint, more = false): void {
    this.frame('delta', { $typeName: 'foundry.watch.v1.RawDelta', toRev, changes, more });
    this.at = toRev;
  }

  bookmark(caughtUp: boolean): void {
    this.frame('bookmark', encode(BookmarkSchema, { rev: this.view.rev, caughtUp, resumeToken: this.view.token() }));
    this.at = this.view.rev;
  }

  reset(): void {
    this.frame('reset', encode(ResetSchema, { reason: ResetReason.BELOW_FLOOR }));
    this.at = 0n;
    this.snapshot();
  }

  /** Continues as another view of the same store: rows of equal versions have other content. */
  changeView(titles: Record<string, string>): void {
    this.view.reword(titles);
    this.frame('reset', encode(ResetSchema, { reason: ResetReason.UNSPECIFIED }));
    this.at = 0n;
    this.snapshot();
  }

  snapshot(): void {
    this.snapshotBegin();
    this.snapshotEnd();
  }

  snapshotBegin(): void {
    this.frame('snapshotBegin', encode(SnapshotBeginSchema, { rev: this.view.rev }));
    const rows = this.view.changes(0n, false);
    for (let i = 0; i < rows.length; i += ROWS_PER_CHUNK) {
      const changes = rows.slice(i, i + ROWS_PER_CHUNK);
      this.frame('snapshotChunk', { $typeName: 'foundry.watch.v1.RawDelta', toRev: 0n, changes, more: false });
    }
  }

  snapshotEnd(): void {
    const { view } = this;
    const rows = view.changes(0n, false);
    const digest = new SnapshotDigest();
    for (const row of rows) digest.add(row.key, row.version);
    const spoiled = view.spoiledSnapshots-- > 0 ? 1n : 0n;
    this.frame(
      'snapshotEnd',
      encode(SnapshotEndSchema, {
        rev: view.rev,
        count: BigInt(rows.length),
        digest: digest.value() ^ spoiled,
        resumeToken: view.token(),
      }),
    );
    this.at = view.rev;
    this.bookmark(true);
  }

  /** Skips a frame, so that the next one leaves a gap. */
  skip(): void {
    this.seq += 1n;
  }

  // The body is one case of a oneof; encoding checks it.
  private frame(kind: string, value: unknown): void {
    this.seq += 1n;
    const body = { case: kind, value } as MessageInitShape<typeof RawFrameSchema>['body'];
    this.send(encode(RawFrameSchema, { seq: this.seq, fromRev: this.at, body }));
  }
}

/** An entity of a task view with this title. */
export function item(key: string, title: string): Uint8Array {
  return encode(TaskItemSchema, { item: { case: 'task', value: { taskId: key, title } } });
}

function encode<D extends DescMessage>(schema: D, value: MessageInitShape<D>): Uint8Array {
  return toBinary(schema, create(schema, value));
}
