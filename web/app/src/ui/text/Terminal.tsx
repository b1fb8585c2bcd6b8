import { memo } from 'react'
import { stretches } from './ansi'
import classes from './text.module.css'

/** Output of a command with its colours, wrapped. */
export const Terminal = memo(function Terminal({ text }: { text: string }) {
  return (
    <pre dir="ltr" className={classes.terminal}>
      {stretches(text).map((stretch, at) =>
        stretch.className === '' ? (
          stretch.text
        ) : (
          <span
            key={at}
            className={stretch.className
              .split(' ')
              .map((name) => classes[name])
              .join(' ')}
          >
            {stretch.text}
          </span>
        ),
      )}
    </pre>
  )
})
