import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import type { Job } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import type { Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { useMemo } from 'react'
import { millis } from '../../ui'

/** The actions on a repository's branches, the newest first, kept up to date. */
export function useActionJobs({ organizationId, repositoryId }: Repository): readonly Job[] {
  const state = useTopic(useMemo(() => topics.jobs(organizationId, repositoryId), [organizationId, repositoryId]))
  return useMemo(() => {
    const jobs: Job[] = []
    for (const { item } of state?.entities.values() ?? []) {
      if (item.case === 'job' && item.value.action !== undefined) jobs.push(item.value)
    }
    return jobs.sort((a, b) => (millis(b.createTime) ?? 0) - (millis(a.createTime) ?? 0) || (a.jobId < b.jobId ? 1 : -1))
  }, [state])
}
