import { parseDiff, type ChangeData, type FileData, type HunkData } from 'react-diff-view'
import { visible } from '../../../ui/text/visible'

/** Characters of a line that are shown. */
const LONGEST_LINE = 2000

/**
 * A parsed patch, or undefined when it cannot be parsed. A file that became a symbolic link, or was one, is a deletion and
 * a creation: both are shown.
 */
export function parsePatch(text: string): FileData | undefined {
  try {
    const [file, ...more] = parseDiff(text, { nearbySequences: 'zip' })
    if (file === undefined) return undefined
    const hunks = [file, ...more].flatMap((part) => part.hunks)
    if (hunks.length === 0) return undefined
    return { ...file, type: more.length === 0 ? file.type : 'modify', hunks: hunks.map(inertHunk) }
  } catch {
    return undefined
  }
}

/** The first `lines` changes of the hunks, so that a diff of many thousand lines is rendered step by step. */
export function firstLines(hunks: readonly HunkData[], lines: number): HunkData[] {
  const shown: HunkData[] = []
  let left = lines
  for (const hunk of hunks) {
    if (left <= 0) break
    shown.push(hunk.changes.length <= left ? hunk : { ...hunk, changes: hunk.changes.slice(0, left) })
    left -= hunk.changes.length
  }
  return shown
}

/** Number of lines in all hunks. */
export function lineCount(hunks: readonly HunkData[]): number {
  return hunks.reduce((sum, hunk) => sum + hunk.changes.length, 0)
}

function inertHunk(hunk: HunkData): HunkData {
  return { ...hunk, content: visible(hunk.content), changes: hunk.changes.map(inertChange) }
}

function inertChange(change: ChangeData): ChangeData {
  const content = change.content
  const cut = content.length > LONGEST_LINE
  return { ...change, content: visible(cut ? `${content.slice(0, LONGEST_LINE)} … (${content.length} characters, truncated)` : content) }
}
