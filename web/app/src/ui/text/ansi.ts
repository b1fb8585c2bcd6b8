import Anser from 'anser'
import { visible } from './visible'

/** A part of terminal output in one style; classes are from the page's own palette. */
export interface Stretch {
  text: string
  className: string
}

const plain: Readonly<Record<string, string>> = {
  bold: 'bold',
  dim: 'dim',
  italic: 'italic',
  underline: 'underline',
  strikethrough: 'strike',
  reverse: 'reverse',
}

function colourClass(name: string | null): string | undefined {
  const colour = /^ansi-(?:bright-)?(red|green|yellow|blue|magenta|cyan|black|white)$/.exec(name ?? '')?.[1]
  return colour === undefined || colour === 'black' || colour === 'white' ? undefined : colour
}

/**
 * Terminal output as styled parts. Only the sixteen named foreground colours are kept, as classes whose colours have
 * enough contrast in both schemes; backgrounds, palette colours and hidden text become ordinary text.
 */
export function stretches(text: string): Stretch[] {
  if (!text.includes('\u001b')) return [{ text: visible(text), className: '' }]
  const parts = Anser.ansiToJson(text, { use_classes: true, json: true, remove_empty: true })
  return parts.map((part) => {
    const names = part.decorations.map((name) => plain[name]).concat(colourClass(part.fg))
    return { text: visible(part.content), className: names.filter((name) => name !== undefined).join(' ') }
  })
}
