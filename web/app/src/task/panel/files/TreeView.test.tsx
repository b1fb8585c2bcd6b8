import { create } from '@bufbuild/protobuf'
import { FileTreeEntrySchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { createEvent, fireEvent, render, screen } from '@testing-library/react'
import { beforeEach, expect, it, vi } from 'vitest'
import { rowsOf } from './tree'
import { TreeView } from './TreeView'

beforeEach(() => {
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockReturnValue(600)
  vi.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(800)
})

function open(paths: readonly string[]) {
  const entries = paths.map((path) => create(FileTreeEntrySchema, { path, kind: 'file' }))
  const rows = rowsOf(new Map([['', { entries, loading: false, next: '' }]]), new Set())
  render(
    <MantineProvider env="test">
      <TreeView tree={{ rows, open: new Set(), toggle: () => {}, more: () => {} }} selected={undefined} onSelect={() => {}} />
    </MantineProvider>,
  )
  return screen.getByRole('tree')
}

/** Presses a key; returns whether the tree has handled it. */
function taken(tree: HTMLElement, key: object): boolean {
  const event = createEvent.keyDown(tree, key)
  fireEvent(tree, event)
  return event.defaultPrevented
}

it('letters look for a file, found or not, and reach no shortcut of the page', () => {
  const tree = open(['README.md', 'src.rs'])
  expect(taken(tree, { key: 's' })).toBe(true)
  expect(tree.getAttribute('aria-activedescendant')).toBe(screen.getByRole('treeitem', { name: 'src.rs' }).id)
  expect(taken(tree, { key: 'c' })).toBe(true)
})

it('keys that go with Ctrl, Alt or Meta are left to the browser', () => {
  const tree = open(['README.md', 'four.rs'])
  expect(taken(tree, { key: 'r', ctrlKey: true })).toBe(false)
  expect(taken(tree, { key: 'f', metaKey: true })).toBe(false)
  expect(taken(tree, { key: 'ArrowLeft', altKey: true })).toBe(false)
})

it('a question mark still lists the shortcuts', () => {
  expect(taken(open(['README.md']), { key: '?' })).toBe(false)
})

it('the active row stays in the page wherever the tree is scrolled to', () => {
  const tree = open(Array.from({ length: 500 }, (_, at) => `file-${at}`))
  fireEvent.keyDown(tree, { key: 'Home' })
  fireEvent.scroll(tree, { target: { scrollTop: 9000 } })
  expect(screen.queryByRole('treeitem', { name: 'file-40' })).toBeNull()
  expect(document.getElementById(tree.getAttribute('aria-activedescendant') ?? '')).not.toBeNull()
})
