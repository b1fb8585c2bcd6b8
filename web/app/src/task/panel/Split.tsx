import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent, type ReactNode } from 'react'
import classes from './panel.module.css'

const KEPT = 'foundry-panel-share'
const MIN_SHARE = 25
const MAX_SHARE = 70
const STEP = 4

/** Two panes side by side with a movable edge; the share of the right one is stored in this browser. */
export function Split({ left, right }: { left: ReactNode; right: ReactNode }) {
  const frame = useRef<HTMLDivElement>(null)
  const [share, setShare] = useState(remembered)
  useEffect(() => remember(share), [share])
  const move = (event: PointerEvent) => {
    const box = frame.current?.getBoundingClientRect()
    if (box === undefined || !event.currentTarget.hasPointerCapture(event.pointerId)) return
    setShare(bounded(((box.right - event.clientX) / box.width) * 100))
  }
  const keys = (event: KeyboardEvent) => {
    const step = { ArrowLeft: STEP, ArrowRight: -STEP, Home: MAX_SHARE, End: -MAX_SHARE }[event.key]
    if (step === undefined) return
    event.preventDefault()
    setShare((before) => bounded(before + step))
  }
  return (
    <div ref={frame} className={classes.split}>
      <div className={classes.left}>{left}</div>
      <div
        className={classes.edge}
        role="separator"
        aria-orientation="vertical"
        aria-label="Panel width"
        aria-valuemin={MIN_SHARE}
        aria-valuemax={MAX_SHARE}
        aria-valuenow={Math.round(share)}
        tabIndex={0}
        onKeyDown={keys}
        onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
        onPointerMove={move}
        onDoubleClick={() => setShare(46)}
      />
      <div className={classes.right} style={{ flexBasis: `${share}%` }}>
        {right}
      </div>
    </div>
  )
}

function bounded(share: number): number {
  return Math.min(MAX_SHARE, Math.max(MIN_SHARE, share))
}

function remembered(): number {
  try {
    const kept = Number(localStorage.getItem(KEPT))
    return kept >= MIN_SHARE && kept <= MAX_SHARE ? kept : 46
  } catch {
    return 46
  }
}

function remember(share: number): void {
  try {
    localStorage.setItem(KEPT, String(Math.round(share)))
  } catch {
    // Without storage, the width lasts as long as the page.
  }
}
