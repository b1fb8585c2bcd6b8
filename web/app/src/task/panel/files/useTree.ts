import { useFoundry } from '@foundry/client/react'
import { useCallback, useEffect, useMemo, useRef, useState } from 'react'
import { useAlive } from '../../../ui/useAlive'
import { rowsOf, type Directory, type Row } from './tree'

const PAGE = 200

/** A tree of files that is loaded directory by directory. */
export interface Tree {
  readonly rows: readonly Row[]
  readonly open: ReadonlySet<string>
  readonly toggle: (path: string, open: boolean) => void
  /** Loads the next page of a directory, or loads it again after a failure. */
  readonly more: (path: string) => void
}

/** The files of a task at a version of its work; when the version changes, open directories are loaded again. */
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
  const busy = useRef(new Set<string>())
  const read = useCallback(
    async (path: string, known?: Directory) => {
      const asked = newest.current
      const reading = `${asked}/${path}`
      if (busy.current.has(reading)) return
      busy.current.add(reading)
      const before = known ?? { entries: [], loading: true, next: '' }
      // The entries of the former version stay until the new ones have arrived.
      setDirectories((all) => {
        const shown = known ?? all.get(path) ?? before
        return new Map(all).set(path, { ...shown, error: undefined, loading: shown.entries.length === 0 })
      })
      try {
        const page = await client.task.listFileTree({ taskId, path, pageSize: PAGE, pageToken: before.next })
        if (!alive.current || newest.current !== asked) return
        put(path, { entries: [...before.entries, ...page.entries], loading: false, next: page.nextPageToken })
      } catch (error) {
        if (alive.current && newest.current === asked) put(path, { ...before, loading: false, error })
      } finally {
        busy.current.delete(reading)
      }
    },
    [alive, client, put, taskId],
  )
  const opened = useRef(open)
  opened.current = open
  useEffect(() => {
    const wanted = ['', ...opened.current]
    setDirectories((all) => new Map([...all].filter(([path]) => wanted.includes(path))))
    for (const path of wanted) void read(path)
  }, [read, version])
  const toggle = (path: string, expand: boolean) => {
    setOpen((before) => {
      const next = new Set(before)
      if (expand) next.add(path)
      else next.delete(path)
      return next
    })
    if (expand && !directories.has(path)) void read(path)
  }
  const rows = useMemo(() => rowsOf(directories, open), [directories, open])
  return { rows, open, toggle, more: (path) => void read(path, directories.get(path)) }
}
