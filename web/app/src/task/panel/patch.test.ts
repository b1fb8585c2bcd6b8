import { create } from '@bufbuild/protobuf'
import { StreamWorkPatchResponseSchema, type StreamWorkPatchResponse } from '@foundry/client/gen/foundry/repo/v1/repo_service_pb'
import { describe, expect, it } from 'vitest'
import { wholePatch } from './patch'

const header = (filesChanged: bigint) =>
  create(StreamWorkPatchResponseSchema, { part: { case: 'header', value: { version: 7n, filesChanged } } })
const chunk = (text: string) => create(StreamWorkPatchResponseSchema, { part: { case: 'chunk', value: new TextEncoder().encode(text) } })

async function* stream(...answers: (StreamWorkPatchResponse | Error)[]): AsyncIterable<StreamWorkPatchResponse> {
  for (const answer of answers) {
    if (answer instanceof Error) throw answer
    yield answer
  }
}

describe('the patch of a task', () => {
  it('is what the service sends, byte for byte, with the number of its files', async () => {
    const progress: number[] = []
    const patch = await wholePatch(stream(header(2n), chunk('diff a\n'), chunk('diff b\n\\ No newline')), (bytes) => progress.push(bytes))
    expect(await patch.content.text()).toBe('diff a\ndiff b\n\\ No newline')
    expect(patch.files).toBe(2)
    expect(progress).toEqual([7, 26])
  })

  it('is not given when it breaks off in the middle', async () => {
    await expect(wholePatch(stream(header(1n), chunk('diff'), new Error('gone')), () => {})).rejects.toThrow('gone')
  })
})
