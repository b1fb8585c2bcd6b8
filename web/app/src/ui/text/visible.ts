const bidiNames: Readonly<Record<number, string>> = {
  0x202a: 'LRE',
  0x202b: 'RLE',
  0x202c: 'PDF',
  0x202d: 'LRO',
  0x202e: 'RLO',
  0x2066: 'LRI',
  0x2067: 'RLI',
  0x2068: 'FSI',
  0x2069: 'PDI',
}

// Everything but tab, line feed and printable characters, and the marks that change the direction of text.
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern is for these characters
const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g

function picture(character: string): string {
  const code = character.charCodeAt(0)
  const name = bidiNames[code]
  if (name !== undefined) return `⟦${name}⟧`
  if (code < 0x20) return String.fromCharCode(0x2400 + code)
  if (code === 0x7f) return '\u2421'
  return '\u2426'
}

/**
 * Text of an agent in which every character that would act instead of being shown is made visible: controls become
 * their pictures (␛), marks that change the direction become `⟦RLO⟧`. Line ends become line feeds. Plain text is
 * returned unchanged.
 */
export function visible(text: string): string {
  const lines = text.includes('\r') ? text.replaceAll('\r\n', '\n') : text
  return lines.replace(unseen, picture)
}

/** `visible` for one line, in which line ends and tabs are shown too. For titles, names, branches and paths. */
export function visibleLine(text: string): string {
  return visible(text).replaceAll('\n', '␊').replaceAll('\t', ' ')
}
