import { Button, Loader } from '@mantine/core'
import { IconChevronRight, IconFile, IconFolder, IconFolderOpen, IconGitBranch, IconLink } from '@tabler/icons-react'
import type { FileTreeEntry } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useId, useState, type KeyboardEvent } from 'react'
import { ErrorState, VirtualList } from '../../../ui'
import { InertLine } from '../../../ui/text/Inert'
import classes from './files.module.css'
import { isDirectory, nameOf, parentOf, type Row } from './tree'
import type { Tree } from './useTree'

interface Props {
  tree: Tree
  /** Path of the file that is shown. */
  selected: string | undefined
  onSelect: (entry: FileTreeEntry) => void
}

const HEIGHT = 28

/** The tree of files with the usual keys: up and down, right opens, left closes, Enter shows, letters search. */
export function TreeView({ tree, selected, onSelect }: Props) {
  const id = useId()
  const [active, setActive] = useState('')
  const { rows } = tree
  const found = rows.findIndex((row) => row.key === active)
  const at = found === -1 ? 0 : found
  const go = (index: number) => setActive(rows[Math.max(0, Math.min(index, rows.length - 1))]?.key ?? '')
  const act = (row: Row | undefined) => {
    if (row === undefined) return
    if (row.kind === 'more' || row.kind === 'error') return tree.more(row.directory)
    if (row.kind !== 'entry') return
    if (isDirectory(row.entry)) tree.toggle(row.entry.path, !tree.open.has(row.entry.path))
    else onSelect(row.entry)
  }
  const keys = (event: KeyboardEvent) => {
    // Keys for the browser, or for a button in a row.
    if (event.ctrlKey || event.altKey || event.metaKey || event.target !== event.currentTarget) return
    const next = moveFor(event.key, rows, at, tree)
    if (next === undefined) return
    event.preventDefault()
    if (next === 'act') act(rows[at])
    else if (typeof next === 'number') go(next)
  }
  return (
    <VirtualList
      items={rows}
      rowHeight={(row) => (row.kind === 'error' ? 150 : HEIGHT)}
      keyOf={(row) => row.key}
      activeIndex={found === -1 ? undefined : at}
      keptIndex={at}
      className={classes.tree}
      containerProps={{
        role: 'tree',
        'aria-label': 'Files',
        tabIndex: 0,
        onKeyDown: keys,
        'aria-activedescendant': rows[at] === undefined ? undefined : `${id}-${at}`,
      }}
      render={(row, index) => (
        <RowView
          id={`${id}-${index}`}
          row={row}
          open={row.kind === 'entry' && tree.open.has(row.entry.path)}
          active={index === at}
          selected={row.kind === 'entry' && row.entry.path === selected}
          onPress={() => {
            setActive(row.key)
            act(row)
          }}
        />
      )}
    />
  )
}

/** The effect of a key: move to a row, activate the row, nothing (`done`), or undefined: not handled. */
function moveFor(key: string, rows: readonly Row[], at: number, tree: Tree): number | 'act' | 'done' | undefined {
  const row = rows[at]
  const entry = row?.kind === 'entry' ? row.entry : undefined
  const open = entry !== undefined && tree.open.has(entry.path)
  switch (key) {
    case 'ArrowDown':
      return at + 1
    case 'ArrowUp':
      return at - 1
    case 'Home':
      return 0
    case 'End':
      return rows.length - 1
    case 'Enter':
    case ' ':
      return 'act'
    case 'ArrowRight':
      if (entry === undefined || !isDirectory(entry)) return 'done'
      return open ? at + 1 : 'act'
    case 'ArrowLeft': {
      if (open) return 'act'
      const parent = entry === undefined ? (row !== undefined && 'directory' in row ? row.directory : '') : parentOf(entry.path)
      return parent === '' ? 'done' : rows.findIndex((each) => each.key === parent)
    }
    default:
      // A letter without a match is handled too; otherwise it would be a shortcut of the page.
      return /^[\p{L}\p{N}._-]$/u.test(key) ? (startingWith(key, rows, at) ?? 'done') : undefined
  }
}

function startingWith(letter: string, rows: readonly Row[], at: number): number | undefined {
  for (let step = 1; step <= rows.length; step++) {
    const index = (at + step) % rows.length
    const row = rows[index]
    if (row?.kind === 'entry' && nameOf(row.entry.path).toLowerCase().startsWith(letter.toLowerCase())) return index
  }
  return undefined
}

interface RowProps {
  id: string
  row: Row
  open: boolean
  active: boolean
  selected: boolean
  onPress: () => void
}

function RowView({ id, row, open, active, selected, onPress }: RowProps) {
  const indent = { paddingInlineStart: 8 + (row.level - 1) * 16 }
  if (row.kind !== 'entry') {
    return (
      // biome-ignore lint/a11y/useFocusableInteractive: the tree has the focus and names the active row
      <div
        id={id}
        role="treeitem"
        aria-level={row.level}
        aria-selected={false}
        className={classes.other}
        data-active={active}
        style={indent}
      >
        {row.kind === 'loading' && <Loader size={12} aria-label="Loading" />}
        {row.kind === 'empty' && <span className="fd-muted">empty</span>}
        {row.kind === 'more' && (
          <Button size="compact-xs" variant="subtle" tabIndex={-1} onClick={onPress}>
            Show more
          </Button>
        )}
        {row.kind === 'error' && <ErrorState error={row.error} title="The directory could not be loaded" onRetry={onPress} compact />}
      </div>
    )
  }
  const { entry } = row
  const directory = isDirectory(entry)
  return (
    // biome-ignore lint/a11y: the tree has the focus, takes the keys and names the active row
    <div
      id={id}
      role="treeitem"
      aria-level={row.level}
      aria-posinset={row.position}
      aria-setsize={row.of}
      aria-expanded={directory ? open : undefined}
      aria-selected={selected}
      className={classes.entry}
      data-active={active}
      data-selected={selected}
      style={indent}
      onClick={onPress}
    >
      <IconChevronRight size={13} aria-hidden className={classes.chevron} data-open={open} data-leaf={!directory} />
      <Glyph entry={entry} open={open} />
      <InertLine text={nameOf(entry.path)} className="fd-truncate" />
    </div>
  )
}

function Glyph({ entry, open }: { entry: FileTreeEntry; open: boolean }) {
  const Icon = { directory: open ? IconFolderOpen : IconFolder, symlink: IconLink, submodule: IconGitBranch }[entry.kind] ?? IconFile
  return <Icon size={15} aria-hidden className={classes.glyph} />
}
