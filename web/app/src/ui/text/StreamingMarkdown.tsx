import { useEffect, useRef, useState } from 'react'
import { Formatted } from './Formatted'
import { fitsMarkdown } from './limits'
import { segments } from './segments'
import classes from './text.module.css'

/** Shortest time between two renderings of growing text, in milliseconds. */
const PACE = 100

/**
 * Markdown that is still growing: new text is shown at most ten times a second, and only the last paragraph is parsed
 * again.
 */
export function StreamingMarkdown({ text, label }: { text: string; label: string }) {
  const paced = usePaced(text, PACE)
  if (!fitsMarkdown(paced)) return <Formatted text={paced} label={label} />
  return (
    <div className={classes.segments}>
      {segments(paced).map((piece, at) => (
        <Formatted key={at} text={piece} label={label} />
      ))}
    </div>
  )
}

/** The newest value, updated at most once per `pace` milliseconds; the last one is never skipped. */
export function usePaced<T>(value: T, pace: number): T {
  const [shown, setShown] = useState(value)
  const newest = useRef(value)
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined)
  newest.current = value
  useEffect(() => {
    if (Object.is(value, shown) || timer.current !== undefined) return
    timer.current = setTimeout(() => {
      timer.current = undefined
      setShown(newest.current)
    }, pace)
  }, [value, shown, pace])
  useEffect(
    () => () => {
      clearTimeout(timer.current)
      timer.current = undefined
    },
    [],
  )
  return shown
}
