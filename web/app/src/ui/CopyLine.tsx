import { CopyButton } from './CopyButton'
import classes from './CopyLine.module.css'
import { visibleLine } from './text/visible'

/** A line of text for a shell or a form, with a button that copies it as it is; `label` names the button. Shows what is invisible. */
export function CopyLine({ text, label }: { text: string; label: string }) {
  return (
    <div className={classes.line}>
      <code className="fd-mono">{visibleLine(text)}</code>
      <CopyButton value={text} label={label} />
    </div>
  )
}
