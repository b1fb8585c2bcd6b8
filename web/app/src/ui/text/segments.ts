const fence = /^ {0,3}(`{3,}|~{3,})/
const continues = /^(?:\s|[-*+>|]|\d+[.)])/

/**
 * Cuts growing markdown into pieces that will not change any more and the growing last one: at blank lines outside of
 * fences whose next line starts something new. Only the last piece is parsed again as text arrives.
 */
export function segments(text: string): string[] {
  const pieces: string[] = []
  let start = 0
  let open: string | undefined
  let blank = false
  let at = 0
  while (at < text.length) {
    const end = text.indexOf('\n', at)
    const line = text.slice(at, end === -1 ? text.length : end)
    const mark = fence.exec(line)?.[1]
    if (open === undefined && blank && at > start && line !== '' && !continues.test(line)) {
      pieces.push(text.slice(start, at))
      start = at
    }
    if (mark !== undefined) {
      if (open === undefined) open = mark
      else if (mark[0] === open[0] && mark.length >= open.length) open = undefined
    }
    blank = line.trim() === ''
    if (end === -1) break
    at = end + 1
  }
  pieces.push(text.slice(start))
  return pieces
}
