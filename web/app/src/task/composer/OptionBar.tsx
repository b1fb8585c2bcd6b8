import { useFoundry } from '@foundry/client/react'
import type { AgentOption, AgentOptions, AgentUsage } from '@foundry/client/gen/foundry/common/v1/offer_pb'
import { memo, useEffect, useId, useRef, useState } from 'react'
import { announce, errorText } from '../../ui'
import { useCommand } from '../../state/command'
import { visibleLine } from '../../ui/text/visible'
import classes from './options.module.css'

interface Props {
  sessionId: string
  options: AgentOptions | undefined
  usage: AgentUsage | undefined
  canEdit: boolean
}

/** The agent's options (mode, model, effort …), and how much of its context is used. */
export const OptionBar = memo(function OptionBar({ sessionId, options, usage, canEdit }: Props) {
  const all = options?.options ?? []
  if (all.length === 0 && usage === undefined) return null
  return (
    <div role="group" aria-label="Agent settings" className={classes.options}>
      {all.map((option) => (
        <Choice key={option.optionId} sessionId={sessionId} option={option} canEdit={canEdit} />
      ))}
      {usage !== undefined && <Usage usage={usage} />}
    </div>
  )
})

function Choice({ sessionId, option, canEdit }: { sessionId: string; option: AgentOption; canEdit: boolean }) {
  const client = useFoundry()
  const id = useId()
  const { optionId } = option
  const set = useCommand('The setting was not changed', (requestId: string, value: string) =>
    client.task.setSessionOption({ requestId, sessionId, optionId, value }),
  )
  // Shown until the watch shows the choice.
  const [picked, setPicked] = useState<string | undefined>(undefined)
  // The last choice, while the one before is still being sent.
  const waiting = useRef<string | undefined>(undefined)
  const sending = useRef(false)
  useEffect(() => {
    if (waiting.current !== undefined) return
    const held = option.wanted === '' ? option.value : option.wanted
    const settled = (option.condition?.reason ?? '') !== ''
    // While a choice is being sent, the watch may still show the one before.
    setPicked((it) => (sending.current && !settled && held !== it ? it : undefined))
  }, [option.value, option.wanted, option.condition?.reason])
  const name = visibleLine(option.name === '' ? optionId : option.name)
  const refused = option.condition !== undefined && option.condition.reason !== ''
  const shown = picked ?? (option.wanted !== '' && !refused ? option.wanted : option.value)
  const pending = shown !== option.value
  const problem =
    set.error !== undefined
      ? errorText(set.error).message
      : refused && picked === undefined
        ? `${nameOf(option, option.wanted)}: ${option.condition?.message ?? ''}`
        : undefined
  useSpoken(name, nameOf(option, option.value), pending, problem)
  const pick = async (value: string) => {
    setPicked(value)
    waiting.current = value
    if (sending.current) return
    sending.current = true
    while (waiting.current !== undefined) {
      const next = waiting.current
      waiting.current = undefined
      if ((await set.run(next)) === undefined && waiting.current === undefined) setPicked(undefined)
    }
    sending.current = false
  }
  return (
    <div className={classes.option} data-pending={pending}>
      <label htmlFor={id} className={classes.name}>
        {name}
      </label>
      <select
        id={id}
        className={classes.select}
        value={shown}
        disabled={!canEdit}
        aria-busy={pending}
        aria-invalid={problem !== undefined}
        aria-describedby={problem !== undefined || pending ? `${id}-more` : undefined}
        title={option.description === '' ? undefined : visibleLine(option.description)}
        onChange={(event) => void pick(event.currentTarget.value)}
      >
        {!option.choices.some((each) => each.value === shown) && <option value={shown}>{visibleLine(shown)}</option>}
        {option.choices.map((each) => (
          <option key={each.value} value={each.value} title={each.description === '' ? undefined : visibleLine(each.description)}>
            {visibleLine(each.name === '' ? each.value : each.name)}
          </option>
        ))}
      </select>
      {problem !== undefined ? (
        <span id={`${id}-more`} className={classes.problem}>
          {visibleLine(problem)}
        </span>
      ) : (
        pending && (
          <span id={`${id}-more`} className={classes.pending}>
            applying…
          </span>
        )
      )}
    </div>
  )
}

function nameOf(option: AgentOption, value: string): string {
  const choice = option.choices.find((each) => each.value === value)
  return visibleLine(choice === undefined || choice.name === '' ? value : choice.name)
}

/** Announces the outcome of a choice for screen readers. */
function useSpoken(name: string, value: string, pending: boolean, problem: string | undefined): void {
  const was = useRef({ value, problem })
  useEffect(() => {
    const before = was.current
    if (problem !== undefined && problem !== before.problem) announce(`${name} was not changed. ${problem}`)
    else if (!pending && value !== before.value) announce(`${name}: ${value}`)
    was.current = { value, problem }
  }, [name, value, pending, problem])
}

function Usage({ usage }: { usage: AgentUsage }) {
  const [used, size] = [Number(usage.used), Number(usage.size)]
  const tokens = size > 0 ? `${used.toLocaleString('en')} of ${size.toLocaleString('en')} tokens` : `${used.toLocaleString('en')} tokens`
  const part = size > 0 ? `${Math.min(100, Math.round((used / size) * 100))} %` : tokens
  const cost = costText(Number(usage.costMicros), usage.currency)
  return (
    <span className={classes.usage} title={`Context as reported by the agent: ${tokens}${cost === '' ? '' : `, ${cost} so far`}`}>
      Context {part}
      {cost !== '' && <> · {cost}</>}
    </span>
  )
}

/** A cost for people; empty when the agent reports none. */
export function costText(micros: number, currency: string): string {
  if (!/^[A-Z]{3}$/.test(currency)) return ''
  const amount = micros / 1e6
  const digits = amount < 1 ? 4 : 2
  return new Intl.NumberFormat('en', { style: 'currency', currency, minimumFractionDigits: 2, maximumFractionDigits: digits }).format(
    amount,
  )
}
