import { getChangeKey, type ChangeData, type HunkData } from 'react-diff-view'
import { ReviewPlace, ReviewSide, type FileChange, type ReviewComment } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { visible } from '../../../ui/text/visible'

/** A range of lines on one side of a change. */
export interface Range {
  readonly side: ReviewSide.OLD | ReviewSide.NEW
  readonly start: number
  readonly end: number
}

/** The comparison in which lines are shown. */
export interface Compared {
  /** The version that the changes are compared with; 0 = the base. */
  readonly since: bigint
  /** Whether what was merged from other branches is shown too. */
  readonly whole: boolean
}

/** A comment with what is known of its place in the newest changes. */
export interface Placed {
  readonly comment: ReviewComment
  /** UNSPECIFIED = being looked up. */
  readonly place: ReviewPlace
  readonly start: number
  readonly end: number
}

/** The number of a line on a side; undefined where it has none. */
export function numberOn(change: ChangeData, side: ReviewSide): number | undefined {
  if (change.type === 'normal') return side === ReviewSide.OLD ? change.oldLineNumber : change.newLineNumber
  return (change.type === 'delete') === (side === ReviewSide.OLD) ? change.lineNumber : undefined
}

/** The lines from one to another, both among `changes`: of the side that was pressed, if both ends are on it. */
export function rangeOf(changes: readonly ChangeData[], from: number, to: number, pressed?: 'old' | 'new'): Range | undefined {
  const ends = [changes[from], changes[to]]
  const usual = [ReviewSide.NEW, ReviewSide.OLD] as const
  for (const side of pressed === 'old' ? usual.toReversed() : usual) {
    const [a, b] = ends.map((end) => (end === undefined ? undefined : numberOn(end, side)))
    if (a !== undefined && b !== undefined) return { side, start: Math.min(a, b), end: Math.max(a, b) }
  }
  // From a removed to an added line: the last one alone.
  return from === to ? undefined : rangeOf(changes, to, to, pressed)
}

/** The keys of the lines of a range that are drawn. */
export function keysOf(changes: readonly ChangeData[], range: Range): string[] {
  return changes
    .filter((change) => {
      const at = numberOn(change, range.side)
      return at !== undefined && at >= range.start && at <= range.end
    })
    .map(getChangeKey)
}

/**
 * The key of the line below which a comment is drawn; undefined where its lines are not drawn, or are other ones than
 * those that it was made on.
 */
export function keyOf(changes: readonly ChangeData[], { comment, place, start, end }: Placed, compared: Compared): string | undefined {
  if (place !== ReviewPlace.SAME && place !== ReviewPlace.MOVED) return undefined
  if (comment.side === ReviewSide.FILE) return undefined
  if (comment.side === ReviewSide.OLD && !isSame(compared, { since: comment.sinceVersion, whole: comment.whole })) return undefined
  const lines = linesOn(changes, { side: comment.side as Range['side'], start, end })
  const last = lines?.at(-1)
  if (lines === undefined || last === undefined) return undefined
  const same = comment.quote.split('\n').every((quoted, at) => hasWords(lines[at], quoted))
  return same ? getChangeKey(last) : undefined
}

function isSame(a: Compared, b: Compared): boolean {
  return a.since === b.since && a.whole === b.whole
}

/** Longest line that is quoted whole, in characters. */
const WHOLE_LINE = 100

function hasWords(line: ChangeData | undefined, quoted: string): boolean {
  const words = visible(quoted)
  const content = line?.content.replace(/␍+$/, '')
  return words.length > WHOLE_LINE ? content?.startsWith(words.slice(0, WHOLE_LINE)) === true : content === words
}

/** The lines of a range; undefined unless all of them are among `changes`. */
export function linesOn(changes: readonly ChangeData[], { side, start, end }: Range): readonly ChangeData[] | undefined {
  const found = changes.filter((change) => {
    const at = numberOn(change, side)
    return at !== undefined && at >= start && at <= end
  })
  return found.length === end - start + 1 ? found : undefined
}

/** Where the lines of a comment that is being written are now: where they were, or the one other place that has them. */
export function rangeNow(changes: readonly ChangeData[], range: Range, lines: readonly string[]): Range | undefined {
  const has = (start: number) => {
    const there = linesOn(changes, { ...range, start, end: start + range.end - range.start })
    return there?.every((line, at) => line.content === lines[at]) === true
  }
  if (has(range.start)) return range
  const starts = changes.flatMap((change) => {
    const at = change.content === lines[0] ? numberOn(change, range.side) : undefined
    return at !== undefined && has(at) ? [at] : []
  })
  const [start, ...more] = starts
  if (start === undefined || more.length > 0 || lines.join('').trim() === '') return undefined
  return { side: range.side, start, end: start + range.end - range.start }
}

/** All lines of hunks, in their order. */
export function linesOf(hunks: readonly HunkData[]): ChangeData[] {
  return hunks.flatMap((hunk) => hunk.changes)
}

/** A range as in `line 3` or `lines 3–5 before the change`. */
export function rangeWords(side: ReviewSide, start: number, end: number): string {
  if (side === ReviewSide.FILE) return 'the file'
  const lines = start === end ? `line ${start}` : `lines ${start}–${end}`
  return side === ReviewSide.OLD ? `${lines} before the change` : lines
}

/** Whether comments can be made on lines of a file. */
export function hasLines(file: FileChange): boolean {
  return !file.binary && !file.tooLarge
}
