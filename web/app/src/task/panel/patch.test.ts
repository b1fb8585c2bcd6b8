import { create } from '@bufbuild/protobuf'
import { FileChangeSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { describe, expect, it } from 'vitest'
import { joined, wholePatch, type PatchReads } from './patch'

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (patch: Uint8Array) => new TextDecoder().decode(patch)
const file = (path: string, tooLarge = false) => create(FileChangeSchema, { path, tooLarge })

describe('the patch of a task', () => {
  it('is the patches of all files of all pages, in order', async () => {
    const pages: Record<string, string[]> = { '': ['a', 'b'], next: ['c'] }
    const asked: [string, bigint][] = []
    const reads: PatchReads = {
      list: async (token) => ({
        files: (pages[token] ?? []).map((path) => file(path)),
        nextPageToken: token === '' ? 'next' : '',
        version: 7n,
      }),
      diff: async (path, version) => {
        asked.push([path, version])
        return bytes(`diff --git a/${path} b/${path}\n`)
      },
    }
    const progress: [number, number][] = []
    const patch = await wholePatch(reads, (done, all) => progress.push([done, all]))
    expect(text(patch.bytes)).toBe('diff --git a/a b/a\ndiff --git a/b b/b\ndiff --git a/c b/c\n')
    expect(asked).toEqual([
      ['a', 7n],
      ['b', 7n],
      ['c', 7n],
    ])
    expect(progress.at(-1)).toEqual([3, 3])
  })

  it('names the files that are too large to be in it', async () => {
    const patch = await wholePatch(
      { list: async () => ({ files: [file('a'), file('big', true)], nextPageToken: '', version: 1n }), diff: async () => bytes('x\n') },
      () => {},
    )
    expect(patch).toMatchObject({ files: 1, missing: ['big'] })
  })

  it('begins again when the work changes between two pages', async () => {
    const versions = [1n, 2n, 2n, 2n]
    const patch = await wholePatch(
      {
        list: async (token) => ({
          files: [file(token === '' ? 'a' : 'b')],
          nextPageToken: token === '' ? 'next' : '',
          version: versions.shift() ?? 0n,
        }),
        diff: async (path, version) => bytes(`${path}${version}\n`),
      },
      () => {},
    )
    expect(text(patch.bytes)).toBe('a2\nb2\n')
  })

  it('gives up when the work never rests', async () => {
    let version = 0n
    const reads: PatchReads = {
      list: async () => ({ files: [], nextPageToken: 'next', version: ++version }),
      diff: async () => bytes(''),
    }
    await expect(wholePatch(reads, () => {})).rejects.toThrow('keeps changing')
  })

  it('keeps bytes that are no text, and ends each file with a line end', () => {
    expect([...joined([new Uint8Array([255, 10]), new Uint8Array([254]), new Uint8Array([]), new Uint8Array([1, 10])])]).toEqual([
      255, 10, 254, 10, 1, 10,
    ])
  })
})
