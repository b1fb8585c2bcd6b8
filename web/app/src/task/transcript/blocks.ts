import type { ElicitationAnswer, ElicitationRequest } from '@foundry/client/gen/foundry/common/v1/elicitation_pb'
import type {
  AgentFile,
  Attachment,
  Notice,
  PermissionAnswer,
  PermissionRequest,
  Plan,
  ToolCall,
  TurnEnd,
} from '@foundry/client/gen/foundry/common/v1/transcript_pb'

interface Common {
  /** Unique in the transcript and stable while it grows at either end. */
  readonly key: string
  /** Offset of the first entry that it is made of. */
  readonly offset: number
  /** The message that began the turn; empty outside of a turn. */
  readonly turn: string
  /** When its first entry was recorded, in milliseconds since the epoch; 0 when unknown. */
  readonly at: number
  /** When its last entry was recorded. */
  readonly until: number
  /** Whether earlier parts of it are not loaded. */
  readonly cutStart: boolean
}

/** A text of a person or of the agent, or a thought of the agent. */
export interface TextBlock extends Common {
  readonly kind: 'user' | 'agent' | 'thought'
  readonly text: string
  /** Who wrote it; empty for the agent. */
  readonly userId: string
  /** The files sent with a message. */
  readonly attachments: readonly Attachment[]
}

/** A picture or another file that the agent shows. */
export interface FileBlock extends Common {
  readonly kind: 'file'
  readonly file: AgentFile
}

/** A tool call in its present state. */
export interface ToolBlock extends Common {
  readonly kind: 'tool'
  readonly call: ToolCall
}

/** The present plan of a turn. */
export interface PlanBlock extends Common {
  readonly kind: 'plan'
  readonly plan: Plan
}

/** A permission request of the agent, with its answer if there is one. */
export interface PermissionBlock extends Common {
  readonly kind: 'permission'
  readonly request: PermissionRequest
  readonly answer: PermissionAnswer | undefined
}

/** A form of the agent, with its answer if there is one. */
export interface ElicitationBlock extends Common {
  readonly kind: 'elicitation'
  readonly request: ElicitationRequest
  readonly answer: ElicitationAnswer | undefined
}

/** The end of a turn. */
export interface TurnEndBlock extends Common {
  readonly kind: 'turnEnd'
  readonly end: TurnEnd
}

/** A notice about the conversation. */
export interface NoticeBlock extends Common {
  readonly kind: 'notice'
  readonly notice: Notice
}

/** An element of the transcript: one thing that was said or done, folded from its entries. */
export type Block = TextBlock | FileBlock | ToolBlock | PlanBlock | PermissionBlock | ElicitationBlock | TurnEndBlock | NoticeBlock
