import { useFoundry } from '@foundry/client/react'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { toastDone, toastError } from '../../ui'
import { counted } from '../../ui/text/size'
import { visibleLine } from '../../ui/text/visible'
import { saveAs, wholePatch } from './patch'

/** Downloading the work of a task as a patch. */
export interface PatchDownload {
  readonly possible: boolean
  readonly busy: boolean
  /** Files done and in total, while it runs. */
  readonly progress: { done: number; all: number } | undefined
  readonly download: () => void
}

/** Loads the patches of all files and offers them as one file to save; reports files that are missing in it. */
export function usePatchDownload(task: Task): PatchDownload {
  const client = useFoundry()
  const [progress, setProgress] = useState<{ done: number; all: number } | undefined>(undefined)
  const { taskId } = task
  const download = async () => {
    setProgress({ done: 0, all: task.changes?.filesChanged ?? 0 })
    try {
      const patch = await wholePatch(
        {
          list: async (pageToken) => {
            const page = await client.task.listFileChanges({ taskId, pageSize: 500, pageToken })
            return { files: page.files, nextPageToken: page.nextPageToken, version: page.changes?.version ?? 0n }
          },
          diff: async (path, version) => (await client.task.getFileDiff({ taskId, path, version })).patch,
        },
        (done, all) => setProgress({ done, all }),
      )
      saveAs(fileName(task), patch.bytes)
      if (patch.missing.length === 0) toastDone('Patch downloaded', `${counted(patch.files, 'file')}. Apply it with git apply.`)
      else
        toastError(
          'The patch is not complete',
          new Error(
            `files too large: ${patch.missing.slice(0, 5).map(visibleLine).join(', ')}${patch.missing.length > 5 ? ' and more' : ''}`,
          ),
        )
    } catch (error) {
      toastError('The patch was not downloaded', error)
    } finally {
      setProgress(undefined)
    }
  }
  return {
    possible: (task.changes?.filesChanged ?? 0) > 0,
    busy: progress !== undefined,
    progress,
    download: () => void (progress === undefined && download()),
  }
}

function fileName(task: Task): string {
  const name = task.branch.replaceAll(/[^\w.-]+/g, '-').replaceAll(/^[-.]+/g, '')
  return `${name === '' ? task.taskId : name}.patch`
}
