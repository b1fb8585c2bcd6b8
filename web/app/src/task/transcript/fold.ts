import type { ElicitationAnswer } from '@foundry/client/gen/foundry/common/v1/elicitation_pb'
import { ToolCallState, type PermissionAnswer, type TranscriptPart } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import type { TranscriptEntry } from '@foundry/client/gen/foundry/task/v1/task_pb'
import type { Block } from './blocks'

/**
 * The transcript of a session as blocks. Entries are added at the end as they arrive, and at the start as older pages
 * are loaded; each costs the same however long the transcript is. Blocks are replaced, never changed, so the same
 * block object needs no new rendering.
 */
export class Transcript {
  private order: string[] = []
  private readonly blocks = new Map<string, Block>()
  /** The newest block of each identity, which an update replaces. */
  private readonly newest = new Map<string, string>()
  /** Blocks that start in an older page, by identity. */
  private readonly cut = new Map<string, string>()
  /** Answers to questions in an older page. */
  private readonly orphans = new Map<string, Answer>()

  /** Lowest offset that is folded in; 0 = none yet. */
  first = 0
  /** Highest offset that is folded in; 0 = none yet. */
  last = 0
  /** Increases with each change. */
  version = 0

  /** How many blocks there are. */
  get length(): number {
    return this.order.length
  }

  /** The key of the block at an index, for lists. */
  keyAt(index: number): string {
    return this.order[index] ?? `none-${index}`
  }

  /** The block at an index. */
  at(index: number): Block | undefined {
    const key = this.order[index]
    return key === undefined ? undefined : this.blocks.get(key)
  }

  /** Adds entries that follow the last one; skips those that are folded in already. */
  append(entries: Iterable<TranscriptEntry>): void {
    for (const entry of entries) {
      const offset = Number(entry.offset)
      if (offset <= this.last) continue
      if (this.first === 0) this.first = offset
      this.last = offset
      this.version++
      if (entry.part !== undefined) this.take(offset, entry.part)
    }
  }

  /** Adds a page of entries that end before the first one. */
  prepend(entries: readonly TranscriptEntry[]): void {
    const older = new Transcript()
    older.append(entries.filter((entry) => this.first === 0 || Number(entry.offset) < this.first))
    if (older.first === 0) return
    for (const [identity, key] of this.cut) this.join(older, identity, key)
    for (const [identity, answer] of this.orphans) {
      const key = older.newest.get(identity)
      const asked = key === undefined ? undefined : older.blocks.get(key)
      const block = asked === undefined ? undefined : answered(asked, answer)
      if (key === undefined || block === undefined) continue
      older.blocks.set(key, block)
      this.orphans.delete(identity)
    }
    for (const [key, block] of older.blocks) this.blocks.set(key, block)
    for (const [identity, key] of older.newest) if (!this.newest.has(identity)) this.newest.set(identity, key)
    for (const [identity, key] of older.cut) this.cut.set(identity, key)
    for (const [identity, answer] of older.orphans) this.orphans.set(identity, answer)
    const kept = new Set(older.order)
    this.order = older.order.concat(this.order.filter((key) => !kept.has(key)))
    this.first = older.first
    if (this.last === 0) this.last = older.last
    this.version++
  }

  /** Joins a block with its start in an older page: it keeps its key, and moves to its start. */
  private join(older: Transcript, identity: string, key: string): void {
    const startKey = older.newest.get(identity)
    const start = startKey === undefined ? undefined : older.blocks.get(startKey)
    const rest = this.blocks.get(key)
    if (startKey === undefined || start === undefined || rest === undefined) return
    older.blocks.delete(startKey)
    older.blocks.set(key, joined(start, rest))
    older.order = older.order.map((each) => (each === startKey ? key : each))
    older.newest.set(identity, key)
    this.cut.delete(identity)
    if (older.cut.get(identity) === startKey) older.cut.set(identity, key)
  }

  private take(offset: number, part: TranscriptPart): void {
    const { body } = part
    if (body.case === undefined) return
    if (body.case === 'permissionAnswer') return this.answer(`permission:${body.value.permissionId}`, body.value)
    if (body.case === 'elicitationAnswer') return this.answer(`elicitation:${body.value.elicitationId}`, body.value)
    const identity = identityOf(offset, part)
    const key = this.newest.get(identity)
    const before = key === undefined ? undefined : this.blocks.get(key)
    if (key !== undefined && before !== undefined && !startsOver(before, part)) {
      this.blocks.set(key, updated(before, part))
      return
    }
    const fresh = created(`${identity}#${offset}`, offset, part)
    if (fresh === undefined) return
    this.blocks.set(fresh.key, fresh)
    this.newest.set(identity, fresh.key)
    if (fresh.cutStart || fresh.kind === 'plan') this.cut.set(identity, fresh.key)
    this.order.push(fresh.key)
  }

  private answer(identity: string, answer: Answer): void {
    const key = this.newest.get(identity)
    const asked = key === undefined ? undefined : this.blocks.get(key)
    const block = asked === undefined ? undefined : answered(asked, answer)
    if (key !== undefined && block !== undefined) this.blocks.set(key, block)
    else this.orphans.set(identity, answer)
  }
}

/** The answer to a question of the agent. */
type Answer = PermissionAnswer | ElicitationAnswer

/** A question with its answer; undefined when the two kinds do not match. */
function answered(asked: Block, answer: Answer): Block | undefined {
  if (asked.kind === 'permission' && 'permissionId' in answer) return { ...asked, answer }
  if (asked.kind === 'elicitation' && 'elicitationId' in answer) return { ...asked, answer }
  return undefined
}

/** The identity that all entries about one thing share. */
function identityOf(offset: number, part: TranscriptPart): string {
  const { body } = part
  const block = part.blockId === '' ? `@${offset}` : part.blockId
  switch (body.case) {
    case 'toolCall':
      return `tool:${part.runtimeInstance}:${body.value.toolCallId}`
    case 'plan':
      return `plan:${part.messageId === '' ? `@${offset}` : part.messageId}`
    case 'permissionRequest':
      return `permission:${body.value.permissionId}`
    case 'elicitationRequest':
      return `elicitation:${body.value.elicitationId}`
    case 'turnEnd':
    case 'notice':
      return `${body.case}:@${offset}`
    default:
      return `${body.case}:${block}`
  }
}

/** Whether an agent reuses the id of a finished tool call for a new one. */
function startsOver(before: Block, part: TranscriptPart): boolean {
  if (before.kind !== 'tool' || part.partNumber !== 0) return false
  return before.call.state === ToolCallState.COMPLETED || before.call.state === ToolCallState.FAILED
}

function updated(before: Block, part: TranscriptPart): Block {
  const { body } = part
  const until = millis(part) || before.until
  if (body.case === 'toolCall' && before.kind === 'tool') return { ...before, until, call: body.value }
  if (body.case === 'plan' && before.kind === 'plan') return { ...before, until, plan: body.value }
  if ((before.kind === 'user' || before.kind === 'agent' || before.kind === 'thought') && hasText(body)) {
    return { ...before, until, text: before.text + body.value.text }
  }
  return before
}

function joined(start: Block, rest: Block): Block {
  const place = { offset: start.offset, turn: start.turn, at: start.at, cutStart: start.cutStart }
  if ('text' in start && 'text' in rest) {
    return { ...rest, ...place, text: start.text + rest.text, attachments: [...start.attachments, ...rest.attachments] }
  }
  return { ...rest, ...place }
}

function created(key: string, offset: number, part: TranscriptPart): Block | undefined {
  const { body } = part
  const at = millis(part)
  const cutStart = part.partNumber > 0
  const common = { key, offset, turn: part.messageId, at, until: at, cutStart }
  switch (body.case) {
    case 'userMessage':
      return { ...common, kind: 'user', text: body.value.text, userId: body.value.userId, attachments: body.value.attachments }
    case 'agentMessage':
      return { ...common, kind: 'agent', text: body.value.text, userId: '', attachments: [] }
    case 'agentFile':
      return { ...common, kind: 'file', file: body.value, cutStart: false }
    case 'agentThought':
      return { ...common, kind: 'thought', text: body.value.text, userId: '', attachments: [] }
    case 'toolCall':
      return { ...common, kind: 'tool', call: body.value }
    case 'plan':
      return { ...common, kind: 'plan', plan: body.value, cutStart: false }
    case 'permissionRequest':
      return { ...common, kind: 'permission', request: body.value, answer: undefined }
    case 'elicitationRequest':
      return { ...common, kind: 'elicitation', request: body.value, answer: undefined }
    case 'turnEnd':
      return { ...common, kind: 'turnEnd', end: body.value }
    case 'notice':
      return { ...common, kind: 'notice', notice: body.value }
    default:
      return undefined
  }
}

function hasText(body: TranscriptPart['body']): body is Extract<TranscriptPart['body'], { value: { text: string } }> {
  return body.case === 'userMessage' || body.case === 'agentMessage' || body.case === 'agentThought'
}

function millis(part: TranscriptPart): number {
  const time = part.createTime
  return time === undefined ? 0 : Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6)
}
