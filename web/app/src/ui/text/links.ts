const allowed: readonly string[] = ['http:', 'https:', 'mailto:']

/** The target of a link that may be followed, otherwise undefined: only absolute http, https and mailto. */
export function safeTarget(url: string | undefined): string | undefined {
  if (url === undefined) return undefined
  try {
    const parsed = new URL(url)
    return allowed.includes(parsed.protocol) ? parsed.href : undefined
  } catch {
    return undefined
  }
}

/** A target for people, cut in the middle to `limit` characters so that host and end stay readable. */
export function shownTarget(url: string, limit = 72): string {
  const text = url.replace(/^mailto:/i, '')
  if (text.length <= limit) return text
  const head = Math.ceil(limit * 0.65)
  return `${text.slice(0, head)}…${text.slice(text.length - (limit - head - 1))}`
}
