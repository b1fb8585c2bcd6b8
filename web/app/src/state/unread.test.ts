import { expect, test } from 'vitest'
import { marks, task } from '../test/summaries'
import { attention } from './attention'
import { needsAnswer, unreadSessions } from './unread'
import { TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'

const two = task('task_1', 1, {
  sessions: [
    { sessionId: 'ses_a', lastOffset: 9007199254740993n },
    { sessionId: 'ses_b', lastOffset: 3n },
  ],
})

test('a session is unread while its last offset is above the read mark', () => {
  expect(unreadSessions(two, marks({ ses_a: 9007199254740992n, ses_b: 3n }))).toBe(1)
  expect(unreadSessions(two, marks({ ses_a: 9007199254740993n, ses_b: 4n }))).toBe(0)
})

test('a session without a mark is unread as soon as it has an entry', () => {
  expect(unreadSessions(two, marks({}))).toBe(2)
  expect(unreadSessions(task('task_2', 1, { sessions: [{ sessionId: 'ses_c', lastOffset: 0n }] }), marks({}))).toBe(0)
})

test('a task needs an answer when any of its sessions waits for one', () => {
  expect(needsAnswer(two)).toBe(false)
  expect(needsAnswer(task('task_3', 1, { sessions: [{}, { waitsForPermission: true }] }))).toBe(true)
})

test('what waits for an answer comes before failures, and these before what is unread', () => {
  const tasks = [
    two,
    task('task_4', 2, { state: TaskState.ERROR }),
    task('task_5', 1, { sessions: [{ waitsForPermission: true }] }),
    task('task_6', 1),
  ]
  const order = (known: boolean) => attention(tasks, marks({}), known).map((it) => it.task.taskId)
  expect(order(true)).toEqual(['task_5', 'task_4', 'task_1'])
  expect(order(false)).toEqual(['task_5', 'task_4'])
})
