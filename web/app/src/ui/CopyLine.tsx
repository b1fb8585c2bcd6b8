import { CopyButton } from './CopyButton'
import classes from './CopyLine.module.css'

/** A line of text for a shell or a form, with a button that copies it; `label` names the button. */
export function CopyLine({ text, label }: { text: string; label: string }) {
  return (
    <div className={classes.line}>
      <code className="fd-mono">{text}</code>
      <CopyButton value={text} label={label} />
    </div>
  )
}
