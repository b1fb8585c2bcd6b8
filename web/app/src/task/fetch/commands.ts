import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { quoted } from '../../ui/text/shell'

export function fetchCommand({ taskId }: Task): string {
  return `foundry task fetch ${taskId}`
}

/** Fetches into a branch of the same name; `gateway` is the address of this page. */
export function gitCommand({ taskId, organizationId, repositoryId, branch }: Task, gateway: string): string {
  const address = `${gateway}/git/${organizationId}/${repositoryId}`
  return `git fetch ${quoted(address)} ${quoted(`refs/foundry/tasks/${taskId}:refs/heads/${branch}`)}`
}

export function bundleCommand({ taskId }: Task): string {
  return `foundry task bundle ${taskId} --file work.bundle`
}
