import type { AgentCommand } from '@foundry/client/gen/foundry/common/v1/offer_pb'
import { useEffect, useId, useState, type KeyboardEvent } from 'react'
import { announce } from '../../ui'

/** Most commands that are offered at the same time. */
const SHOWN = 8

/** The agent's commands that match the typed text, which must be a `/` and the start of a name. */
export function fitting(commands: readonly AgentCommand[], text: string): readonly AgentCommand[] {
  if (!text.startsWith('/') || /\s/.test(text)) return []
  const typed = text.slice(1).toLowerCase()
  return commands.filter((each) => each.name.toLowerCase().startsWith(typed)).slice(0, SHOWN)
}

/** Completion of commands in the field for messages. */
export interface Completion {
  readonly listId: string
  readonly offered: readonly AgentCommand[]
  readonly active: number
  /** Whether it has handled the key. */
  readonly takes: (event: KeyboardEvent) => boolean
  readonly pick: (command: AgentCommand) => void
  readonly close: () => void
}

/** Completes the agent's commands while one is typed; `onPick` gets the whole text. */
export function useCommands(commands: readonly AgentCommand[], text: string, focused: boolean, onPick: (text: string) => void): Completion {
  const listId = useId()
  const [active, setActive] = useState(0)
  const [closed, setClosed] = useState<string | undefined>(undefined)
  const offered = focused && closed !== text ? fitting(commands, text) : []
  const count = offered.length
  useEffect(() => setActive(0), [text])
  // biome-ignore lint/correctness/useExhaustiveDependencies: only the number is announced; screen readers read the active option
  useEffect(() => {
    if (count > 0)
      announce(
        count === 1
          ? `One command: ${offered[0]?.name ?? ''}. Press Tab to insert it.`
          : `${count} commands. Use the arrow keys to choose one and Tab to insert it.`,
      )
  }, [count])
  const pick = (command: AgentCommand) => onPick(`/${command.name} `)
  const takes = (event: KeyboardEvent): boolean => {
    if (count === 0 || event.nativeEvent.isComposing || event.ctrlKey || event.metaKey || event.altKey) return false
    const chosen = offered[Math.min(active, count - 1)]
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') setActive((active + (event.key === 'ArrowDown' ? 1 : count - 1)) % count)
    else if (event.key === 'Escape') setClosed(text)
    else if ((event.key === 'Tab' && !event.shiftKey) || (event.key === 'Enter' && !event.shiftKey)) {
      // A completely typed name is sent by Enter as it is.
      if (chosen === undefined || (event.key === 'Enter' && text === `/${chosen.name}`)) return false
      pick(chosen)
    } else return false
    event.preventDefault()
    return true
  }
  return { listId, offered, active: Math.min(active, Math.max(0, count - 1)), takes, pick, close: () => setClosed(text) }
}
