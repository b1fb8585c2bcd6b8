import classes from './Kbd.module.css'

const mac = typeof navigator !== 'undefined' && /Mac|iPhone|iPad/.test(navigator.userAgent)

/** The name of this machine's modifier key for shortcuts. */
export const modKey = mac ? '⌘' : 'Ctrl'

/** Keys to press: `mod+Enter` are pressed together, `g r` one after the other. */
export function Kbd({ keys }: { keys: string }) {
  const steps = keys.split(' ')
  return (
    <span className={classes.keys}>
      {steps.map((step, index) => (
        <span key={`${index}${step}`} className={classes.step}>
          {step.split('+').map((key) => (
            <kbd key={key} className={classes.key}>
              {key === 'mod' ? modKey : key}
            </kbd>
          ))}
        </span>
      ))}
    </span>
  )
}
