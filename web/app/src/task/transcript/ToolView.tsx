import {
  IconArrowsMove,
  IconBulb,
  IconCheck,
  IconChevronRight,
  IconEdit,
  IconEye,
  IconLoader2,
  IconSearch,
  IconTerminal2,
  IconTool,
  IconTrash,
  IconWorld,
  IconX,
  IconClock,
  type Icon,
} from '@tabler/icons-react'
import { ToolCallState, type ToolCall } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { memo } from 'react'
import { Elapsed } from '../../ui'
import { InertLine } from '../../ui/text/Inert'
import { counted } from '../../ui/text/size'
import { Terminal } from '../../ui/text/Terminal'
import type { ToolBlock } from './blocks'
import { useOpened } from './opened'
import classes from './transcript.module.css'

const kinds: Readonly<Record<string, { icon: Icon; word: string }>> = {
  read: { icon: IconEye, word: 'Read' },
  edit: { icon: IconEdit, word: 'Edit' },
  delete: { icon: IconTrash, word: 'Delete' },
  move: { icon: IconArrowsMove, word: 'Move' },
  search: { icon: IconSearch, word: 'Search' },
  execute: { icon: IconTerminal2, word: 'Run' },
  think: { icon: IconBulb, word: 'Think' },
  fetch: { icon: IconWorld, word: 'Fetch' },
}
const other = { icon: IconTool, word: 'Tool' }

const states: Readonly<Partial<Record<ToolCallState, { word: string; icon: Icon; tone: string; spins?: boolean }>>> = {
  [ToolCallState.PENDING]: { word: 'Pending', icon: IconClock, tone: 'quiet' },
  [ToolCallState.IN_PROGRESS]: { word: 'Running', icon: IconLoader2, tone: 'busy', spins: true },
  [ToolCallState.COMPLETED]: { word: 'Done', icon: IconCheck, tone: 'ok' },
  [ToolCallState.FAILED]: { word: 'Failed', icon: IconX, tone: 'error' },
}

/** Most lines of output that are shown without unfolding. */
const SHORT_LINES = 8

/** A tool call: what it does, its state and files; input and output when unfolded. */
export const ToolView = memo(function ToolView({ block }: { block: ToolBlock }) {
  const { call } = block
  const [chosen, setChosen] = useOpened(block.key)
  const empty = call.input === '' && call.output === '' && call.locations.length < 2
  const open = !empty && (chosen ?? opensByItself(call))
  const kind = kinds[call.kind] ?? other
  const Glyph = kind.icon
  return (
    <div role="group" className={classes.tool} data-failed={call.state === ToolCallState.FAILED} aria-label={`Tool call: ${kind.word}`}>
      <button
        type="button"
        className={classes.toolHead}
        aria-expanded={empty ? undefined : open}
        disabled={empty}
        onClick={() => setChosen(!open)}
      >
        <IconChevronRight size={14} aria-hidden className={classes.chevron} data-open={open} data-empty={empty} />
        <Glyph size={15} aria-hidden className={classes.toolIcon} />
        <span className={classes.toolTitle}>
          <span className="fd-visually-hidden">{kind.word}: </span>
          <InertLine text={call.title === '' ? kind.word : call.title} />
        </span>
        <ToolPlace locations={call.locations} title={call.title} />
        <ToolState block={block} />
      </button>
      {open && <ToolBody call={call} />}
    </div>
  )
})

function opensByItself(call: ToolCall): boolean {
  if (call.kind !== 'execute' && call.state !== ToolCallState.FAILED) return false
  return call.output !== '' && call.output.length < 700 && call.output.split('\n').length <= SHORT_LINES
}

function ToolPlace({ locations, title }: { locations: readonly string[]; title: string }) {
  const first = locations[0]
  if (first === undefined || (title.includes(first) && locations.length === 1)) return null
  const more = locations.length > 1 ? ` +${locations.length - 1}` : ''
  return (
    <span className={classes.toolPlace} title={locations.length > 1 ? counted(locations.length, 'file') : undefined}>
      <InertLine text={first} />
      {more}
    </span>
  )
}

function ToolState({ block }: { block: ToolBlock }) {
  const state = states[block.call.state]
  if (state === undefined) return null
  const Glyph = state.icon
  const running = block.call.state === ToolCallState.IN_PROGRESS
  const took = block.until - block.at
  return (
    <span className={classes.toolState} data-tone={state.tone}>
      {running && block.at > 0 && <Elapsed since={block.at} />}
      {!running && took >= 1000 && <Elapsed since={block.at} until={block.until} />}
      <Glyph size={14} stroke={2.2} aria-hidden className={state.spins === true ? classes.spins : undefined} />
      <span className={classes.toolWord}>{state.word}</span>
    </span>
  )
}

function ToolBody({ call }: { call: ToolCall }) {
  return (
    <div className={classes.toolBody}>
      {call.locations.length > 1 && (
        <ul className={classes.locations} aria-label="Files">
          {call.locations.map((path, at) => (
            <li key={at}>
              <InertLine text={path} />
            </li>
          ))}
        </ul>
      )}
      {call.input !== '' && (
        <div>
          <div className={classes.toolLabel}>Input</div>
          <Terminal text={readable(call.input)} />
        </div>
      )}
      {call.output !== '' && (
        <div>
          <div className={classes.toolLabel}>Output{call.truncated && ' (truncated; the end is shown)'}</div>
          <div className={classes.output} tabIndex={0} role="group" aria-label="Output">
            <Terminal text={call.output} />
          </div>
        </div>
      )}
      {call.truncated && call.output === '' && <div className={classes.toolLabel}>The input was truncated.</div>}
    </div>
  )
}

/** JSON with line breaks; anything else as it is. */
function readable(input: string): string {
  if (!input.startsWith('{') && !input.startsWith('[')) return input
  try {
    return JSON.stringify(JSON.parse(input), null, 2)
  } catch {
    return input
  }
}
