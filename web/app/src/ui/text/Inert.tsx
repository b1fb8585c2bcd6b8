import type { CSSProperties } from 'react'
import { visible, visibleLine } from './visible'
import classes from './text.module.css'

/**
 * One line of foreign text (a title, name, branch or path), isolated so that its direction does not affect what
 * surrounds it.
 */
export function InertLine({ text, className, style }: { text: string; className?: string; style?: CSSProperties }) {
  return (
    <bdi dir="auto" className={className} style={style}>
      {visibleLine(text)}
    </bdi>
  )
}

/** Foreign text as it is: line ends kept, long lines wrapped, nothing interpreted. */
export function InertText({ text, mono = false }: { text: string; mono?: boolean }) {
  return (
    <div dir="auto" className={mono ? classes.mono : classes.text}>
      {visible(text)}
    </div>
  )
}
