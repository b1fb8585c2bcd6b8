import type { FileChange } from '@foundry/client/gen/foundry/task/v1/task_pb'

/** The reads from which a patch is assembled. */
export interface PatchReads {
  /** A page of changed files, by path. */
  list: (pageToken: string) => Promise<{ files: FileChange[]; nextPageToken: string; version: bigint }>
  /** The patch of one file at a version. */
  diff: (path: string, version: bigint) => Promise<Uint8Array>
}

/** The work of a task as one patch. */
export interface Patch {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** Number of files in it. */
  readonly files: number
  /** Paths of files that are too large to be in it. */
  readonly missing: readonly string[]
}

/**
 * Joins the stored patches of all files in order of their paths, all of one version of the work. `progress` is called
 * after each file.
 */
export async function wholePatch(reads: PatchReads, progress: (done: number, all: number) => void): Promise<Patch> {
  const { files, version } = await listAll(reads, 3)
  const pieces: Uint8Array[] = []
  const missing: string[] = []
  for (const [at, file] of files.entries()) {
    if (file.tooLarge) missing.push(file.path)
    else pieces.push(await reads.diff(file.path, version))
    progress(at + 1, files.length)
  }
  return { bytes: joined(pieces), files: files.length - missing.length, missing }
}

/** All changed files of one version; starts over when the work changes between two pages. */
async function listAll(reads: PatchReads, attempts: number): Promise<{ files: FileChange[]; version: bigint }> {
  const first = await reads.list('')
  const files = [...first.files]
  for (let token = first.nextPageToken; token !== ''; ) {
    const page = await reads.list(token)
    if (page.version !== first.version) {
      if (attempts > 1) return listAll(reads, attempts - 1)
      throw new Error('the work keeps changing; download the patch after the turn has ended')
    }
    files.push(...page.files)
    token = page.nextPageToken
  }
  return { files, version: first.version }
}

/** Joins pieces, each ending with a line end, as `git apply` requires. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const open = (piece: Uint8Array) => piece.length > 0 && piece[piece.length - 1] !== 10
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length + (open(piece) ? 1 : 0), 0))
  let at = 0
  for (const piece of pieces) {
    bytes.set(piece, at)
    at += piece.length
    if (open(piece)) bytes[at++] = 10
  }
  return bytes
}

/** Offers bytes to the person as a file to save. */
export function saveAs(name: string, bytes: Uint8Array<ArrayBuffer>, type = 'text/x-patch'): void {
  const url = URL.createObjectURL(new Blob([bytes], { type }))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  URL.revokeObjectURL(url)
}
