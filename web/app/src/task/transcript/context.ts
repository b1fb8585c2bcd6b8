import type { Viewer } from '../model/useViewer'

/** What blocks need to know besides themselves; the same object as long as nothing of it changes. */
export interface BlockContext {
  readonly viewer: Viewer
  /** Name of the agent, for labels. */
  readonly agent: string
  /** The question that waits for an answer; empty when none does. */
  readonly pendingPermission: string
  /** The form that waits to be filled in; empty when none does. */
  readonly pendingElicitation: string
}
