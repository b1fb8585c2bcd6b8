import { describe, expect, it } from 'vitest';
import { systemEnv } from '../../src/watch/env';
import { FrameChecker, type Row, type Step } from '../../src/watch/frameChecker';
import { TopicRecord } from '../../src/watch/record';

/** A topic at revision 5, and what its pages are sent of each step. */
function topic() {
  const record = new TopicRecord({ key: 'a', method: 'm', request: new Uint8Array(), kind: 'a' }, systemEnv);
  const first = new FrameChecker(undefined, 1);
  const told = (step: Step, checker = first) => {
    const effect = record.apply(checker, step);
    return effect && record.update(effect).rev;
  };
  expect(told({ kind: 'snapshot', rows: [], position: at(5n) })).toBe(5n);
  expect(told(bookmark(5n, true))).toBe(5n);
  return { record, told };
}

const at = (rev: bigint) => ({ rev, resumeToken: 't' });
const bookmark = (rev: bigint, caughtUp: boolean): Step => ({ kind: 'bookmark', position: at(rev), caughtUp });

describe('the revision of a topic', () => {
  it('is sent once when it moves without a row', () => {
    const { told } = topic();
    expect(told(bookmark(7n, true))).toBe(7n);
    expect(told(bookmark(7n, true))).toBeUndefined();
  });

  it('is sent by the bookmark that has caught up, after one at the same revision that had not', () => {
    const { told } = topic();
    expect(told(bookmark(7n, false))).toBeUndefined();
    expect(told(bookmark(7n, true))).toBe(7n);
  });

  it('is sent after a delta whose rows another stream has shown before', () => {
    const { told } = topic();
    const row: Row = { key: 'k', version: 6n, value: new Uint8Array([1]) };
    expect(told({ kind: 'delta', rows: [row], to: 6n })).toBe(6n);
    expect(told({ kind: 'delta', rows: [row], to: 7n }, new FrameChecker(undefined, 2))).toBeUndefined();
    expect(told(bookmark(7n, true), new FrameChecker(undefined, 3))).toBe(7n);
  });

  it('is not taken as sent to all because one page has joined', () => {
    const { record, told } = topic();
    expect(told(bookmark(7n, false))).toBeUndefined();
    expect(record.whole().rev).toBe(7n);
    expect(told(bookmark(7n, true))).toBe(7n);
  });
});
