import { create, toBinary, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { describe, expect, it } from 'vitest';
import { FoundryError } from '../../src/errors';
import { BadRequestSchema, ErrorInfoSchema, ResourceInfoSchema, RetryInfoSchema } from '../../src/gen/google/rpc/error_details_pb';
import { StatusSchema } from '../../src/gen/google/rpc/status_pb';
import { SessionItemSchema, type SessionItem } from '../../src/gen/foundry/task/v1/task_pb';
import { SessionLog } from '../../src/sessionLog';
import { topics } from '../../src/topics';
import { FrameChecker, Violation } from '../../src/watch/frameChecker';
import { SnapshotDigest } from '../../src/watch/digest';
import { RawFrameSchema } from '../../src/gen/foundry/watch/v1/raw_pb';
import { BookmarkSchema, HelloSchema, SnapshotBeginSchema, SnapshotEndSchema } from '../../src/gen/foundry/watch/v1/watch_pb';

function encode<D extends DescMessage>(schema: D, value: MessageInitShape<D>): Uint8Array {
  return toBinary(schema, create(schema, value));
}

describe('the digest of a snapshot', () => {
  /** The digest as the contract defines it, with bigints. */
  function fnv(key: string, version: bigint): bigint {
    const bytes = [...new TextEncoder().encode(key), 0];
    for (let i = 0n; i < 8n; i += 1n) bytes.push(Number((version >> (8n * i)) & 0xffn));
    return bytes.reduce((hash, byte) => BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n), 0xcbf29ce484222325n);
  }

  it('is the XOR of FNV-1a-64 over key, zero and version', () => {
    const rows: [string, bigint][] = [
      ['task/01', 1n],
      ['', 0n],
      ['répository/ü', 2n ** 62n + 12345678901n],
      ['entry/000000000042', 4294967296n],
    ];
    const digest = new SnapshotDigest();
    let expected = 0n;
    for (const [key, version] of rows) {
      digest.add(key, version);
      expected ^= fnv(key, version);
      expect(digest.value()).toBe(expected);
    }
  });

  it('of 10,000 rows is computed within a frame or few', () => {
    const digest = new SnapshotDigest();
    const run = () => {
      const start = performance.now();
      for (let i = 0; i < 10_000; i += 1) digest.add(`entry/${String(i).padStart(12, '0')}`, BigInt(i));
      return performance.now() - start;
    };
    // The fastest of several runs, because the machine may be busy.
    expect(Math.min(...Array.from({ length: 5 }, run))).toBeLessThan(200);
  });
});

describe('a frame checker', () => {
  const hello = (resumed: boolean, fromRev: bigint) =>
    encode(RawFrameSchema, { seq: 1n, fromRev, body: { case: 'hello', value: encode(HelloSchema, { resumed }) } });
  const delta = (seq: bigint, fromRev: bigint, toRev: bigint, version: bigint) =>
    encode(RawFrameSchema, {
      seq,
      fromRev,
      body: { case: 'delta', value: { toRev, changes: [{ key: 'k', version, op: { case: 'upsert', value: new Uint8Array([1]) } }] } },
    });
  const at7 = () => {
    const checker = new FrameChecker({ rev: 7n, resumeToken: 't' }, 1);
    checker.accept(hello(true, 7n));
    return checker;
  };

  it('takes a frame that continues its position', () => {
    expect(at7().accept(delta(2n, 7n, 9n, 8n))).toMatchObject({ kind: 'delta', to: 9n });
  });

  it.each([
    ['a frame that is missing', delta(3n, 7n, 9n, 8n)],
    ['a repeated frame', delta(1n, 7n, 9n, 8n)],
    ['another position', delta(2n, 6n, 9n, 8n)],
    ['a way back', delta(2n, 7n, 6n, 6n)],
    ['a change before its delta', delta(2n, 7n, 9n, 7n)],
    ['a change after its delta', delta(2n, 7n, 9n, 10n)],
    ['a second hello', hello(true, 7n)],
    ['garbage', new Uint8Array([255, 255, 255])],
  ])('refuses %s', (_, frame) => {
    expect(() => at7().accept(frame)).toThrow(Violation);
  });

  type Body = MessageInitShape<typeof RawFrameSchema>['body'];
  type Change = readonly [key: string, version: bigint, isGone?: boolean];
  const chunk = (...changes: Change[]): Body => ({
    case: 'snapshotChunk',
    value: {
      changes: changes.map(([key, version, isGone]) => ({
        key,
        version,
        op: { case: isGone ? 'tombstone' : 'upsert', value: new Uint8Array([1]) },
      })),
    },
  });
  const begin: Body = { case: 'snapshotBegin', value: encode(SnapshotBeginSchema, { rev: 9n }) };
  const end = (count: bigint, rows: Change[], rev = 9n): Body => {
    const digest = new SnapshotDigest();
    for (const [key, version] of rows) digest.add(key, version);
    return { case: 'snapshotEnd', value: encode(SnapshotEndSchema, { rev, count, digest: digest.value(), resumeToken: 't' }) };
  };
  const bookmark = (rev: bigint, resumeToken: string): Body => ({ case: 'bookmark', value: encode(BookmarkSchema, { rev, resumeToken }) });
  const A: Change = ['a', 8n];
  const B: Change = ['b', 9n];
  /** Runs these frames after the hello of a watch that starts with a snapshot. */
  const run = (...bodies: Body[]) => {
    const checker = new FrameChecker(undefined, 1);
    checker.accept(hello(false, 0n));
    return bodies.map((body, i) => checker.accept(encode(RawFrameSchema, { seq: BigInt(i + 2), fromRev: 0n, body })));
  };

  it('takes a snapshot whose rows, number and digest agree', () => {
    const [, , , , last] = run(begin, chunk(A), bookmark(0n, ''), chunk(B), end(2n, [A, B]));
    expect(last).toMatchObject({ kind: 'snapshot', rows: [{ key: 'a' }, { key: 'b' }], position: { rev: 9n, resumeToken: 't' } });
  });

  it('begins a snapshot anew when another one begins', () => {
    expect(run(begin, chunk(A), begin, chunk(B), end(1n, [B])).at(-1)).toMatchObject({ kind: 'snapshot', rows: [{ key: 'b' }] });
  });

  it.each<[string, Body[]]>([
    ['a row less than counted', [begin, chunk(A), end(2n, [A, B])]],
    ['a row more than counted, whatever the digest', [begin, chunk(A, B, B), end(1n, [A])]],
    ['another number than counted, although the digest is right', [begin, chunk(A, B), end(3n, [A, B])]],
    ['a row of another version', [begin, chunk(['a', 7n]), end(1n, [A])]],
    ['a row that is none', [begin, chunk(['a', 8n, true]), end(1n, [A])]],
    ['a row from after the snapshot', [begin, chunk(['a', 10n]), end(1n, [['a', 10n]])]],
    ['the end of another snapshot', [begin, chunk(A), end(1n, [A], 8n)]],
    ['an end without a beginning', [end(0n, [])]],
    ['a chunk without a beginning', [chunk(A)]],
    ['a chunk after a reset within a snapshot', [begin, { case: 'reset', value: new Uint8Array() }, chunk(A)]],
    ['a delta within a snapshot', [begin, { case: 'delta', value: { toRev: 9n, changes: [], more: false } }]],
    ['a bookmark within a snapshot', [begin, bookmark(9n, 't')]],
    ['a sign of life from elsewhere', [bookmark(9n, '')]],
  ])('refuses %s', (_, bodies) => {
    expect(() => run(...bodies)).toThrow(Violation);
  });

  it('refuses a bookmark within a chain of deltas, and one that goes back', () => {
    const within = at7();
    const value = { toRev: 9n, changes: [], more: true };
    within.accept(
      encode(RawFrameSchema, {
        seq: 2n,
        fromRev: 7n,
        body: { case: 'delta', value: { ...value, changes: [{ key: 'k', version: 8n, op: { case: 'upsert', value: new Uint8Array() } }] } },
      }),
    );
    expect(() => within.accept(encode(RawFrameSchema, { seq: 3n, fromRev: 9n, body: bookmark(9n, 't') }))).toThrow(Violation);
    expect(() => at7().accept(encode(RawFrameSchema, { seq: 2n, fromRev: 7n, body: bookmark(6n, 't') }))).toThrow(Violation);
  });

  it('refuses a hello at another position than was asked for', () => {
    expect(() => new FrameChecker({ rev: 7n, resumeToken: 't' }, 1).accept(hello(true, 8n))).toThrow(Violation);
    expect(() => new FrameChecker(undefined, 1).accept(delta(1n, 0n, 1n, 1n))).toThrow(Violation);
  });

  it('keeps rows apart from the frame they came in', () => {
    const step = at7().accept(delta(2n, 7n, 9n, 8n));
    const value = step.kind === 'delta' ? step.rows[0]?.value : undefined;
    expect(value?.buffer.byteLength).toBe(1);
  });
});

describe('an error', () => {
  const details = [
    { desc: ErrorInfoSchema, value: { reason: 'TASK_BUSY', domain: 'foundry', metadata: { next_action: 'Wait.', limit: '3' } } },
    { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(1500) } },
    { desc: BadRequestSchema, value: { fieldViolations: [{ field: 'title', description: 'is too long' }] } },
    { desc: ResourceInfoSchema, value: { resourceType: 'task', resourceName: 'tsk_1' } },
  ] as const;
  const expected = {
    code: Code.FailedPrecondition,
    reason: 'TASK_BUSY',
    message: 'No.',
    nextAction: 'Wait.',
    retryable: true,
    retryAfterMs: 1500,
    fields: [{ field: 'title', description: 'is too long' }],
    resource: { type: 'task', name: 'tsk_1' },
    metadata: { limit: '3' },
  };
  const encoded = details.map(({ desc, value }) => ({ type: desc.typeName, value: encode(desc as DescMessage, value) }));

  it('of a call carries reason, action and details', () => {
    const thrown = new ConnectError('No.', Code.FailedPrecondition);
    thrown.details = encoded;
    expect(FoundryError.from(thrown)).toMatchObject(expected);
  });

  it('of a watch carries the same', () => {
    const status = encode(StatusSchema, {
      code: 9,
      message: 'No.',
      details: encoded.map(({ type, value }) => ({ typeUrl: `type.googleapis.com/${type}`, value })),
    });
    expect(FoundryError.fromStatus(9, 'No.', status)).toMatchObject(expected);
    expect(FoundryError.fromStatus(9, 'No.', new Uint8Array([255]))).toMatchObject({ message: 'No.', reason: 'FAILED_PRECONDITION' });
  });

  it('crosses to a worker and back', () => {
    const thrown = new ConnectError('No.', Code.FailedPrecondition);
    thrown.details = encoded;
    expect(new FoundryError(structuredClone(FoundryError.from(thrown).facts()))).toMatchObject(expected);
  });

  it.each([
    ['a killed server', 'missing trailer'],
    ['a severed network', new TypeError('Failed to fetch')],
  ])('of %s is UNAVAILABLE and can be retried', (_, thrown) => {
    expect(FoundryError.from(thrown)).toMatchObject({ code: Code.Unavailable, reason: 'UNAVAILABLE', retryable: true });
  });
});

describe('topics', () => {
  it('are equal when their requests are', () => {
    expect(topics.task('tsk_1').key).toBe(topics.task('tsk_1').key);
    const keys = [topics.task('1'), topics.task('2'), topics.session('1', 0n), topics.session('1', 5n), topics.sandbox('1')];
    expect(new Set(keys.map(({ key }) => key)).size).toBe(keys.length);
  });
});

describe('a session log', () => {
  const entry = (offset: number): [string, SessionItem] => [
    `entry/${String(offset).padStart(12, '0')}`,
    create(SessionItemSchema, { item: { case: 'entry', value: { offset: BigInt(offset) } } }),
  ];
  const message = (id: string, position: number): [string, SessionItem] => [
    `message/${id}`,
    create(SessionItemSchema, { item: { case: 'message', value: { messageId: id, position: BigInt(position) } } }),
  ];

  it('grows in place, so that a reader takes only what is new', () => {
    const log = new SessionLog();
    log.reset([entry(2), entry(1)]);
    const { entries } = log;
    log.apply([entry(3)]);
    expect(log.entries).toBe(entries);
    expect(entries.map(({ offset }) => offset)).toEqual([1n, 2n, 3n]);
  });

  it('begins a new array when an entry comes out of order, and has none twice', () => {
    const log = new SessionLog();
    log.apply([entry(1), entry(3)]);
    const { entries } = log;
    log.apply([entry(2), entry(2)]);
    expect(log.entries).not.toBe(entries);
    expect(log.entries.map(({ offset }) => offset)).toEqual([1n, 2n, 3n]);
  });

  it('keeps the queue in the order of delivery', () => {
    const log = new SessionLog();
    log.apply([message('b', 2), message('a', 1), message('c', 3)]);
    log.apply([message('c', 0), ['message/b', undefined]]);
    expect(log.queue.map(({ messageId }) => messageId)).toEqual(['c', 'a']);
  });

  it('takes 50,000 entries one by one at once', () => {
    const run = () => {
      const log = new SessionLog();
      const start = performance.now();
      for (let i = 1; i <= 50_000; i += 1) log.apply([entry(i)]);
      const took = performance.now() - start;
      expect(log.entries).toHaveLength(50_000);
      return took;
    };
    // The fastest of several runs, because the machine may be busy.
    expect(Math.min(...Array.from({ length: 5 }, run))).toBeLessThan(1_000);
  });
});
