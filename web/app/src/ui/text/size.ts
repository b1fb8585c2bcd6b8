const encoder = new TextEncoder()

/** Length of a text in bytes of UTF-8. */
export function byteLength(text: string): number {
  return encoder.encode(text).length
}

/** A size in bytes for people: `812 B`, `4.1 KiB`, `2.0 MiB`. */
export function sizeText(bytes: number | bigint): string {
  const size = Number(bytes)
  if (size < 1024) return `${size} B`
  if (size < 1024 * 1024) return `${(size / 1024).toFixed(1)} KiB`
  return `${(size / 1024 / 1024).toFixed(1)} MiB`
}

/** A count with its noun: `1 file`, `3 files`. */
export function counted(count: number | bigint, one: string, many = `${one}s`): string {
  return `${count} ${Number(count) === 1 ? one : many}`
}

/** The beginning of a text on one line, its white space as single spaces. */
export function oneLine(text: string): string {
  return text.slice(0, 300).replaceAll(/\s+/g, ' ').trim()
}
