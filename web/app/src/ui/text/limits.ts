/** Characters of a block that are shown before "show all". */
export const SHOWN_FIRST = 64 * 1024

/** Characters above which a block is plain text, because parsing it as markdown could stall the page. */
export const MAX_MARKDOWN = 32 * 1024

const DEEPEST = 24
const MAX_MARKERS = 2000

/**
 * Whether text may be parsed as markdown: short enough, not nested so deeply that rendering overflows the stack, and
 * without the masses of markers on which parsers take quadratic time.
 */
export function fitsMarkdown(text: string): boolean {
  if (text.length > MAX_MARKDOWN) return false
  return !nestsDeeply(text) && fewerThan(text, /[*_~]+|!?\[|`+|</g, MAX_MARKERS)
}

function fewerThan(text: string, pattern: RegExp, limit: number): boolean {
  let count = 0
  for (const _ of text.matchAll(pattern)) if (++count >= limit) return false
  return true
}

/** Checks the start of each line: quote and list markers in a row, and deep indentation. */
function nestsDeeply(text: string): boolean {
  let markers = 0
  let spaces = 0
  let leading = true
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 10) {
      markers = 0
      spaces = 0
      leading = true
    } else if (leading) {
      if (code === 32) spaces++
      else if (code === 9) spaces += 4
      else if (code === 62 || code === 45 || code === 42 || code === 43) markers++
      else if (!((code >= 48 && code <= 57) || code === 46 || code === 41)) leading = false
      else if (code === 46 || code === 41) markers++
      if (markers > DEEPEST && spaces >= DEEPEST) return true
      if (code === 62 && markers > DEEPEST) return true
      if (spaces > 8 * DEEPEST) return true
    }
  }
  return false
}
