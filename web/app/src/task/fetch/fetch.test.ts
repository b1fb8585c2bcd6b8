import { create } from '@bufbuild/protobuf'
import { TaskSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { expect, test } from 'vitest'
import { bundleCommand, fetchCommand, gitCommand } from './commands'

const task = (branch: string) => create(TaskSchema, { taskId: 'task_1', organizationId: 'org_1', repositoryId: 'repo_1', branch })

test('each way names the task, and git is given the address of this gateway', () => {
  expect(fetchCommand(task('feat/x'))).toBe('foundry task fetch task_1')
  expect(bundleCommand(task('feat/x'))).toBe('foundry task bundle task_1 --file work.bundle')
  expect(gitCommand(task('feat/x'), 'https://foundry.example')).toBe(
    'git fetch https://foundry.example/git/org_1/repo_1 refs/foundry/tasks/task_1:refs/heads/feat/x',
  )
})

test('a branch with characters of the shell is one word', () => {
  expect(gitCommand(task("a;rm$IFS'b"), 'http://localhost:7100')).toBe(
    "git fetch http://localhost:7100/git/org_1/repo_1 'refs/foundry/tasks/task_1:refs/heads/a;rm$IFS'\\''b'",
  )
})
