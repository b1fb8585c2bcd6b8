import type { StreamWorkPatchResponse } from '@foundry/client/gen/foundry/repo/v1/repo_service_pb'

/** The work of a task as one patch. */
export interface Patch {
  readonly content: Blob
  /** Number of files in it. */
  readonly files: number
}

/** Takes the whole patch of a task as the service makes it. `progress` is called with the bytes that have come. */
export async function wholePatch(answers: AsyncIterable<StreamWorkPatchResponse>, progress: (bytes: number) => void): Promise<Patch> {
  const pieces: Uint8Array<ArrayBuffer>[] = []
  let [files, bytes] = [0, 0]
  for await (const { part } of answers) {
    if (part.case === 'header') files = Number(part.value.filesChanged)
    if (part.case !== 'chunk') continue
    pieces.push(new Uint8Array(part.value))
    bytes += part.value.length
    progress(bytes)
  }
  return { content: new Blob(pieces, { type: 'text/x-patch' }), files }
}

/** Offers a file to the person to save. */
export function saveAs(name: string, content: Blob): void {
  const url = URL.createObjectURL(content)
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  URL.revokeObjectURL(url)
}
