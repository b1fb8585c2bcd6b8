import { create } from '@bufbuild/protobuf'
import { FileTreeEntrySchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { describe, expect, it } from 'vitest'
import { chunksOf } from './FileView'
import { nameOf, parentOf, rowsOf, type Directory } from './tree'

const entry = (path: string, kind = 'file') => create(FileTreeEntrySchema, { path, kind })
const read = (...entries: ReturnType<typeof entry>[]): Directory => ({ entries, loading: false, next: '' })

describe('the tree of files', () => {
  it('shows the entries of open directories beneath them', () => {
    const directories = new Map([
      ['', read(entry('src', 'directory'), entry('README.md'))],
      ['src', read(entry('src/main.rs'))],
    ])
    const shown = (open: string[]) => rowsOf(directories, new Set(open)).map((row) => `${row.level} ${row.key}`)
    expect(shown([])).toEqual(['1 src', '1 README.md'])
    expect(shown(['src'])).toEqual(['1 src', '2 src/main.rs', '1 README.md'])
  })

  it('says what is still to come', () => {
    const kind = (directory: Directory | undefined) =>
      rowsOf(directory === undefined ? new Map() : new Map([['', directory]]), new Set()).at(-1)?.kind
    expect(kind(undefined)).toBe('loading')
    expect(kind(read())).toBe('empty')
    expect(kind({ ...read(entry('a')), next: 'page' })).toBe('more')
    expect(kind({ ...read(entry('a')), error: new Error('no') })).toBe('error')
  })

  it('knows names and directories of paths', () => {
    expect([nameOf('a/b/c'), parentOf('a/b/c'), nameOf('a'), parentOf('a')]).toEqual(['c', 'a/b', 'a', ''])
  })
})

describe('a file', () => {
  it('has its lines numbered over all pieces', () => {
    const chunks = chunksOf('x\n'.repeat(450))
    expect(chunks.map(({ first, last }) => [first, last])).toEqual([
      [1, 200],
      [201, 400],
      [401, 450],
    ])
  })

  it('has no last line after the last line end, and cuts lines without end', () => {
    expect(chunksOf('a\nb\n')[0]?.text).toBe('a\nb')
    expect(chunksOf('y'.repeat(1_000_000))[0]?.text).toContain('1000000 characters, truncated')
  })
})
