import { Button } from '@mantine/core'
import { IconAlertTriangle, IconRefresh } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { CopyButton } from './CopyButton'
import { errorText, sentence } from './errors'
import classes from './ErrorState.module.css'

interface Props {
  /** What was thrown, or the error of a topic. */
  error: unknown
  /** What could not be done, for example "The branches could not be loaded". */
  title: string
  /** Offers a retry. */
  onRetry?: () => void
  retrying?: boolean
  actions?: ReactNode
  /** One line in a form or panel instead of a block. */
  compact?: boolean
  /** Whether the page shows nothing else; the title is then the page's heading. */
  page?: boolean
}

/** Text whose parts between backticks are set as code. */
function WithCode({ text }: { text: string }) {
  return text.split(/`([^`]+)`/).map((part, at) => (at % 2 === 1 ? <code key={at}>{part}</code> : part))
}

/** A failure with its reason code, message, next action and details to copy. */
export function ErrorState({ error, title, onRetry, retrying = false, actions, compact = false, page = false }: Props) {
  const text = errorText(error)
  const Title = page ? 'h1' : 'p'
  return (
    <div role="alert" className={classes.error} data-compact={compact}>
      <IconAlertTriangle size={18} aria-hidden className={classes.icon} />
      <div className={classes.body}>
        <Title className={classes.title}>{title}</Title>
        <p className={classes.message}>{text.message}</p>
        {text.nextAction !== '' && (
          <p className={classes.next}>
            <WithCode text={sentence(text.nextAction)} />
          </p>
        )}
        <details className={classes.details}>
          <summary>
            <span className={classes.reason}>{text.reason}</span>
          </summary>
          <div className={classes.copy}>
            <pre>{text.details}</pre>
            <CopyButton value={text.details} label="Copy error details" />
          </div>
          <p className={classes.page}>
            Explained in <span className="fd-mono">docs/errors/{text.reason}.md</span>
          </p>
        </details>
        {(onRetry !== undefined || actions !== undefined) && (
          <div className={classes.actions}>
            {onRetry !== undefined && (
              <Button variant="default" leftSection={<IconRefresh size={14} />} onClick={onRetry} loading={retrying}>
                Try again
              </Button>
            )}
            {actions}
          </div>
        )}
      </div>
    </div>
  )
}
