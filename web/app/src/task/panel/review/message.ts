/** A part of the message of a review: words, or a place in the changes. */
export type ReviewPart =
  | { readonly kind: 'words'; readonly text: string }
  | { readonly kind: 'place'; readonly text: string; readonly path: string; readonly old: boolean; readonly line: number }

const HEAD = /^Review of the changes \(version \d+\): \d+ comments?(?:\n|$)/
const PLACE = /^\d+\. (?:`([^`]+)`|("(?:[^"\\]|\\.)*")), (?:the whole file|lines? (\d+)(?:-\d+)?)(.*)$/

/** The parts of a message that is a review; undefined if it is none. */
export function reviewParts(text: string): readonly ReviewPart[] | undefined {
  if (!HEAD.test(text)) return undefined
  const parts: ReviewPart[] = []
  let words: string[] = []
  for (const line of text.split('\n')) {
    const found = PLACE.exec(line)
    const path = found === null ? undefined : (found[1] ?? unquoted(found[2]))
    if (found === null || path === undefined) {
      words.push(line)
      continue
    }
    if (words.length > 0) parts.push({ kind: 'words', text: words.join('\n').trim() })
    words = []
    const old = /^ (before the change|of version)/.test(found[4] ?? '')
    parts.push({ kind: 'place', text: line, path, old, line: Number(found[3] ?? 0) })
  }
  if (words.length > 0) parts.push({ kind: 'words', text: words.join('\n').trim() })
  return parts
}

function unquoted(text: string | undefined): string | undefined {
  try {
    const path: unknown = JSON.parse(text ?? '')
    return typeof path === 'string' ? path : undefined
  } catch {
    return undefined
  }
}
