import { ActionIcon, Tabs, Tooltip } from '@mantine/core'
import {
  IconActivity,
  IconCpu,
  IconFiles,
  IconGitCompare,
  IconHelpCircle,
  IconLayoutSidebarRightCollapse,
  type Icon,
} from '@tabler/icons-react'
import type { Session, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import type { ReactNode } from 'react'
import { lazyPart, ListSkeleton } from '../../ui'
import type { Viewer } from '../model/useViewer'
import classes from './panel.module.css'
import { Split } from './Split'

const waiting = <ListSkeleton rows={5} />
const Changes = lazyPart('The changes could not be loaded', waiting, () => import('./changes/Changes').then((it) => it.default))
const Files = lazyPart('The files could not be loaded', waiting, () => import('./files/Files').then((it) => it.default))
const Processes = lazyPart('The processes could not be loaded', waiting, () => import('./Processes').then((it) => it.default))
const Activity = lazyPart('The activity could not be loaded', waiting, () => import('./Activity').then((it) => it.default))
const Explain = lazyPart('The explanation could not be loaded', waiting, () => import('./Explain').then((it) => it.default))

/** The panels beside the conversation. */
export type PanelTab = 'changes' | 'files' | 'processes' | 'activity' | 'explain'

const tabs: readonly { value: PanelTab; label: string; icon: Icon }[] = [
  { value: 'changes', label: 'Changes', icon: IconGitCompare },
  { value: 'files', label: 'Files', icon: IconFiles },
  { value: 'processes', label: 'Processes', icon: IconCpu },
  { value: 'activity', label: 'Activity', icon: IconActivity },
  { value: 'explain', label: 'Explain', icon: IconHelpCircle },
]

/** The panel named in the address; without one, the changes if there is room for them. */
export function panelTab(name: string | undefined, narrow: boolean): PanelTab | undefined {
  if (name === undefined) return narrow ? undefined : 'changes'
  return tabs.find((tab) => tab.value === name)?.value
}

interface Props {
  task: Task
  /** All sessions of the task, closed ones too. */
  sessions: readonly Session[]
  viewer: Viewer
  /** The conversations. */
  talk: ReactNode
  /** The open panel; undefined = none. */
  tab: PanelTab | undefined
  onTab: (tab: PanelTab | undefined) => void
  /** Whether there is room for one pane only. */
  narrow: boolean
}

/** Conversation and panel: side by side, or one at a time on a narrow screen. */
export function Workspace({ task, sessions, viewer, talk, tab, onTab, narrow }: Props) {
  if (narrow) return <OneAtATime task={task} sessions={sessions} viewer={viewer} talk={talk} tab={tab} onTab={onTab} />
  if (tab === undefined) {
    return (
      <div className={classes.split}>
        <div className={classes.left}>{talk}</div>
        <nav className={classes.rail} aria-label="Panels">
          {tabs.map(({ value, label, icon: Glyph }) => (
            <Tooltip key={value} label={label} position="left">
              <ActionIcon size={34} aria-label={`Show ${label.toLowerCase()}`} onClick={() => onTab(value)}>
                <Glyph size={18} />
              </ActionIcon>
            </Tooltip>
          ))}
        </nav>
      </div>
    )
  }
  return <Split left={talk} right={<Panel task={task} sessions={sessions} viewer={viewer} tab={tab} onTab={onTab} />} />
}

function Panel({ tab, onTab, ...rest }: ContentProps & { onTab: Props['onTab'] }) {
  const { task } = rest
  return (
    <Tabs
      value={tab}
      onChange={(value) => onTab((value ?? undefined) as PanelTab | undefined)}
      keepMounted={false}
      className={classes.panel}
    >
      <div className={classes.bar}>
        <Tabs.List className={classes.list} aria-label="Panels">
          <PanelTabs task={task} />
        </Tabs.List>
        <Tooltip label="Hide panel">
          <ActionIcon aria-label="Hide the panel" onClick={() => onTab(undefined)}>
            <IconLayoutSidebarRightCollapse size={17} />
          </ActionIcon>
        </Tooltip>
      </div>
      <Tabs.Panel value={tab} className={classes.content}>
        <Content {...rest} tab={tab} />
      </Tabs.Panel>
    </Tabs>
  )
}

function OneAtATime({ talk, tab, onTab, ...rest }: Omit<Props, 'narrow'>) {
  const { task } = rest
  return (
    <Tabs
      value={tab ?? 'talk'}
      onChange={(value) => onTab(value === 'talk' || value === null ? undefined : (value as PanelTab))}
      keepMounted={false}
      className={classes.panel}
    >
      <Tabs.List className={classes.list} aria-label="Task views">
        <Tabs.Tab value="talk" className={classes.tab}>
          Chat
        </Tabs.Tab>
        <PanelTabs task={task} />
      </Tabs.List>
      <Tabs.Panel value={tab ?? 'talk'} className={classes.content}>
        {tab === undefined ? talk : <Content {...rest} tab={tab} />}
      </Tabs.Panel>
    </Tabs>
  )
}

function PanelTabs({ task }: { task: Task }) {
  const files = task.changes?.filesChanged ?? 0
  return tabs.map(({ value, label }) => (
    <Tabs.Tab key={value} value={value} className={classes.tab}>
      {label}
      {value === 'changes' && files > 0 && <span className={classes.count}>{files}</span>}
    </Tabs.Tab>
  ))
}

interface ContentProps {
  task: Task
  sessions: readonly Session[]
  viewer: Viewer
  tab: PanelTab
}

function Content({ task, sessions, viewer, tab }: ContentProps) {
  return (
    <>
      <h2 className="fd-visually-hidden">{tabs.find((it) => it.value === tab)?.label}</h2>
      {tab === 'changes' && <Changes task={task} sessions={sessions} />}
      {tab === 'files' && <Files task={task} />}
      {tab === 'processes' && <Processes sandboxId={task.sandboxId} />}
      {tab === 'activity' && <Activity task={task} sessions={sessions} viewer={viewer} />}
      {tab === 'explain' && <Explain task={task} />}
    </>
  )
}
