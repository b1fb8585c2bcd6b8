import { TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { describe, expect, test } from 'vitest'
import { marks, organizationOf, repository, task } from '../test/summaries'
import { listsFrom } from './organization'
import { listRows, neighbour, rowKey, type ListInput } from './taskList'

const state = (items: ReturnType<typeof organizationOf>) => ({ phase: 'live', entities: new Map(items), rev: 1n, since: 0 }) as const

const repositories = [repository('repo_2', 'zeta'), repository('repo_1', 'Alpha')]
const tasks = [
  task('task_old', 10, { title: 'Fix login', state: TaskState.ERROR }),
  task('task_new', 30, { title: 'Upgrade client', branch: 'deps/http', state: TaskState.RUNNING }),
  task('task_far', 20, { repositoryId: 'repo_2', sessions: [{ sessionId: 'ses_1', lastOffset: 5n, waitsForPermission: true }] }),
  task('task_gone', 40, { state: TaskState.ARCHIVED }),
]

function keys(change: Partial<ListInput> = {}): string[] {
  const lists = listsFrom(state(organizationOf(repositories, tasks)))
  return listRows({ ...lists, user: marks({}), userKnown: true, filter: '', order: 'repository', ...change }).map(rowKey)
}

describe('the order of the list', () => {
  test('is by name of repository, and within it the newest change first; archived tasks are hidden', () => {
    expect(keys()).toEqual(['repository/repo_1', 'task/task_new', 'task/task_old', 'repository/repo_2', 'task/task_far'])
  })

  test('is by change alone when asked so', () => {
    expect(keys({ order: 'recent' })).toEqual(['task/task_new', 'task/task_far', 'task/task_old'])
  })

  test('keeps tasks whose repository is not there', () => {
    expect(keys({ repositories: [] })).toEqual(['task/task_new', 'task/task_old', 'task/task_far'])
  })

  test('of equal times is by id, so that rows do not jump', () => {
    const equal = listsFrom(state(organizationOf([], [task('task_b', 1), task('task_a', 1)])))
    expect(equal.tasks.map((it) => it.taskId)).toEqual(['task_a', 'task_b'])
  })
})

describe('the filter', () => {
  test('finds titles, branches, repositories and states, whatever their case', () => {
    const found = (filter: string) => keys({ filter, order: 'recent' })
    expect(found('LOGIN')).toEqual(['task/task_old'])
    expect(found('deps/')).toEqual(['task/task_new'])
    expect(found('zeta')).toEqual(['task/task_far'])
    expect(found('failed')).toEqual(['task/task_old'])
    expect(found('running')).toEqual(['task/task_new'])
  })

  test('wants every word', () => {
    expect(keys({ filter: 'fix  running', order: 'recent' })).toEqual([])
  })

  test('knows marks for unread, waiting, running and failed', () => {
    const found = (filter: string, userKnown = true) => keys({ filter, order: 'recent', userKnown })
    expect(found('is:unread')).toEqual(['task/task_far'])
    expect(found('is:unread', false)).toEqual([])
    expect(found('is:waiting')).toEqual(['task/task_far'])
    expect(found('is:running')).toEqual(['task/task_new'])
    expect(found('is:failed')).toEqual(['task/task_old'])
  })

  test('leaves out repositories without a passing task', () => {
    expect(keys({ filter: 'login' })).toEqual(['repository/repo_1', 'task/task_old'])
  })
})

describe('the neighbour of a task', () => {
  const rows = () => {
    const lists = listsFrom(state(organizationOf(repositories, tasks)))
    return listRows({ ...lists, user: marks({}), userKnown: true, filter: '', order: 'repository' })
  }

  test('skips repositories and stops at the ends', () => {
    expect(neighbour(rows(), 'task_old', 1)).toBe('task_far')
    expect(neighbour(rows(), 'task_far', 1)).toBe('task_far')
    expect(neighbour(rows(), 'task_new', -1)).toBe('task_new')
  })

  test('of none is the first or the last one', () => {
    expect(neighbour(rows(), undefined, 1)).toBe('task_new')
    expect(neighbour(rows(), 'task_unknown', -1)).toBe('task_far')
    expect(neighbour([], undefined, 1)).toBeUndefined()
  })
})

test('a list of 1,000 tasks has all of them, and its repositories', () => {
  const many = Array.from({ length: 1000 }, (_, index) => task(`task_${index}`, index % 97))
  const lists = listsFrom(state(organizationOf(repositories, many)))
  expect(listRows({ ...lists, user: marks({}), userKnown: true, filter: '', order: 'repository' })).toHaveLength(1002)
})
