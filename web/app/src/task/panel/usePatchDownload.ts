import { useFoundry } from '@foundry/client/react'
import type { MergedFrom } from '@foundry/client/gen/foundry/common/v1/work_pb'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { toastDone, toastError } from '../../ui'
import { counted, sizeText } from '../../ui/text/size'
import { visibleLine } from '../../ui/text/visible'
import { saveAs, wholePatch } from './patch'

/** Downloading the work of a task as a patch. */
export interface PatchDownload {
  readonly possible: boolean
  readonly busy: boolean
  /** How much has come, while it runs. */
  readonly progress: string | undefined
  readonly download: () => void
}

/** Takes the patch, whatever its size, and offers it as a file to save; `whole`: with what was merged from other branches. */
export function usePatchDownload(task: Task, whole = false): PatchDownload {
  const client = useFoundry()
  const [bytes, setBytes] = useState<number | undefined>(undefined)
  const { taskId } = task
  const download = async () => {
    setBytes(0)
    try {
      const patch = await wholePatch(client.repo.streamWorkPatch({ taskId, whole }), setBytes)
      saveAs(fileName(task), patch.content)
      const merged = whole ? [] : (task.changes?.mergedFrom ?? [])
      toastDone('Patch downloaded', `${counted(patch.files, 'file')}. ${appliesWhere(merged)}`)
    } catch (error) {
      toastError('The patch was not downloaded', error)
    } finally {
      setBytes(undefined)
    }
  }
  return {
    possible: (task.changes?.filesChanged ?? 0) > 0,
    busy: bytes !== undefined,
    progress: bytes === undefined ? undefined : sizeText(bytes),
    download: () => void (bytes === undefined && download()),
  }
}

/** To what a patch applies that leaves out what was merged. */
export function appliesWhere(merged: readonly MergedFrom[]): string {
  if (merged.length === 0) return 'Apply it with git apply --index.'
  const branches = merged.map((it) => visibleLine(it.branch)).join(', ')
  return `It applies to the base only after ${branches} was merged into it; list what was merged too to download a patch that applies to the base.`
}

function fileName(task: Task): string {
  const name = task.branch.replaceAll(/[^\w.-]+/g, '-').replaceAll(/^[-.]+/g, '')
  return `${name === '' ? task.taskId : name}.patch`
}
