import { Button } from '@mantine/core'
import { useState } from 'react'
import { SHOWN_FIRST } from './limits'
import { sizeText } from './size'
import { visible } from './visible'
import classes from './text.module.css'

const PIECE = 8 * 1024

/** A text too long for anything but plain text: its first part, and all of it in a box on demand. */
export function LongText({ text, label, mono = false }: { text: string; label: string; mono?: boolean }) {
  const [whole, setWhole] = useState(false)
  const cut = text.length > SHOWN_FIRST && !whole
  const shown = cut ? text.slice(0, SHOWN_FIRST) : text
  return (
    <div>
      <div className={classes.long} tabIndex={0} role="group" aria-label={label}>
        {pieces(shown).map((piece, at) => (
          <div key={at} dir="auto" className={mono ? classes.piece : `${classes.piece} ${classes.proportional}`}>
            {visible(piece)}
          </div>
        ))}
      </div>
      {text.length > SHOWN_FIRST && (
        <Button variant="default" size="compact-xs" mt={6} onClick={() => setWhole(!whole)}>
          {cut ? `Show all (${sizeText(text.length)})` : 'Show less'}
        </Button>
      )}
    </div>
  )
}

/** Pieces that the browser can lay out one by one: cut at a line end if one is near, otherwise anywhere. */
export function pieces(text: string): string[] {
  const all: string[] = []
  let at = 0
  while (at < text.length) {
    let end = Math.min(at + PIECE, text.length)
    const line = text.lastIndexOf('\n', end - 1)
    if (end < text.length && line > at) end = line + 1
    else if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end--
    const piece = text.slice(at, end)
    all.push(piece.endsWith('\n') && end < text.length ? piece.slice(0, -1) : piece)
    at = end
  }
  return all
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff
}
