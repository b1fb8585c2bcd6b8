import type { FileTreeEntry, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { IconFiles } from '@tabler/icons-react'
import { memo, useState } from 'react'
import { EmptyState } from '../../../ui'
import { FileView } from './FileView'
import classes from './files.module.css'
import { TreeView } from './TreeView'
import { useTree } from './useTree'

/** The tree of files in the work of a task, and the chosen file; also without a sandbox. */
function Files({ task }: { task: Task }) {
  const version = task.changes?.version ?? 0n
  if (version === 0n) {
    return (
      <EmptyState icon={IconFiles} title="No files yet" level={3}>
        Files appear here when the work is first saved, at the end of the first turn.
      </EmptyState>
    )
  }
  return <Browser taskId={task.taskId} version={version} />
}

function Browser({ taskId, version }: { taskId: string; version: bigint }) {
  const tree = useTree(taskId, version)
  const [file, setFile] = useState<FileTreeEntry | undefined>(undefined)
  return (
    <div className={classes.files} data-file={file !== undefined}>
      <div className={classes.side}>
        <TreeView tree={tree} selected={file?.path} onSelect={setFile} />
      </div>
      {file !== undefined && <FileView key={file.path} taskId={taskId} entry={file} version={version} onBack={() => setFile(undefined)} />}
    </div>
  )
}

export default memo(Files)
