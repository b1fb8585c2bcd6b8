import { createContext, useContext } from 'react'

/** Actions of the frame for the parts inside it. */
export interface Frame {
  /** Opens the dialog for a new task, optionally with a chosen repository, and with a branch of it to work on. */
  readonly newTask: (repositoryId?: string, onBranch?: string) => void
  readonly addRepository: () => void
  readonly showShortcuts: () => void
  readonly showEvents: () => void
  /** Closes the drawer on a narrow screen. */
  readonly closeDrawer: () => void
  /** Whether the person may create and edit tasks. */
  readonly canWrite: boolean
  /** Whether the person may delete repositories. */
  readonly canAdminister: boolean
}

export const FrameContext = createContext<Frame | undefined>(undefined)

/** The frame around the caller. */
export function useFrame(): Frame {
  const frame = useContext(FrameContext)
  if (frame === undefined) throw new Error('useFrame is for parts inside AppFrame')
  return frame
}
