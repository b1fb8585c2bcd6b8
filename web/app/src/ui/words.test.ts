import { StageState } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { RepositoryState } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { SessionState, TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { Code, FoundryError } from '@foundry/client'
import { expect, test } from 'vitest'
import { errorText, sentence } from './errors'
import { repositoryStatus, sessionStatus, stageStatus, taskStatus } from './status'
import { agoPhrase, agoText, millis, spanText } from './time'

const known = (states: object): number[] => Object.values(states).filter((it): it is number => typeof it === 'number' && it > 0)

test('every state has a word and an icon', () => {
  const all = [
    ...known(TaskState).map(taskStatus),
    ...known(SessionState).map(sessionStatus),
    ...known(StageState).map(stageStatus),
    ...known(RepositoryState).map((it) => repositoryStatus(it)),
    ...['pending', 'ready', 'syncing', 'error', 'deleting'].map((it) => repositoryStatus(it)),
  ]
  expect(all.filter((it) => it.word === 'Unknown')).toEqual([])
})

test('a state of a newer server is shown as unknown', () => {
  expect(taskStatus(99 as TaskState).word).toBe('Unknown')
})

test('spans are as short as they get', () => {
  expect([0, -5, 4_999, 125_000, 7_200_000, 12_000_000, 180_000_000].map(spanText)).toEqual([
    '0 s',
    '0 s',
    '4 s',
    '2 min 5 s',
    '2 h',
    '3 h 20 min',
    '2 d 2 h',
  ])
})

test('distances are now, minutes, hours, days, then a date', () => {
  const now = Date.UTC(2026, 5, 30)
  expect([10_000, 250_000, 7_300_000, 200_000_000].map((ms) => agoText(now - ms, now))).toEqual(['now', '4 min', '2 h', '2 d'])
  expect(agoText(now - 40 * 86_400_000, now)).toContain('2026')
  expect(agoPhrase(now - 1000, now)).toBe('just now')
  expect(agoPhrase(now - 250_000, now)).toBe('4 min ago')
})

test('moments of all kinds are milliseconds', () => {
  const stamp = { $typeName: 'google.protobuf.Timestamp', seconds: 2n, nanos: 5_000_000 } as const
  expect([millis(7), millis(new Date(8)), millis(stamp), millis(undefined)]).toEqual([7, 8, 2005, undefined])
})

test('an error is told with reason, sentence, next action and details', () => {
  const error = new FoundryError({
    code: Code.NotFound,
    reason: 'TASK_UNKNOWN',
    message: 'no such task',
    nextAction: 'look at the list',
    metadata: { task_id: 'task_1' },
  })
  const text = errorText(error)
  expect(text).toMatchObject({ reason: 'TASK_UNKNOWN', message: 'No such task.', nextAction: 'look at the list' })
  expect(text.details).toContain('task_id: task_1')
})

test('a fault of the page is not taken for a lost connection', () => {
  expect(errorText(new TypeError('x is undefined')).reason).toBe('PAGE_FAULT')
})

test('sentences begin with a capital letter and end with a stop', () => {
  expect(['', ' done ', 'Why?'].map(sentence)).toEqual(['Something went wrong.', 'Done.', 'Why?'])
})
