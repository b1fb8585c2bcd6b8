import type { Viewer } from '../model/useViewer'

/** What blocks need besides their own data; the same object until something in it changes. */
export interface BlockContext {
  readonly viewer: Viewer
  /** Name of the agent, for labels. */
  readonly agent: string
  /** The pending permission request; empty when there is none. */
  readonly pendingPermission: string
  /** The pending form; empty when there is none. */
  readonly pendingElicitation: string
}
