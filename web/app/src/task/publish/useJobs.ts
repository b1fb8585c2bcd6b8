import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import type { Job } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useMemo } from 'react'
import { millis } from '../../ui'

/** The jobs on the work of a task, the newest first, kept up to date. */
export function useJobs({ organizationId, repositoryId, taskId }: Task): readonly Job[] {
  const state = useTopic(useMemo(() => topics.jobs(organizationId, repositoryId), [organizationId, repositoryId]))
  return useMemo(() => {
    const jobs: Job[] = []
    for (const { item } of state?.entities.values() ?? []) if (item.case === 'job' && item.value.taskId === taskId) jobs.push(item.value)
    return jobs.sort((a, b) => (millis(b.createTime) ?? 0) - (millis(a.createTime) ?? 0) || (a.jobId < b.jobId ? 1 : -1))
  }, [state, taskId])
}
