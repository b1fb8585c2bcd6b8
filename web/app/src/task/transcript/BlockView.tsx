import { memo } from 'react'
import type { Block } from './blocks'
import type { BlockContext } from './context'
import { ElicitationView } from './ElicitationView'
import { FileView } from './FileView'
import { NoticeView } from './NoticeView'
import { PermissionView } from './PermissionView'
import { PlanView } from './PlanView'
import { AgentView, ThoughtView, UserView } from './TextViews'
import { ToolView } from './ToolView'
import { TurnEndView } from './TurnEndView'

interface Props {
  block: Block
  context: BlockContext
  /** Whether it is still growing. */
  streaming: boolean
}

/** A block of the transcript. The same block object is not rendered again. */
export const BlockView = memo(function BlockView({ block, context, streaming }: Props) {
  switch (block.kind) {
    case 'user':
      return <UserView block={block} viewer={context.viewer} />
    case 'agent':
      return <AgentView block={block} agent={context.agent} streaming={streaming} />
    case 'thought':
      return <ThoughtView block={block} streaming={streaming} />
    case 'file':
      return <FileView block={block} agent={context.agent} />
    case 'tool':
      return <ToolView block={block} />
    case 'plan':
      return <PlanView block={block} />
    case 'permission':
      return <PermissionView block={block} context={context} />
    case 'elicitation':
      return <ElicitationView block={block} context={context} />
    case 'turnEnd':
      return <TurnEndView block={block} />
    case 'notice':
      return <NoticeView block={block} />
  }
})
