import { useFoundry } from '@foundry/client/react'
import { useCallback, useEffect, useMemo, useRef, useState } from 'react'
import { useAlive } from '../../model/useCommand'
import { rowsOf, type Directory, type Row } from './tree'

const PAGE = 200

/** A tree of files that is read directory by directory. */
export interface Tree {
  readonly rows: readonly Row[]
  readonly open: ReadonlySet<string>
  readonly toggle: (path: string, open: boolean) => void
  /** Reads the next page of a directory, or reads it again after a failure. */
  readonly more: (path: string) => void
}

/** The files of a task at a version of its work; another version reads the open directories again. */
export function useTree(taskId: string, version: bigint): Tree {
  const client = useFoundry()
  const alive = useAlive()
  const [directories, setDirectories] = useState<ReadonlyMap<string, Directory>>(new Map())
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set())
  const newest = useRef(version)
  newest.current = version
  const put = useCallback((path: string, directory: Directory) => {
    setDirectories((before) => new Map(before).set(path, directory))
  }, [])
  const read = useCallback(
    async (path: string, known: Directory | undefined) => {
      const asked = newest.current
      const before = known ?? { entries: [], loading: true, next: '' }
      put(path, { ...before, loading: known === undefined || known.entries.length === 0, error: undefined })
      try {
        const page = await client.task.listFileTree({ taskId, path, pageSize: PAGE, pageToken: before.next })
        if (!alive.current || newest.current !== asked) return
        put(path, { entries: [...before.entries, ...page.entries], loading: false, next: page.nextPageToken })
      } catch (error) {
        if (alive.current && newest.current === asked) put(path, { ...before, loading: false, error })
      }
    },
    [alive, client, put, taskId],
  )
  const opened = useRef(open)
  opened.current = open
  useEffect(() => {
    for (const path of ['', ...opened.current]) void read(path, undefined)
  }, [read, version])
  const toggle = (path: string, expand: boolean) => {
    setOpen((before) => {
      const next = new Set(before)
      if (expand) next.add(path)
      else next.delete(path)
      return next
    })
    if (expand && !directories.has(path)) void read(path, undefined)
  }
  const rows = useMemo(() => rowsOf(directories, open), [directories, open])
  return { rows, open, toggle, more: (path) => void read(path, directories.get(path)) }
}
