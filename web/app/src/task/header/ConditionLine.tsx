import { IconInfoCircle } from '@tabler/icons-react'
import type { Condition } from '@foundry/client/gen/foundry/common/v1/common_pb'
import type { ReactNode } from 'react'
import { asksForSomething, Countdown, Elapsed, sentence } from '../../ui'
import { InertLine } from '../../ui/text/Inert'
import classes from './header.module.css'

/** Whether a condition has anything to show. */
export function saysSomething(condition: Condition | undefined): condition is Condition {
  return condition !== undefined && (condition.message !== '' || condition.waitingOn !== '' || condition.reason !== '')
}

/** Why something is in its state: what it waits for, since when, the attempt, the next time, and what can be done. */
export function ConditionLine({ condition }: { condition: Condition }) {
  const facts = factsOf(condition)
  return (
    <div className={classes.condition} data-tone={toneOf(condition)}>
      <IconInfoCircle size={14} aria-hidden className={classes.conditionIcon} />
      <div className={classes.conditionText}>
        {condition.message !== '' && <InertLine text={sentence(condition.message)} />}
        {facts.length > 0 && (
          <span className={classes.facts}>
            {facts.map(([key, fact]) => (
              <span key={key}>{fact}</span>
            ))}
          </span>
        )}
        {asksForSomething(condition) && <InertLine text={sentence(condition.nextAction)} className={classes.next} />}
        {condition.reason !== '' && <code className={classes.reason}>{condition.reason}</code>}
      </div>
    </div>
  )
}

/** `error` needs a person, `wait` is retried, `quiet` is no trouble. */
function toneOf(condition: Condition): 'error' | 'wait' | 'quiet' {
  if (condition.reason === '') return 'quiet'
  return condition.retryable && condition.nextAttemptTime === undefined ? 'error' : 'wait'
}

function factsOf(condition: Condition): [string, ReactNode][] {
  const facts: [string, ReactNode][] = []
  if (condition.waitingOn !== '') {
    facts.push([
      'on',
      <>
        waiting on <InertLine text={words(condition.waitingOn)} />
      </>,
    ])
    if (condition.sinceTime !== undefined)
      facts.push([
        'since',
        <>
          for <Elapsed since={condition.sinceTime} />
        </>,
      ])
  }
  if (condition.attempt > 1 || (condition.attempt === 1 && condition.maxAttempts > 1)) {
    const most = condition.maxAttempts > 0 ? ` of ${condition.maxAttempts}` : ''
    facts.push(['attempt', `attempt ${condition.attempt}${most}`])
  }
  if (condition.nextAttemptTime !== undefined)
    facts.push([
      'next',
      <>
        next attempt in <Countdown to={condition.nextAttemptTime} />
      </>,
    ])
  if (condition.deadlineTime !== undefined)
    facts.push([
      'deadline',
      <>
        times out in <Countdown to={condition.deadlineTime} />
      </>,
    ])
  return facts
}

function words(name: string): string {
  return name.replaceAll('_', ' ')
}
