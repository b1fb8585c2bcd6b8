import type { FileTreeEntry } from '@foundry/client/gen/foundry/task/v1/task_pb'

/** A directory as far as it is loaded. */
export interface Directory {
  readonly entries: readonly FileTreeEntry[]
  readonly loading: boolean
  readonly error?: unknown
  /** Position of the next page; empty = all is loaded. */
  readonly next: string
}

/** A rendered row of the tree. */
export type Row =
  | {
      readonly kind: 'entry'
      readonly key: string
      readonly entry: FileTreeEntry
      readonly level: number
      readonly position: number
      readonly of: number
    }
  | { readonly kind: 'loading' | 'empty'; readonly key: string; readonly level: number; readonly directory: string }
  | { readonly kind: 'more'; readonly key: string; readonly level: number; readonly directory: string }
  | { readonly kind: 'error'; readonly key: string; readonly level: number; readonly directory: string; readonly error: unknown }

/** The rows of a tree: the entries of every open directory, and placeholders for what is still to be loaded. */
export function rowsOf(directories: ReadonlyMap<string, Directory>, open: ReadonlySet<string>): Row[] {
  const rows: Row[] = []
  const add = (path: string, level: number): void => {
    const directory = directories.get(path)
    const entries = directory?.entries ?? []
    entries.forEach((entry, at) => {
      rows.push({ kind: 'entry', key: entry.path, entry, level, position: at + 1, of: entries.length })
      if (isDirectory(entry) && open.has(entry.path) && level < 64) add(entry.path, level + 1)
    })
    if (directory === undefined || directory.loading) rows.push({ kind: 'loading', key: `loading ${path}`, level, directory: path })
    else if (directory.error !== undefined)
      rows.push({ kind: 'error', key: `error ${path}`, level, directory: path, error: directory.error })
    else if (directory.next !== '') rows.push({ kind: 'more', key: `more ${path}`, level, directory: path })
    else if (entries.length === 0) rows.push({ kind: 'empty', key: `empty ${path}`, level, directory: path })
  }
  add('', 1)
  return rows
}

/** Whether an entry has entries of its own. */
export function isDirectory(entry: FileTreeEntry): boolean {
  return entry.kind === 'directory'
}

/** The last part of a path. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** The directory that a path is in; empty = the root. */
export function parentOf(path: string): string {
  const cut = path.lastIndexOf('/')
  return cut === -1 ? '' : path.slice(0, cut)
}
